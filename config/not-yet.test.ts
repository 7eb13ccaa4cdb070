/** What the schema has room for and podlane does not do yet: docs/objects.md says so, and its use is a problem in the same words. */
import { expect, test } from "vitest";
import { compile } from "./compile.ts";
import { readDocuments } from "./resources/documents.ts";
import { collect, kindRows } from "./resources/kinds.ts";
import { NOT_YET_TEXT, type SchemaNode } from "./resources/schema.ts";

const node = (number: number) => `
apiVersion: v1
kind: Node
metadata: { name: node${number} }
spec: { podCIDRs: [10.244.${number}.0/24] }
status: { addresses: [{ type: InternalIP, address: 10.0.0.${number} }] }
`;
const object = (kind: string, spec: string) =>
  `apiVersion: podlane.io/v1alpha1\nkind: ${kind}\nmetadata: { name: x }\nspec: { nodeSelector: {}, ${spec} }\n`;

const uses: Record<string, string> = {
  "Peer.interface": object("Peer", "asn: 65001, interface: eth0"),
};

test.each(Object.entries(uses))("the use of %s is a problem with a remedy", (path, text) => {
  const { objects, problems } = readDocuments([node(1), node(2), text].join("---\n"), "file.yaml");
  expect(problems).toEqual([]);
  const { resources } = collect(objects.map(({ object }) => object));
  const plan = compile(resources, { name: "node1", addresses: [] });
  const [kind] = path.split(".");
  expect(plan.problems).toContainEqual(
    expect.objectContaining({ severity: "error", object: `${kind}/x`, message: expect.stringContaining(NOT_YET_TEXT.toLowerCase()) }),
  );
});

test("every field that the schema marks is in this table, and no other", () => {
  const marked = kindRows.flatMap(({ kind, spec }) => (spec ? paths(spec, kind) : []));
  expect(marked.sort()).toEqual(Object.keys(uses).sort());
});

function paths(schema: SchemaNode, at: string): string[] {
  const own = schema.description?.includes(NOT_YET_TEXT) ? [at] : [];
  return [...own, ...Object.entries(schema.properties ?? {}).flatMap(([key, child]) => paths(child, `${at}.${key}`))];
}
