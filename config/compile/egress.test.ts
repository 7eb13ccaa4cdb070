/** The overlay of a node: who is in it, and what is said of those that are not. */
import { describe, expect, test } from "vitest";
import { compile } from "../compile.ts";
import type { NodePlan } from "../plan.ts";
import { readDocuments } from "../resources/documents.ts";
import { collect } from "../resources/kinds.ts";

const node = (number: number, { rack = "a", addresses = [`10.0.1.${number}`] } = {}) => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: `n${number}`, labels: { rack } },
  spec: { podCIDRs: [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`] },
  status: { addresses: addresses.map(address => ({ type: "InternalIP", address })) },
});
const podNetwork = (name: string, spec: object) => ({
  apiVersion: "podlane.io/v1alpha1",
  kind: "PodNetwork",
  metadata: { name },
  spec: { nodeSelector: {}, ...spec },
});
const inRack = (rack: string) => ({ nodeSelector: { matchLabels: { rack } } });

function planOf(objects: object[], self = "n1"): NodePlan {
  const { objects: read, problems } = readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "test");
  expect(problems).toEqual([]);
  const { resources } = collect(read.map(({ object }) => object));
  return compile(resources, { name: self, addresses: [{ interface: "eth0", address: "10.0.1.1", prefixLength: 24 }] });
}
const overlayProblems = ({ problems }: NodePlan) => problems.filter(({ reason }) => ["OverlayOneSided", "NoInternalIP"].includes(reason));

const far = node(3, { rack: "b", addresses: ["10.0.2.3"] });

describe("the overlay of a node", () => {
  test("is none where no PodNetwork says so", () => {
    for (const objects of [
      [node(1), far],
      [node(1), far, podNetwork("x", {})],
    ]) {
      const plan = planOf(objects);
      expect([plan.overlay, plan.pods.encapsulation, overlayProblems(plan)]).toEqual([undefined, undefined, []]);
    }
  });

  test("has the ends of all nodes that have it, and the first addresses of its own ranges", () => {
    const plan = planOf([node(1), node(2, { addresses: ["10.0.1.2", "FD00::0:2"] }), far, podNetwork("x", { overlay: "CrossSubnet" })]);
    expect(plan.overlay).toEqual({
      mode: "CrossSubnet",
      vni: 20179,
      port: 4789,
      checksumOffload: "Auto",
      local: ["10.0.1.1"],
      sources: ["10.244.1.1", "fd00:10:244:1::1"],
      nodes: [
        { name: "n2", addresses: ["10.0.1.2", "fd00::2"], aliases: ["fd00:10:244:2::1"] },
        { name: "n3", addresses: ["10.0.2.3"], aliases: ["fd00:10:244:3::1"] },
      ],
    });
    expect(plan.pods.encapsulation).toBe(50);
    expect(overlayProblems(plan)).toEqual([]);
  });

  test("takes twenty octets more where the node has an IPv6 end", () => {
    const plan = planOf([node(1, { addresses: ["10.0.1.1", "fd00::1"] }), podNetwork("x", { overlay: "Always" })]);
    expect([plan.overlay?.local, plan.pods.encapsulation]).toEqual([["10.0.1.1", "fd00::1"], 70]);
  });

  test.each([
    ["no PodNetwork", []],
    ["overlay Never", [podNetwork("b", inRack("b"))]],
    ["another identifier", [podNetwork("b", { ...inRack("b"), overlay: "Always", vxlan: { vni: 7 } })]],
    ["another port", [podNetwork("b", { ...inRack("b"), overlay: "Always", vxlan: { port: 8472 } })]],
  ])("leaves nodes out that have %s, and says so of those behind routers alone", (_what, more) => {
    const near = node(2, { rack: "b", addresses: ["10.0.1.2"] });
    const plan = planOf([node(1), near, far, podNetwork("a", { ...inRack("a"), overlay: "Always" }), ...more]);
    expect(plan.overlay?.nodes).toEqual([]);
    expect(overlayProblems(plan)).toMatchObject([
      {
        severity: "warning",
        reason: "OverlayOneSided",
        object: "PodNetwork/a",
        field: "spec.overlay",
        message: expect.stringMatching(/^n3: not on a segment with node n1/),
      },
    ]);
  });

  test("with another mode on the other side is one all the same", () => {
    const modes = [podNetwork("a", { ...inRack("a"), overlay: "Always" }), podNetwork("b", { ...inRack("b"), overlay: "CrossSubnet" })];
    const plan = planOf([node(1), far, ...modes]);
    expect(plan.overlay?.nodes.map(({ name }) => name)).toEqual(["n3"]);
    expect(overlayProblems(plan)).toEqual([]);
  });

  test("with Always knows who beside it sends without a tunnel", () => {
    const near = node(2, { rack: "b", addresses: ["10.0.1.2"] });
    const modes = (own: string, others: string) => [
      podNetwork("a", { ...inRack("a"), overlay: own }),
      podNetwork("b", { ...inRack("b"), overlay: others }),
    ];
    const plain = (objects: object[]) => planOf([node(1), ...objects]).overlay?.plain;
    expect(plain([near, far, ...modes("Always", "CrossSubnet")])).toBe("n2");
    // It is not on the segment, so it has to use its tunnel.
    expect(plain([far, ...modes("Always", "CrossSubnet")])).toBeUndefined();
    expect(plain([near, ...modes("Always", "Always")])).toBeUndefined();
    expect(plain([near, ...modes("CrossSubnet", "Always")])).toBeUndefined();
  });

  test("needs an InternalIP", () => {
    const plan = planOf([node(1, { addresses: [] }), far, podNetwork("x", { overlay: "Always" })]);
    expect(plan.overlay).toBeUndefined();
    expect(overlayProblems(plan)).toContainEqual(
      expect.objectContaining({ reason: "NoInternalIP", message: expect.stringContaining("no end of tunnels") }),
    );
  });
});

describe("sessions of nodes with addresses of one family", () => {
  const always = podNetwork("x", { overlay: "Always" });
  const families = ({ speaker }: NodePlan) =>
    speaker?.neighbors.map(({ name, families }) => `${name}: ${Object.keys(families).sort().join(" ")}`);

  test.each([
    ["IPv4", ["10.0.1.1"], ["10.0.2.3"], "n3/ipv4", "ipv6-unicast", "fd00:10:244:1::1"],
    ["IPv6", ["fd00:1::1"], ["fd00:2::3"], "n3/ipv6", "ipv4-unicast", "10.244.1.1"],
  ])(
    "of %s carry the other family through tunnels, with next hops by which the node is known",
    (_family, one, other, name, beside, nextHop) => {
      const plan = planOf([node(1, { addresses: one }), node(3, { addresses: other }), always]);
      expect(families(plan)).toEqual([`${name}: ipv4-unicast ipv6-unicast`]);
      const exports = plan.speaker?.neighbors[0].families;
      expect(exports?.[beside as "ipv4-unicast"]?.exportPolicies[0]).toBe(`tunnel:${beside}`);
      expect(exports?.[beside === "ipv4-unicast" ? "ipv6-unicast" : "ipv4-unicast"]?.exportPolicies).not.toContain(`tunnel:${beside}`);
      const [rule] = plan.speaker?.policies[`tunnel:${beside}`].rules ?? [];
      expect(rule).toMatchObject({ action: { result: "continue", set: { nextHop } } });
      expect(rule.match?.kinds).not.toContain("learned");
      expect(plan.problems.filter(({ reason }) => reason === "FamilyNotCarried")).toEqual([]);
    },
  );

  test("carry it not without an overlay on both, and not where there are sessions of both families", () => {
    expect(families(planOf([node(1), far]))).toEqual(["n3/ipv4: ipv4-unicast"]);
    expect(families(planOf([node(1), far, podNetwork("a", { ...inRack("a"), overlay: "Always" })]))).toEqual(["n3/ipv4: ipv4-unicast"]);
    const dual = [node(1, { addresses: ["10.0.1.1", "fd00:1::1"] }), node(3, { addresses: ["10.0.2.3", "fd00:2::3"] }), always];
    expect(families(planOf(dual))).toEqual(["n3/ipv4: ipv4-unicast", "n3/ipv6: ipv6-unicast"]);
    expect(planOf(dual).overlay?.nodes).toEqual([{ name: "n3", addresses: ["10.0.2.3", "fd00:2::3"] }]);
  });

  test("all are put one way by both ends", () => {
    const objects = [node(1, { addresses: ["10.0.1.1", "fd00:1::1"] }), far, node(4, { addresses: ["fd00:2::4"] }), always];
    expect(families(planOf(objects, "n1"))).toEqual(["n3/ipv4: ipv4-unicast ipv6-unicast", "n4/ipv6: ipv4-unicast ipv6-unicast"]);
    expect(families(planOf(objects, "n3"))).toEqual(["n1/ipv4: ipv4-unicast ipv6-unicast"]);
    expect(families(planOf(objects, "n4"))).toEqual(["n1/ipv6: ipv4-unicast ipv6-unicast"]);
  });
});
