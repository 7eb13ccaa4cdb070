/** TTL security of the mesh. */
import { expect, test } from "vitest";
import { compile } from "../compile.ts";
import type { NodePlan } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";

function plan(mesh: object, annotations = {}): NodePlan {
  const nodes = ["10.0.0.1", "10.0.0.2", "10.0.1.3"].map((address, at) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${at + 1}`, annotations: at === 0 ? {} : annotations },
    status: { addresses: [{ type: "InternalIP", address }] },
  }));
  const fabric = {
    apiVersion: "podlane.io/v1alpha1",
    kind: "Fabric",
    metadata: { name: "f" },
    spec: { nodeSelector: {}, asn: 65000, mesh },
  };
  const { objects, problems } = readDocuments([...nodes, fabric].map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  const addresses = [{ interface: "eth0", address: "10.0.0.1", prefixLength: 24 }];
  return compile(collect(objects.map(({ object }) => object)).resources, { name: "node1", addresses });
}
const hops = (result: NodePlan) => result.speaker?.neighbors.map(({ ttlSecurity, multihop }) => [ttlSecurity, multihop]);
const other = { "podlane.io/asn": "65009" };

test.each<[object, object, unknown]>([
  [
    {},
    {},
    [
      [undefined, undefined],
      [undefined, undefined],
    ],
  ],
  [
    { ttlSecurity: 1 },
    {},
    [
      [1, undefined],
      [undefined, undefined],
    ],
  ],
  [
    { ttlSecurity: 2 },
    {},
    [
      [2, undefined],
      [2, undefined],
    ],
  ],
  [
    {},
    other,
    [
      [undefined, 255],
      [undefined, 255],
    ],
  ],
  [
    { ttlSecurity: 1 },
    other,
    [
      [1, undefined],
      [undefined, 255],
    ],
  ],
  [
    { type: "RouteReflectors", routeReflectors: { nodeSelector: {} }, ttlSecurity: 1 },
    {},
    [
      [1, undefined],
      [undefined, undefined],
    ],
  ],
])("%j, nodes with %j: one on the same link, one behind a router", (mesh, annotations, expected) => {
  expect(hops(plan(mesh, annotations))).toEqual(expected);
});
