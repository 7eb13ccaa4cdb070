/** A new TCP MD5 key in a running session, between real agents in namespaces. Needs root on Linux. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PeersView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 25_000, interval: 100 };

let pair: Pair;
beforeEach(context => {
  if (missing) context.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

const folder = (at: 0 | 1) => join(pair.folder, `objects${at}`);
const apiVersion = "podlane.io/v1alpha1";

/** One folder for each, as both hear of a change one after the other. */
function write(at: 0 | 1, password: string, prefix: string): void {
  const nodes = [1, 2].map(number => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${number}` },
    spec: { podCIDRs: [`10.244.${number}.0/24`] },
    status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
  }));
  const mesh = { type: "Full", trust: "Any", passwordSecretRef: { name: "mesh" } };
  const fabric = { nodeSelector: {}, asn: 64512, mesh, timers: { holdTime: 9 } };
  const advertisement = { nodeSelector: {}, type: "Static", mesh: true, static: { prefixes: [{ prefix }] } };
  const objects = [
    ...nodes,
    { apiVersion: "v1", kind: "Secret", metadata: { name: "mesh" }, stringData: { password } },
    { apiVersion, kind: "Fabric", metadata: { name: "all" }, spec: fabric },
    { apiVersion, kind: "Advertisement", metadata: { name: "more" }, spec: advertisement },
  ];
  mkdirSync(folder(at), { recursive: true });
  writeFileSync(join(folder(at), "objects.yaml"), objects.map(one => JSON.stringify(one)).join("\n---\n"));
}

async function session(at: 0 | 1) {
  const peer = (await pair.ask<PeersView>(at, "peers"))?.peers[0];
  return { state: peer?.state, since: peer?.since };
}

test("costs no session where the other end follows, and routes go on to come", async () => {
  const agents = ([0, 1] as const).map(at => {
    write(at, "first", `198.51.100.${at}/32`);
    return pair.start(at, ["--config", folder(at)]);
  });
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("198.51.100.1");
  const before = [await session(0), await session(1)];
  write(0, "second", "198.51.100.0/32");
  await pair.podlane(0, "reload");
  expect(agents[0].log.map(line => String(line.msg)).join("\n")).toContain("password changed in the running connection");
  // What is said meanwhile is not heard, and is sent again.
  write(0, "second", "198.51.100.8/32");
  await pair.podlane(0, "reload");
  expect(pair.kernelRoutes(1)).not.toContain("198.51.100.8");
  write(1, "second", "198.51.100.9/32");
  await pair.podlane(1, "reload");
  await expect.poll(() => pair.kernelRoutes(1), within).toContain("198.51.100.8");
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("198.51.100.9");
  expect([await session(0), await session(1)]).toEqual(before);
  expect(before.map(({ state }) => state)).toEqual(["Established", "Established"]);
});

test("ends the session by its hold time where the other end does not follow, until it does", async () => {
  for (const at of [0, 1] as const) {
    write(at, "first", `198.51.100.${at}/32`);
    pair.start(at, ["--config", folder(at)]);
  }
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("198.51.100.1");
  write(0, "second", "198.51.100.0/32");
  await pair.podlane(0, "reload");
  await expect.poll(async () => (await session(0)).state, within).not.toBe("Established");
  write(1, "second", "198.51.100.1/32");
  await pair.podlane(1, "reload");
  await expect.poll(async () => (await session(0)).state, within).toBe("Established");
}, 90_000);
