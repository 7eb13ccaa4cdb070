/** Nodes that announce what is not their own (a real agent whose objects differ from those of the others), or speak from afar. Needs root on Linux. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Explanation } from "../bgpd/snapshot.ts";
import type { NodePlan } from "../config/plan.ts";
import type { PeersView, ProblemsView, RoutesView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 100 };

let pair: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

const third = `
apiVersion: v1
kind: Node
metadata: { name: node3 }
spec: { podCIDRs: [10.244.3.0/24] }
`;
const fabric = (mesh: string) => `
apiVersion: podlane.io/v1alpha1
kind: Fabric
metadata: { name: f }
spec: { nodeSelector: {}, asn: 64512, mesh: ${mesh} }
`;
const stolen = ["0.0.0.0/1", "10.244.1.128/25", "10.244.3.9/32", "10.96.0.1/32", "169.254.169.254/32", "192.0.2.128/25", "203.0.113.0/24"];

test("only its own routes reach the kernel; each other one says why, and the fabric can allow them", async () => {
  pair.write("node3.yaml", third);
  pair.write("fabric.yaml", fabric("{ trust: Own }"));
  pair.start(0, [], { KUBERNETES_SERVICE_HOST: "10.96.0.1" });
  const hostile = new Pair();
  try {
    hostile.write("nodes.yaml", readFileSync(join(pair.config, "nodes.yaml"), "utf8"));
    const prefixes = stolen.map(prefix => ({ prefix }));
    const spec = { nodeSelector: {}, type: "Static", static: { prefixes }, mesh: true };
    hostile.write(
      "steal.yaml",
      JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind: "Advertisement", metadata: { name: "s" }, spec }),
    );
    pair.start(1, ["--config", hostile.config]);
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
    const received = async () => (await pair.ask<PeersView>(0, "peers"))!.peers[0].families["ipv4-unicast"];
    await expect.poll(async () => (await received())?.received, within).toBe(stolen.length + 1);
    expect(pair.kernelRoutes(0).filter(dst => stolen.includes(dst) || stolen.includes(`${dst}/32`))).toEqual([]);

    const reasons = await Promise.all(
      stolen.map(async prefix => (await pair.ask<Explanation>(0, "explain", prefix))!.candidates[0].reason),
    );
    expect(reasons).toEqual([
      "protected prefix: shorter than /8",
      "protected prefix: pod subnet of this node",
      expect.stringContaining("10.244.3.0/24 is a pod subnet of node node3, not of node node2"),
      "protected prefix: service range",
      "protected prefix: link-local addresses (RFC 3927)",
      "protected prefix: node network",
      expect.stringContaining("node node2 may not originate it"),
    ]);
    const { routes } = (await pair.ask<RoutesView>(0, "routes", "10.244.3.9/32"))!;
    expect(routes[0]).toMatchObject({ eligible: false, reason: expect.stringContaining("pod subnet of node node3") });
    expect(await received()).toMatchObject({
      accepted: 1,
      rejectedBecause: { Protected: 5, Origin: 2 },
    });
    const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
    expect(problems.map(({ object, message }) => `${object}: ${message}`)).toContainEqual(
      expect.stringMatching(/^Node\/node2: 2 ipv4-unicast routes of node2\/ipv4 are refused, such as /),
    );

    pair.write("fabric.yaml", fabric("{ accept: [{ prefix: 203.0.113.0/24 }, { prefix: 0.0.0.0/1 }] }"));
    await expect.poll(() => pair.kernelRoutes(0), within).toEqual(expect.arrayContaining(["203.0.113.0/24", "0.0.0.0/1"]));
    expect(pair.kernelRoutes(0)).not.toContain("10.244.3.9");
    pair.write("fabric.yaml", fabric("{ trust: Any }"));
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.3.9");
    await expect.poll(() => pair.kernelRoutes(0), within).not.toContain("0.0.0.0/1");
  } finally {
    await hostile.close();
  }
}, 90_000);

/** Whether a connection comes about from node2's namespace, with packets of TTL 64 as any program sends them. */
function connects(): boolean {
  const script = `
    const socket = require("node:net").connect({ host: "192.0.2.1", port: 179 });
    socket.on("connect", () => process.exit(0)).on("error", () => process.exit(1)).setTimeout(1000, () => process.exit(2));
  `;
  return spawnSync("ip", ["netns", "exec", pair.names[1], process.execPath, "-e", script]).status === 0;
}

test("with TTL security on a shared link the mesh stands, and whoever may be further away is not even connected", async () => {
  pair.write("fabric.yaml", fabric("{ ttlSecurity: 1 }"));
  pair.start(0);
  pair.start(1);
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  const [neighbor] = (await pair.ask<NodePlan>(0, "plan"))!.speaker!.neighbors;
  expect(neighbor.ttlSecurity).toBe(1);
  expect(connects()).toBe(false);
  pair.write("fabric.yaml", fabric("{}"));
  await expect.poll(connects, within).toBe(true);
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
}, 60_000);

test("a switch that announces pods of a node of its own accord is a problem that names both, and attracts nothing", async () => {
  const podlane = (kind: string, name: string, spec: object) =>
    JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });
  const node = (number: number, address: string) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: `node${number}` },
      spec: { podCIDRs: [`10.244.${number}.0/24`] },
      status: { addresses: [{ type: "InternalIP", address }] },
    });
  const accept = [{ prefix: "10.244.0.0/16", le: 32 }, { prefix: "198.51.100.0/24" }];
  pair.write("nodes.yaml", [node(1, "192.0.2.1"), node(3, "192.0.2.77")].join("\n---\n"));
  pair.write("tor.yaml", podlane("Peer", "tor", { nodeSelector: {}, address: "192.0.2.2", asn: 65100, import: { accept } }));
  pair.start(0);
  const tor = new Pair();
  try {
    const prefixes = [{ prefix: "10.244.3.0/24" }, { prefix: "198.51.100.0/24" }];
    tor.write("nodes.yaml", node(2, "192.0.2.2"));
    tor.write("fabric.yaml", podlane("Fabric", "f", { nodeSelector: {}, asn: 65100 }));
    tor.write("peer.yaml", podlane("Peer", "p", { nodeSelector: {}, address: "192.0.2.1", asn: 64512, import: { default: "Reject" } }));
    tor.write("routes.yaml", podlane("Advertisement", "a", { nodeSelector: {}, type: "Static", static: { prefixes }, peers: ["p"] }));
    pair.start(1, ["--config", tor.config]);
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("198.51.100.0/24");
    const messages = async () => (await pair.ask<ProblemsView>(0, "problems"))!.problems.map(one => `${one.object}: ${one.message}`);
    const text =
      "Peer/tor: 1 ipv4-unicast routes of tor are refused, such as 10.244.3.0/24: not the neighbour's to announce: 10.244.3.0/24 is a pod subnet of node node3, and the AS path ends in AS 65100, not in the node's AS 64512";
    await expect.poll(messages, within).toContain(text);
    expect(pair.kernelRoutes(0)).not.toContain("10.244.3.0/24");
    pair.write("fabric.yaml", fabric("{ trust: Any }"));
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.3.0/24");
    expect((await messages()).filter(message => message.includes("refused"))).toEqual([]);
  } finally {
    await tor.close();
  }
}, 60_000);
