/** A mistake between objects, on a node that runs and over its restart: real agents, real sessions. Needs root on Linux. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { PeersView, PlanView, ProblemsView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 100 };

let pair: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

const object = (kind: string, name: string, spec: object) =>
  JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec });
const common = { type: "Internal", timers: { holdTime: 30, connectRetryTime: 1 } };
const peer = (number: number, from: string) => ({
  from,
  nodeSelector: { matchLabels: { number: String(3 - number) } },
  address: `192.0.2.${number}`,
});
const nodes = (second: object = {}) =>
  [1, 2]
    .map(number =>
      JSON.stringify({
        apiVersion: "v1",
        kind: "Node",
        metadata: { name: `node${number}`, labels: { number: String(number) }, ...(number === 2 ? second : {}) },
        spec: { podCIDRs: [`10.244.${number}.0/24`] },
        status: { addresses: [{ type: "InternalIP", address: `192.0.2.${number}` }] },
      }),
    )
    .join("\n---\n");

function objects(template: string): string {
  return [
    object("Fabric", "all", { nodeSelector: {}, asn: 64512, mesh: { type: "None" } }),
    object("Peer", template, { template: true, ...common }),
    object("Peer", "one", peer(1, "base")),
    object("Peer", "two", peer(2, "base")),
    object("Advertisement", "pods", { nodeSelector: {}, type: "PodCIDR", peerSelector: {} }),
  ].join("\n---\n");
}

const sessions = async () => (await pair.ask<PeersView>(0, "peers"))?.peers.map(({ name, state, since }) => `${name} ${state} ${since}`);
const problems = async () => (await pair.ask<ProblemsView>(0, "problems"))?.problems ?? [];

test("a template that is renamed ends no session, neither at once nor after a restart", async () => {
  pair.write("nodes.yaml", nodes());
  pair.write("objects.yaml", objects("base"));
  const [agent] = [pair.start(0), pair.start(1)];
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  const before = await sessions();
  expect(before).toEqual([expect.stringMatching(/^two Established /)]);

  pair.write("objects.yaml", objects("basis"));
  await pair.podlane(0, "reload");
  await expect.poll(problems, within).toContainEqual(expect.objectContaining({ message: "there is no Peer base, and 2 fields name it" }));
  expect(await sessions()).toEqual(before);
  expect((await pair.podlane(0, "problems")).stdout).toMatch(
    /hence +Peer\/one spec.from: its last good version stays in force\n +Peer\/two/,
  );

  agent.process.kill("SIGTERM");
  await agent.ended;
  pair.start(0);
  await expect.poll(sessions, within).toEqual([expect.stringMatching(/^two Established /)]);
  await expect.poll(problems, within).toContainEqual(expect.objectContaining({ object: "Peer/base" }));

  pair.write("objects.yaml", objects("base"));
  await pair.podlane(0, "reload");
  await expect.poll(problems, within).toEqual([]);
});

test("an object that cannot be read is as it was, also after a restart, while others change and what was never in force stays out", async () => {
  const world = (template: object, port: number) =>
    [
      object("Fabric", "all", { nodeSelector: {}, asn: 64512, mesh: { type: "None" }, forwarding: { metric: port } }),
      object("Peer", "base", { template: true, ...common, ...template }),
      object("Peer", "one", peer(1, "base")),
      object("Peer", "two", peer(2, "base")),
      object("Advertisement", "pods", { nodeSelector: {}, type: "PodCIDR", peerSelector: {} }),
    ].join("\n---\n");
  pair.write("nodes.yaml", nodes());
  pair.write("objects.yaml", world({}, 7));
  const [agent] = [pair.start(0), pair.start(1)];
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");

  agent.process.kill("SIGTERM");
  await agent.ended;
  const newer = object("Policy", "newer", { rules: [{ result: "Accept", since: "a later version" }] });
  pair.write("objects.yaml", `${world({ novelty: true }, 8)}\n---\n${newer}`);
  pair.start(0);
  await expect
    .poll(problems, within)
    .toContainEqual(
      expect.objectContaining({ object: "Peer/base", message: expect.stringContaining("its last good version stays in force") }),
    );
  await expect.poll(sessions, within).toEqual([expect.stringMatching(/^two Established /)]);
  expect(await problems()).toContainEqual(expect.objectContaining({ object: "Policy/newer" }));
  expect(await problems()).not.toContainEqual(expect.objectContaining({ reason: "ConfigurationHeld" }));
  await expect.poll(async () => (await pair.ask<PlanView>(0, "plan"))?.speaker?.fib.metric, within).toBe(8);

  pair.write("objects.yaml", world({}, 8));
  await pair.podlane(0, "reload");
  await expect.poll(problems, within).toEqual([]);
});

test("names that are mistyped end no session and take no route, neither at once nor after a restart", async () => {
  const world = (policy: string, key: string, heard: string) =>
    [
      object("Fabric", "all", { nodeSelector: {}, asn: 64512, mesh: { type: "None" } }),
      JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name: "keys" }, stringData: { bgp: "s3cret" } }),
      object("Policy", "in", { rules: [{ result: "Accept" }] }),
      ...[1, 2].map(number =>
        object("Peer", `peer${number}`, {
          ...peer(number, "base"),
          from: undefined,
          ...common,
          import: { policies: [policy], default: "Reject" },
          export: { default: "Reject" },
          passwordSecretRef: { name: "keys", key },
        }),
      ),
      object("Advertisement", "pods", { nodeSelector: {}, type: "PodCIDR", peers: ["peer1", heard] }),
    ].join("\n---\n");
  pair.write("nodes.yaml", nodes());
  pair.write("objects.yaml", world("in", "bgp", "peer2"));
  const [agent] = [pair.start(0), pair.start(1)];
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
  const before = await sessions();

  pair.write("objects.yaml", world("inn", "bpg", "per2"));
  for (const number of [0, 1] as const) await pair.podlane(number, "reload");
  for (const cause of ["Policy/inn", "Secret/keys", "Peer/per2"])
    await expect.poll(problems, within).toContainEqual(expect.objectContaining({ cause }));
  expect(await sessions()).toEqual(before);
  expect([await pair.kernelRoutes(0), await pair.kernelRoutes(1)].map(String)).toEqual([
    expect.stringContaining("10.244.2.0/24"),
    expect.stringContaining("10.244.1.0/24"),
  ]);

  agent.process.kill("SIGTERM");
  await agent.ended;
  pair.start(0);
  await expect.poll(sessions, within).toEqual([expect.stringMatching(/^peer2 Established /)]);
  await expect.poll(problems, within).toContainEqual(expect.objectContaining({ cause: "Secret/keys" }));
  const hears = async () => (await pair.podlane(1, "routes", "10.244.1.0/24")).stdout;
  await expect.poll(hears, within).toContain("10.244.1.0/24");
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
});

test("a node that claims this node's range takes nothing from it", async () => {
  pair.write("nodes.yaml", nodes());
  pair.write("objects.yaml", objects("base"));
  pair.start(0);
  pair.start(1);
  await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
  pair.write(
    "a.yaml",
    JSON.stringify({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "a", labels: { number: "3" } },
      spec: { podCIDRs: ["10.244.1.0/24"] },
      status: { addresses: [{ type: "InternalIP", address: "192.0.2.3" }] },
    }),
  );
  await pair.podlane(0, "reload");
  await pair.podlane(1, "reload");
  const told = expect.objectContaining({
    object: "Node/a",
    message: expect.stringContaining("of node node1, which keeps it: a does not use it"),
  });
  await expect.poll(problems, within).toContainEqual(told);
  expect(pair.kernelRoutes(1)).toContain("10.244.1.0/24");
});

test("a plan of other objects says first which sessions they would reset, and does nothing", async () => {
  pair.write("nodes.yaml", nodes());
  pair.write("objects.yaml", objects("base"));
  pair.start(0);
  pair.start(1);
  await expect.poll(sessions, within).toEqual([expect.stringMatching(/^two Established /)]);
  const before = await sessions();
  const other = join(pair.folder, "other");
  mkdirSync(other);
  writeFileSync(join(other, "nodes.yaml"), nodes());
  writeFileSync(join(other, "objects.yaml"), objects("base").replaceAll('"holdTime":30', '"holdTime":60'));
  const plan = await pair.ask<PlanView>(0, "plan", "--config", other);
  expect(plan?.changes).toEqual([{ neighbor: "two", action: "reset", text: "the session is reset: hold time changed" }]);
  expect(plan?.announcements).toMatchObject([
    { neighbor: "two", announced: [{ prefix: "10.244.1.0/24", attributes: { localPref: 100 } }], withheld: [] },
  ]);
  expect((await pair.podlane(0, "plan", "--config", other)).stdout).toMatch(/sessions\n +two: the session is reset: hold time changed/);
  // What needs none is said as well.
  writeFileSync(join(other, "objects.yaml"), objects("base").replaceAll('"connectRetryTime":1', '"connectRetryTime":7'));
  expect((await pair.ask<PlanView>(0, "plan", "--config", other))?.changes).toEqual([]);
  expect(await sessions()).toEqual(before);
  expect((await pair.podlane(0, "plan", "--config", join(pair.folder, "absent"))).stderr).toContain("absent");
});

test("an agent that starts while its node is deleted keeps what it had until that is sure", async () => {
  pair.write("nodes.yaml", nodes());
  const [agent] = [pair.start(0), pair.start(1)];
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  const [, second] = nodes().split("\n---\n");
  agent.process.kill("SIGKILL");
  await agent.ended;
  pair.write("nodes.yaml", second);
  pair.start(0);
  await expect
    .poll(async () => (await problems()).map(one => one.message).join("\n"), within)
    .toMatch(/its routes are withdrawn in \d+ s unless it comes back: using the last good plan/);
  expect(pair.kernelRoutes(0)).toContain("10.244.2.0/24");
  await expect.poll(() => pair.kernelRoutes(0), within).not.toContain("10.244.2.0/24");
});
