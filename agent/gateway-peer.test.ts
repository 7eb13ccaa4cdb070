/** A real agent whose neighbour is its node's default gateway, which announces a default route itself. Needs root on Linux. */
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PeersView, ProblemsView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 200 };

let pair: Pair;
let tor: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
  tor = new Pair();
});
afterEach(async () => {
  await pair?.close();
  await tor?.close();
});

const podlane = (kind: string, name: string, spec: object) =>
  JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });
const node = (number: number) =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${number}` },
    spec: { podCIDRs: [`10.244.${number}.0/24`] },
    status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
  });
const route = (...words: string[]) => execFileSync("ip", ["-n", pair.names[0], "route", ...words]);
const peers = async () => (await pair.ask<PeersView>(0, "peers"))?.peers.map(({ name, state }) => `${name} ${state}`);
const problems = async () => (await pair.ask<ProblemsView>(0, "problems"))?.problems.filter(one => one.reason === "GatewayUnknown") ?? [];

test("the session follows the kernel's default route of others, not the one that was learned, and outlives a moment without", async () => {
  pair.write("nodes.yaml", node(1));
  const accept = [{ prefix: "0.0.0.0/0" }];
  pair.write("peer.yaml", podlane("Peer", "tor", { nodeSelector: {}, gateway: "IPv4", asn: 65100, import: { accept } }));
  tor.write("nodes.yaml", node(2));
  tor.write("fabric.yaml", podlane("Fabric", "f", { nodeSelector: {}, asn: 65100 }));
  tor.write("peer.yaml", podlane("Peer", "p", { nodeSelector: {}, address: "192.0.2.1", asn: 64512, import: { default: "Reject" } }));
  const spec = { nodeSelector: {}, type: "Static", static: { prefixes: [{ prefix: "0.0.0.0/0", discard: false }] }, peers: ["p"] };
  tor.write("default.yaml", podlane("Advertisement", "a", spec));
  pair.start(1, ["--config", tor.config]);
  pair.start(0);
  await expect
    .poll(problems, within)
    .toMatchObject([{ severity: "error", message: "node node1 has no IPv4 default gateway: there is no session" }]);

  route("add", "default", "via", "192.0.2.2", "metric", "100");
  await expect.poll(peers, within).toEqual(["tor/192.0.2.2 Established"]);
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("default");
  expect(await problems()).toEqual([]);

  route("del", "default", "metric", "100");
  await expect
    .poll(problems, within)
    .toMatchObject([{ message: expect.stringContaining("192.0.2.2, which it had, stays until there is another") }]);
  expect(await peers()).toEqual(["tor/192.0.2.2 Established"]);
  expect(pair.kernelRoutes(0)).toContain("default");

  route("add", "default", "via", "192.0.2.77", "metric", "100");
  await expect.poll(peers, within).toEqual([expect.stringMatching(/^tor\/192\.0\.2\.77 /)]);
  expect(await problems()).toEqual([]);
}, 240_000);
