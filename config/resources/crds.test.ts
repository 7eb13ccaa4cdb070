import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { rejected } from "../testdata/rejected.ts";
import { checkObject } from "./check-object.ts";
import { apiVersion } from "./common.ts";
import { generatedFiles, staleFiles } from "./crds.ts";
import { kindRows } from "./kinds.ts";
import type { SchemaNode } from "./schema.ts";

test.each([...generatedFiles().keys()])("%s is what the schema says: else run `npm run crds`", async path => {
  expect(await readFile(join(import.meta.dirname, "../..", path), "utf8")).toBe(generatedFiles().get(path));
});

test("no manifest is left over from a kind that is gone", async () => {
  expect(await staleFiles()).toEqual([]);
});

/** Every node of every schema with its path. */
function* walk(schema: SchemaNode, path: string): Generator<[string, SchemaNode]> {
  yield [path, schema];
  for (const [key, child] of Object.entries(schema.properties ?? {})) yield* walk(child, `${path}.${key}`);
  for (const child of Object.values(schema.patternProperties ?? {})) yield* walk(child, `${path}.*`);
  if (schema.items) yield* walk(schema.items, `${path}[]`);
}

test("everything is bounded and described", () => {
  for (const { kind, spec, status } of kindRows) {
    for (const [path, node] of [...(spec ? walk(spec, `${kind}.spec`) : []), ...(status ? walk(status, `${kind}.status`) : [])]) {
      if (!path.endsWith(".*")) expect(node.description, path).toBeTruthy();
      if (node.type === "string") expect(node.enum ?? node.maxLength, path).toBeDefined();
      if (node.type === "integer") expect([typeof node.minimum, typeof node.maximum], path).toEqual(["number", "number"]);
      if (node.type === "array") expect([typeof node.maxItems, typeof node["x-kubernetes-list-type"]], path).toEqual(["number", "string"]);
      if (node.patternProperties) expect(node.maxProperties, path).toBeDefined();
    }
  }
});

test("each CEL rule has an object that it refuses, among those that the API server has to refuse too", () => {
  const refusals = rejected.flatMap(({ kind, spec }) => checkObject({ apiVersion, kind, metadata: { name: "bad" }, spec }).faults);
  const nodes = kindRows.flatMap(({ kind, spec }) => (spec ? [...walk(spec, `${kind}.spec`)] : []));
  const rules = nodes.flatMap(([path, node]) =>
    (node["x-kubernetes-validations"] ?? []).map(({ rule, message }) => ({ path, rule, message })),
  );
  // One that stands in several places is one rule.
  const distinct = [...new Map(rules.map(one => [one.rule, one])).values()];
  expect(distinct.length).toBeGreaterThan(30);
  expect(distinct.filter(({ message }) => !refusals.some(fault => fault.message.endsWith(message)))).toEqual([]);
});
