import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { formatProblem } from "../plan.ts";
import { rejected } from "../testdata/rejected.ts";
import { checkObject } from "./check-object.ts";
import { apiVersion } from "./common.ts";
import { readDocuments } from "./documents.ts";
import { formatPath } from "./validate.ts";
import { Limits } from "./yaml.ts";

const read = (text: string) => readDocuments(text, "a.yaml");
const lines = (text: string) => read(text).problems.map(formatProblem);

const peer = (fields: string) => `apiVersion: podlane.io/v1alpha1
kind: Peer
metadata: {name: tor-a}
spec:
  nodeSelector: {}
  address: 192.0.2.1
${fields}`;

describe("what is refused", () => {
  test.each(rejected)("$kind: $what", ({ kind, spec, field, message }) => {
    const { object, faults } = checkObject({ apiVersion, kind, metadata: { name: "bad" }, spec });
    expect(object).toBeUndefined();
    const found = faults.map(fault => ({ field: formatPath(fault.path), message: fault.message }));
    expect(found).toContainEqual({ field, message: expect.stringMatching(message) });
    for (const { remedy } of faults) expect(remedy).not.toBe("");
  });
});

describe("what a problem says", () => {
  test.each<[string, string, string]>([
    [
      "an unknown field",
      peer("  asn: 65001\n  timers: {holdTme: 9}"),
      'a.yaml, document 1, line 8:12: error: Peer/tor-a spec.timers.holdTme: unknown field "holdTme". did you mean "holdTime"?',
    ],
    [
      "a value out of range",
      peer("  asn: 0"),
      "a.yaml, document 1, line 7:8: error: Peer/tor-a spec.asn: 0 is out of range. give a number from 1 to 4294967295",
    ],
    [
      "a number in quotes",
      peer('  asn: "65001"'),
      'a.yaml, document 1, line 7:8: error: Peer/tor-a spec.asn: must be a whole number, not the text "65001". take the quotes off: 65001',
    ],
    [
      "a list that is none",
      peer("  asn: 1\n  import: {policies: a}"),
      'a.yaml, document 1, line 8:22: error: Peer/tor-a spec.import.policies: must be a list, not the text "a". put "- " in front of each entry',
    ],
    [
      "a word that is nearly right",
      peer("  type: external"),
      'a.yaml, document 1, line 7:9: error: Peer/tor-a spec.type: "external" is not one of External, Internal. did you mean External?',
    ],
    [
      "the second document",
      `${peer("  asn: 1")}\n---\nkind: Pear\napiVersion: podlane.io/v1alpha1\n`,
      'a.yaml, document 2, line 9:7: error: a.yaml kind: kind "Pear" with apiVersion "podlane.io/v1alpha1" is not known. did you mean "Peer"?',
    ],
    [
      "another version",
      "apiVersion: podlane.io/v1\nkind: Peer\n",
      'a.yaml, document 1, line 1:13: error: a.yaml apiVersion: kind "Peer" with apiVersion "podlane.io/v1" is not known. write apiVersion: podlane.io/v1alpha1',
    ],
    [
      "a foreign kind",
      "apiVersion: apps/v1\nkind: Deployment\n",
      'a.yaml, document 1, line 2:7: error: a.yaml kind: kind "Deployment" with apiVersion "apps/v1" is not known. known are podlane.io Fabric, PodNetwork, Peer, Policy, Advertisement, AddressPool, and of Kubernetes Node, Secret, Service, EndpointSlice, Namespace, Pod, NetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy',
    ],
    [
      "a name that is none",
      "apiVersion: v1\nkind: Node\nmetadata: {name: Node_1}\n",
      "a.yaml, document 1, line 3:18: error: a.yaml metadata.name: metadata.name is not a DNS name. use lower-case letters, digits, - and .",
    ],
    [
      "no object",
      "- 1\n",
      "a.yaml, document 1, line 1:1: error: a.yaml: is not an object. a document has apiVersion, kind, metadata and spec",
    ],
    [
      "a pod subnet with host bits",
      "apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {podCIDRs: [10.0.0.1/24]}\n",
      'a.yaml, document 1, line 4:19: error: Node/n spec.podCIDRs[0]: "10.0.0.1/24" is not a prefix with no bits set beyond its length. write it like 10.244.1.0/24 or 2001:db8:1::/64',
    ],
    [
      "a field that is missing",
      "apiVersion: podlane.io/v1alpha1\nkind: Fabric\nmetadata: {name: f}\nspec:\n  asn: 64512\n",
      'a.yaml, document 1, line 5:3: error: Fabric/f spec.nodeSelector: field "nodeSelector" is missing. add nodeSelector (The nodes this fabric is made of. `{}` selects all)',
    ],
  ])("%s", (_, text, expected) => {
    expect(lines(text)).toEqual([expected]);
  });

  test("text that is no YAML is broken, and says where", () => {
    const result = read("apiVersion: v1\nkind: [Node\n");
    expect(result.broken).toBe(true);
    expect(formatProblem(result.problems[0])).toMatch(
      /^a\.yaml, document 1, line \d+:\d+: error: a\.yaml: not valid YAML: .*what the file said before stays in force$/,
    );
  });

  test("a Secret's value is never shown", () => {
    const result = read("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: 'hunter2!'}\nstringData: {b: 4711}\n");
    expect(result.problems.map(({ field }) => field)).toEqual(["data.a", "stringData.b"]);
    expect(JSON.stringify(result)).not.toMatch(/hunter2|4711/);
  });
});

