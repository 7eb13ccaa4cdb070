import { expect, test } from "vitest";
import { compile } from "../compile.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";
import { peerSpec } from "../resources/peer.ts";

const api = "podlane.io/v1alpha1";

function read(peers: Record<string, object>) {
  const status = { addresses: [{ type: "InternalIP", address: "10.0.0.1" }] };
  const objects = [
    { apiVersion: "v1", kind: "Node", metadata: { name: "n1" }, spec: { podCIDRs: [] }, status },
    { apiVersion: "v1", kind: "Secret", metadata: { name: "keys" }, stringData: { tor: "s3cret" } },
    ...Object.entries(peers).map(([name, spec]) => ({ apiVersion: api, kind: "Peer", metadata: { name }, spec })),
  ];
  return readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test.yaml");
}

function plan(peers: Record<string, object>) {
  const { objects, problems } = read(peers);
  expect(problems).toEqual([]);
  return compile(collect(objects.map(({ object }) => object)).resources, { name: "n1", addresses: [] });
}

const tor = { nodeSelector: {}, address: "10.0.0.11" };

/** A value for each field that is inherited. */
const values: Record<string, unknown> = {
  port: 1179,
  localAddress: "10.0.0.1",
  bindInterface: "eth7",
  asn: 65010,
  asnFrom: { label: "as" },
  type: "External",
  localASN: 65020,
  passwordSecretRef: { name: "keys", key: "tor" },
  passive: true,
  shutdown: true,
  shutdownMessage: "later",
  multihop: 3,
  ttlSecurity: 2,
  allowASSets: true,
  enforceFirstAS: false,
  timers: { holdTime: 33 },
  attributeOctetsLimit: 77,
  families: [{ name: "ipv6-unicast" }],
  import: { default: "Accept" },
  export: { default: "Accept" },
  prefixLimit: 12,
  receivedLimit: 13,
  prefixLimitRestart: 14,
  prefixWarning: 15,
  nextHopSelf: true,
  allowASIn: 2,
  removePrivateASN: true,
  routeReflectorClient: true,
};
/** What another field asks for. */
const besides: Record<string, object> = { shutdownMessage: { shutdown: true }, routeReflectorClient: { type: "Internal" } };

test("there is a value here for each field that can be unset", () => {
  const { items } = peerSpec.properties.unset as unknown as { items: { enum: string[] } };
  expect(Object.keys(values).sort()).toEqual([...items.enum].sort());
});

test.each(Object.entries(values))("%s of a template is as if it had never been set", (field, value) => {
  const saysWho = ["asn", "asnFrom", "type"].includes(field);
  const rest = saysWho ? {} : { type: "External" };
  const base = { template: true, ...rest, ...besides[field], [field]: value };
  const own = saysWho ? { [field === "asn" ? "type" : "asn"]: field === "asn" ? "External" : 65099 } : {};
  const { [field]: _, ...without } = base as Record<string, unknown>;
  const expected = plan({ base: without, tor: { ...tor, ...own, from: "base" } });
  const unset = plan({ base, tor: { ...tor, ...own, from: "base", unset: [field] } });
  expect(unset).toEqual(expected);
  if (Object.keys(own).length === 0) expect(plan({ base, tor: { ...tor, from: "base" } }).speaker).not.toEqual(expected.speaker);
});

test("what one of a chain has unset is not taken from behind it, and can be set again", () => {
  const chain = {
    first: { template: true, type: "External", multihop: 3, passive: true },
    second: { template: true, from: "first", unset: ["multihop"] },
  };
  expect(plan({ ...chain, tor: { ...tor, from: "second" } }).speaker?.neighbors).toMatchObject([{ passive: true }]);
  expect(plan({ ...chain, tor: { ...tor, from: "second" } }).speaker?.neighbors[0].multihop).toBeUndefined();
  expect(plan({ ...chain, tor: { ...tor, from: "second", ttlSecurity: 1 } }).speaker?.neighbors).toMatchObject([{ ttlSecurity: 1 }]);
  expect(plan({ ...chain, tor: { ...tor, from: "second", multihop: 5 } }).speaker?.neighbors).toMatchObject([{ multihop: 5 }]);
});

test("unset says what is wrong with it", () => {
  const base = { template: true, type: "External", multihop: 3 };
  expect(read({ tor: { ...tor, type: "External", unset: ["multihop"] } }).problems).toMatchObject([
    { field: "spec.unset", message: expect.stringContaining("is for fields that are taken from `from`") },
  ]);
  expect(read({ base, tor: { ...tor, from: "base", unset: ["multihopp"] } }).problems).toMatchObject([{ field: "spec.unset[0]" }]);
  expect(read({ base, tor: { ...tor, from: "base", unset: ["address"] } }).problems).toMatchObject([{ field: "spec.unset[0]" }]);
  const { problems, speaker } = plan({ base, tor: { ...tor, from: "base", multihop: 2, unset: ["multihop"] } });
  expect(speaker?.neighbors).toEqual([]);
  expect(problems).toContainEqual(
    expect.objectContaining({ field: "spec.unset", message: "spec.multihop is set and in spec.unset: there is no session" }),
  );
});
