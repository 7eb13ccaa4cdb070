import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { apiVersion } from "../resources/common.ts";
import { labelSelectorText } from "./label-selector.ts";
import { neededSecrets } from "./needed-secrets.ts";
import { ObjectStore } from "./object-store.ts";

const problems = (store: ObjectStore) =>
  [...store.problems()].map(({ severity, object, field, message }) => [severity, object, field, message]);
const node = (...addresses: unknown[]) => ({ metadata: { name: "n1" }, spec: { podCIDRs: ["10.244.1.0/24"] }, status: { addresses } });
const internal = (address: unknown) => ({ type: "InternalIP", address });

test("a node keeps its good addresses beside odd ones, which are told", () => {
  const store = new ObjectStore("v1", "Node");
  expect(store.set(node(internal("not-an-ip"), null, internal("192.0.2.1"), { type: "Hostname", address: "n1" }))).toBe(true);
  expect([...store.objects()]).toMatchObject([{ metadata: { name: "n1" }, status: { addresses: [internal("192.0.2.1")] } }]);
  expect(problems(store)).toEqual([
    ["warning", "Node/n1", "status.addresses", '"not-an-ip" is not an IP address'],
    ["warning", "Node/n1", "status.addresses", "undefined is not an IP address"],
  ]);
  store.set(node(...Array.from({ length: 100 }, (_, i) => internal(`192.0.2.${i}`))));
  expect(problems(store)).toEqual([["warning", "Node/n1", "status.addresses", "has 100 addresses, at most 64 are read"]]);
});

test("what is not read makes no change", () => {
  const store = new ObjectStore("v1", "Node");
  expect(store.set({ ...node(internal("192.0.2.1")), metadata: { name: "n1", resourceVersion: "1" } })).toBe(true);
  expect(store.set({ ...node(internal("192.0.2.1")), metadata: { name: "n1", resourceVersion: "2", managedFields: [1] } })).toBe(false);
  expect(store.set({ ...node(internal("192.0.2.1")), metadata: { name: "n1", labels: { rack: "a" } } })).toBe(true);
  expect(store.delete("n1")).toBe(true);
  expect(store.delete("n1")).toBe(false);
});

test("a Secret has its text beside keys that are none", () => {
  const store = new ObjectStore("v1", "Secret");
  const data = { password: Buffer.from("s3cret").toString("base64"), "ca.der": Buffer.from([0x30, 0x82, 0xff]).toString("base64"), odd: 1 };
  store.set({ metadata: { name: "tor" }, data });
  expect([...store.objects()]).toMatchObject([{ data: { password: "s3cret" } }]);
  expect(problems(store)).toEqual([]);
});

test("an object that cannot be used keeps its last good version", () => {
  const store = new ObjectStore(apiVersion, "Peer");
  const peer = (asn: number) => ({ metadata: { name: "tor" }, spec: { nodeSelector: {}, address: "192.0.2.1", asn } });
  store.set(peer(65001));
  store.set(peer(-1));
  expect([...store.objects()]).toMatchObject([{ spec: { asn: 65001 } }]);
  expect(problems(store)).toEqual([["error", "Peer/tor", "spec.asn", expect.stringMatching(/; its last good version stays in force$/)]]);
});

test("the Secrets of a node are those of its own sessions, inherited ones included", () => {
  const peer = (name: string, spec: object) => [name, { metadata: { name }, spec }];
  const peers = new Map([
    peer("base", { template: true, passwordSecretRef: { name: "of-base" }, from: "base" }),
    peer("a", { nodeSelector: {}, from: "base" }),
    peer("b", { nodeSelector: { matchLabels: { rack: "b" } }, passwordSecretRef: { name: "of-b" } }),
  ] as never);
  const fabrics = new Map([peer("all", { nodeSelector: {}, mesh: { passwordSecretRef: { name: "mesh" } } })] as never);
  expect(neededSecrets({ fabrics, peers } as never, { rack: "a" })).toEqual(["mesh", "of-base"]);
  expect(neededSecrets({ fabrics, peers } as never, { rack: "b" })).toEqual(["mesh", "of-b", "of-base"]);
});

test("selectors are written as the API server reads them", () => {
  const matchExpressions = [
    { key: "role", operator: "In" as const, values: ["leaf", "spine"] },
    { key: "zone", operator: "NotIn" as const, values: ["x"] },
    { key: "gpu", operator: "Exists" as const },
    { key: "drained", operator: "DoesNotExist" as const },
  ];
  expect(labelSelectorText({ matchLabels: { rack: "a" }, matchExpressions })).toBe(
    "rack=a,role in (leaf,spine),zone notin (x),gpu,!drained",
  );
  expect(labelSelectorText({})).toBe("");
});