describe("what is bounded", () => {
  test("YAML aliases that multiply", () => {
    const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array(9).fill(`*l${i}`).join(", ")}]`);
    const result = read(`l0: &l0 [x, x, x]\n${levels.join("\n")}\n`);
    expect(result.problems[0].message).toMatch(/alias/i);
    expect(result.objects).toEqual([]);
  });

  test("depth", () => {
    expect(read(`a: ${"[".repeat(60)}${"]".repeat(60)}\n`).problems[0].message).toMatch(/nested deeper than 40/);
  });

  const labels = (count: number, value: string) => Array.from({ length: count }, (_, n) => `    k${n}: ${value}\n`).join("");
  const nodeWith = (text: string) => `apiVersion: v1\nkind: Node\nmetadata:\n  name: a\n  labels:\n${text}`;

  // Each of these took the square of its size: minutes, where the test has seconds.
  test("keys of a mapping: many are no trouble, too many are refused with their place", () => {
    const many = read(nodeWith(labels(Limits.keys, "v")));
    expect([many.problems, many.objects.length]).toEqual([[], 1]);
    expect(read(nodeWith(labels(100_000, "v"))).problems).toEqual([
      expect.objectContaining({
        message: `a mapping has 100000 keys, at most ${Limits.keys} are read`,
        place: "a.yaml, document 1, line 6:5",
      }),
    ]);
  });

  test("faults of one object: the first fifty are told", () => {
    expect(read(nodeWith(labels(Limits.keys, "1"))).problems).toHaveLength(50);
  });

  test("a key that is there twice among many", () => {
    const [problem] = read(nodeWith(`${labels(5000, "v")}    k17: again\n`)).problems;
    expect(problem).toMatchObject({ message: 'not valid YAML: the key "k17" is there twice', place: "a.yaml, document 1, line 5006:5" });
    expect(read('{"a": 1, "a": 2}').problems[0].message).toContain('the key "a" is there twice');
  });

  test("anchors, aliases and brackets without end", () => {
    expect(read(Array.from({ length: 100_000 }, (_, n) => `- &a${n} v\n`).join("")).problems[0].message).toMatch(/more than 1000 anchors/);
    expect(read(`- &a v\n${"- *a\n".repeat(100_000)}`).problems[0].message).toMatch(/more than 100 aliases/);
    for (const text of ["[".repeat(200_000), "- ".repeat(100_000), "{a: ".repeat(50_000), "? ".repeat(50_000)]) {
      expect(read(text)).toMatchObject({ broken: true, objects: [] });
    }
  });

  test("size and number of documents", () => {
    expect(read(`# ${"x".repeat(Limits.fileSize)}`)).toMatchObject({
      broken: true,
      problems: [{ message: expect.stringMatching(/larger than/) }],
    });
    expect(read("---\na: 1\n".repeat(Limits.documents + 1))).toMatchObject({
      broken: true,
      problems: [{ message: expect.stringMatching(/more than/) }],
    });
  });
});

describe("what is taken", () => {
  test("comments and empty documents are nothing", () => {
    expect(read("# only a comment\n---\n---\n")).toEqual({ objects: [], services: [], policies: [], problems: [], broken: false });
  });

  test("JSON, and the v1 List of kubectl", () => {
    const node = (name: string) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, uid: "1" },
      spec: { podCIDR: "10.0.1.0/24", podCIDRs: ["10.0.1.0/24"], taints: [] },
    });
    const result = read(JSON.stringify({ apiVersion: "v1", kind: "List", items: [node("a"), node("b")] }, undefined, 1));
    expect(result.problems).toEqual([]);
    expect(result.objects.map(({ object }) => object)).toEqual(
      ["a", "b"].map(name => ({
        apiVersion: "v1",
        kind: "Node",
        metadata: { name },
        spec: { podCIDRs: ["10.0.1.0/24"] },
        status: { addresses: [] },
      })),
    );
    expect(result.objects[1].place).toMatch(/document 1, line \d+/);
  });

  test("Secrets: base64 and plain text", () => {
    const { objects, problems } = read(
      "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: aGVsbG8=}\nstringData: {b: world}\ntype: Opaque\n",
    );
    expect(problems).toEqual([]);
    expect(objects[0].object).toMatchObject({ data: { a: "hello", b: "world" } });
  });

  test("every sample", async () => {
    const folder = join(import.meta.dirname, "../../crds/samples");
    for (const file of await readdir(folder)) {
      const { objects, problems } = readDocuments(await readFile(join(folder, file), "utf8"), file);
      expect(problems).toEqual([]);
      expect(objects.length).toBeGreaterThan(0);
    }
  });
});
