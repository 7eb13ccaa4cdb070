/** Policies of files, through the source that reads them. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PolicySink } from "../../netfilter/policy/types.ts";
import type { Problem } from "../plan.ts";
import { DirectorySource } from "./directory.ts";

let folder: string;
let source: DirectorySource;
let problems: Problem[];
let said: string[];

const sink: PolicySink = {
  setPod: ({ key, labels }) => void said.push(`pod ${key} ${JSON.stringify(labels)}`),
  deletePod: key => void said.push(`no pod ${key}`),
  setNamespace: ({ name, labels }) => void said.push(`namespace ${name} ${JSON.stringify(labels)}`),
  deleteNamespace: name => void said.push(`no namespace ${name}`),
  setNode: ({ name, addresses }) => void said.push(`node ${name} ${addresses}`),
  deleteNode: name => void said.push(`no node ${name}`),
  setPolicy: ({ key, ingress }) => void said.push(`policy ${key} ${JSON.stringify(ingress)}`),
  deletePolicy: key => void said.push(`no policy ${key}`),
  setClusterPolicy: ({ key }) => void said.push(`cluster policy ${key}`),
  deleteClusterPolicy: key => void said.push(`no cluster policy ${key}`),
  settle: () => void said.push("settled"),
};

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "podlane-policies-"));
  source = new DirectorySource(folder, { debounce: 0, interval: 0 });
  said = [];
});
afterEach(async () => {
  await source.close();
  await rm(folder, { recursive: true, force: true });
});

const write = (...objects: object[]) => writeFile(join(folder, "a.yaml"), objects.map(one => JSON.stringify(one)).join("\n---\n"));
const start = () =>
  source.start((_, found) => {
    problems = found;
  });
const pod = (labels: object) => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "a", namespace: "shop", labels } });
const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } };
const policy = (cidr: string) => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "p", namespace: "shop" },
  spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr } }] }] },
});
const taken = () => said.splice(0);

test("all is told to whoever follows, then what changes", async () => {
  const node = {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "n1" },
    status: { addresses: [{ type: "InternalIP", address: "FD00::1" }] },
  };
  await write(pod({ app: "web" }), namespace, policy("10.0.0.0/8"), node);
  expect(source.policies.missing()).toMatch(/not been read/);
  await start();
  source.policies.follow(sink);
  const block = '[{"peers":[{"block":{"cidr":"10.0.0.0/8","except":[]}}]}]';
  expect(taken().sort()).toEqual(["namespace shop {}", "node n1 fd00::1", 'pod shop/a {"app":"web"}', `policy shop/p ${block}`, "settled"]);
  expect([source.policies.missing(), problems, source.objects]).toEqual([undefined, [], 4]);
  await source.reload();
  expect(taken()).toEqual([]);
  await write(pod({ app: "api" }), policy("10.0.0.0/8"));
  await source.reload();
  expect(taken()).toEqual(['pod shop/a {"app":"api"}', "no namespace shop", "no node n1", "settled"]);
});

test("of a policy with a fault the last good version stays; of one that never was good what can be read is in force", async () => {
  await write(policy("10.0.0.0"));
  await start();
  source.policies.follow(sink);
  expect(taken()).toEqual(["policy shop/p []", "settled"]);
  expect(problems).toEqual([expect.objectContaining({ severity: "error", object: "NetworkPolicy/shop/p" })]);
  await write(policy("10.0.0.0/8"));
  await source.reload();
  expect(taken()).toEqual([expect.stringContaining("10.0.0.0/8"), "settled"]);
  await write(policy("10.0.0.1/99"));
  await source.reload();
  expect(taken()).toEqual([]);
  expect(problems).toHaveLength(1);
  await write(namespace);
  await source.reload();
  expect(taken()).toEqual(["namespace shop {}", "no policy shop/p", "settled"]);
});

test("after a restart what cannot be read may be a policy: where there were some, nothing is settled without it", async () => {
  await write(policy("10.0.0.0/8"));
  await writeFile(join(folder, "b.yaml"), "kind: [");
  await start();
  source.policies.follow(sink, true);
  expect([taken().includes("settled"), source.policies.missing()]).toEqual([false, expect.stringContaining("b.yaml")]);
  // Where there was none it is waited for nobody.
  source.policies.follow(sink);
  expect(taken()).toContain("settled");
  source.policies.follow(sink, true);
  taken();
  await rm(join(folder, "b.yaml"));
  await source.reload();
  expect([taken(), source.policies.missing()]).toEqual([["settled"], undefined]);
  // Once all was read, what breaks keeps what it said.
  await writeFile(join(folder, "b.yaml"), "kind: [");
  await source.reload();
  expect([taken(), source.policies.missing()]).toEqual([[], undefined]);
});
