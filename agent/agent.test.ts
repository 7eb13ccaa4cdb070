/** Real agents in network namespaces of their own: start, reload, end, crash, broken configuration, rivals. Needs root on Linux. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, statSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Explanation } from "../bgpd/snapshot.ts";
import type { NodePlan } from "../config/plan.ts";
import type { PeersView, ProblemsView, ReloadView, RoutesView, StatusView } from "./api/views.ts";
import { Pair, type RunningAgent } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 100 };

let pair: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

const status = (at: 0 | 1) => pair.ask<StatusView>(at, "status");
const answers = (at: 0 | 1) => expect.poll(() => status(at), within).toBeDefined();
const logged = (agent: RunningAgent, text: string) => expect.poll(() => agent.log.map(line => line.msg).join("\n"), within).toContain(text);

async function state(at: 0 | 1): Promise<string | undefined> {
  return (await pair.ask<PeersView>(at, "peers"))?.peers[0]?.state;
}

describe("two agents", () => {
  test("find each other, exchange their pod subnets and show it", async () => {
    const agents = [pair.start(0), pair.start(1)];
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
    await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");

    const shown = (await status(0))!;
    expect(shown).toMatchObject({ node: "node1", config: { source: pair.config, inUse: "source" }, attachments: 0 });
    expect(shown.pid).toBe(agents[0].process.pid);
    expect(shown.speaker).toMatchObject({ asn: 64512, routerId: "192.0.2.1", sessions: { established: 1, configured: 1 } });
    expect(statSync(pair.socket(0)).mode & 0o777).toBe(0o600);

    const { routes, total } = (await pair.ask<RoutesView>(0, "routes", "10.244.2.0/24"))!;
    expect(total).toBe(1);
    expect(routes[0]).toMatchObject({ prefix: "10.244.2.0/24", best: true, attributes: { nextHop: "192.0.2.2" } });
    const explanation = (await pair.ask<Explanation>(0, "explain", "10.244.2.7"))!;
    expect(explanation).toMatchObject({ matched: "10.244.2.0/24", kernel: { installed: true } });
    expect((await pair.podlane(0, "explain", "10.244.1.0/24")).stdout).toMatch(/sent to +✓ node2/);
    expect((await pair.ask<NodePlan>(0, "plan"))!.speaker!.networks).toHaveLength(1);
    // What the other tests ask of the agent itself.
    for (const look of ["peers", "problems", "status"]) {
      const { stdout } = await pair.podlane(0, look, "--json");
      expect(Object.keys(JSON.parse(stdout)), look).toEqual(Object.keys((await pair.ask<object>(0, look))!));
    }
    for (const agent of agents) expect(agent.noise).toEqual([]);
  });

  test("a ledger that cannot be read is a problem until it can be, and the node routes meanwhile", async () => {
    mkdirSync(join(pair.state(0), "ledger"), { recursive: true });
    pair.start(0);
    pair.start(1);
    await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
    const messages = async () => (await pair.ask<ProblemsView>(0, "problems"))!.problems.map(one => one.message);
    expect(await messages()).toContainEqual(
      expect.stringMatching(/^pods cannot be attached: cannot open .*ledger: it is not a regular file/),
    );
    rmdirSync(join(pair.state(0), "ledger"));
    await pair.podlane(0, "reload");
    expect(await messages()).not.toContainEqual(expect.stringContaining("pods cannot be attached"));
  });

  test.each<[string, string[], (agent: RunningAgent) => void]>([
    ["SIGTERM with --on-stop withdraw", ["--on-stop", "withdraw"], agent => agent.process.kill("SIGTERM")],
    ["podlane leave", [], () => void pair.podlane(0, "leave")],
  ])("%s says goodbye: the neighbour drops the routes at once, the own kernel keeps them", async (_what, words, stop) => {
    const agent = pair.start(0, words);
    pair.start(1);
    await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
    stop(agent);
    expect(await agent.ended).toBe(0);
    expect(existsSync(pair.socket(0))).toBe(false);
    expect(pair.kernelRoutes(0)).toContain("10.244.2.0/24");
    await expect.poll(() => pair.kernelRoutes(1), { timeout: 3_000 }).not.toContain("10.244.1.0/24");
    const [peer] = (await pair.ask<PeersView>(1, "peers"))!.peers;
    expect(peer.lastDown).toMatchObject({ code: 6, subcode: 2, direction: "received" });
    expect(agent.log.at(-1)).toMatchObject({ msg: "ended; the kernel keeps its routes" });
  });

  test("SIGTERM is a restart: the neighbour keeps the routes for the restart time", async () => {
    const agent = pair.start(0);
    pair.start(1);
    await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
    agent.process.kill("SIGTERM");
    expect(await agent.ended).toBe(0);
    await expect.poll(async () => (await pair.ask<PeersView>(1, "peers"))?.peers[0].lastDown, within).toBeDefined();
    const [{ lastDown }] = (await pair.ask<PeersView>(1, "peers"))!.peers;
    expect(lastDown?.code).toBeUndefined();
    expect(pair.kernelRoutes(1)).toContain("10.244.1.0/24");
    const second = pair.start(0);
    await expect.poll(async () => (await status(0))?.pid, within).toBe(second.process.pid);
    await expect.poll(() => state(0), within).toBe("Established");
    expect(pair.kernelRoutes(1)).toContain("10.244.1.0/24");
  });

  test("kill -9 leaves forwarding as it is, and the next agent takes over", async () => {
    const first = pair.start(0);
    pair.start(1);
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
    first.process.kill("SIGKILL");
    expect(await first.ended).toBe("SIGKILL");
    expect(existsSync(pair.socket(0))).toBe(true);
    expect(pair.kernelRoutes(0)).toContain("10.244.2.0/24");
    const second = pair.start(0);
    await expect.poll(async () => (await status(0))?.pid, within).toBe(second.process.pid);
    await expect.poll(() => state(0), within).toBe("Established");
    expect(pair.kernelRoutes(0)).toContain("10.244.2.0/24");
    expect((await status(0))!.speaker!.fib!.adopted).toBeGreaterThan(0);
  });

  test("a reset and a refresh can be asked for by name; unknown names are refused", async () => {
    pair.start(0);
    pair.start(1);
    await expect.poll(() => state(0), within).toBe("Established");
    const [{ name }] = (await pair.ask<PeersView>(0, "peers"))!.peers;
    expect((await pair.podlane(0, "peer", name, "--refresh", "in")).stdout).toBe(`asked ${name} for its routes\n`);
    expect((await pair.podlane(0, "peer", name, "--reset", "new cable")).status).toBe(0);
    await expect
      .poll(async () => (await pair.ask<PeersView>(1, "peers"))?.peers[0].lastDown, within)
      .toMatchObject({ code: 6, subcode: 4 });
    const refused = await pair.podlane(0, "peer", "nobody");
    expect([refused.status, refused.stderr]).toEqual([1, `podlane: there is no neighbour "nobody"\n  neighbours here: ${name}\n`]);
  });
});

describe("what other programs undo on the node", () => {
  const inNode = (...words: string[]) => execFileSync("ip", ["netns", "exec", pair.names[0], ...words], { encoding: "utf8" });

  test("is put back soon after the kernel tells of it, and events say so", async () => {
    const agent = pair.start(0);
    await answers(0);
    await expect.poll(() => inNode("cat", "/proc/sys/net/ipv4/ip_forward").trim(), within).toBe("1");
    inNode("sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward");
    await expect.poll(() => inNode("cat", "/proc/sys/net/ipv4/ip_forward").trim(), within).toBe("1");
    await logged(agent, "pods: turned IPv4 forwarding on");
    inNode("ip", "address", "flush", "dev", "podlane0");
    await expect.poll(() => inNode("ip", "-4", "address", "show", "dev", "podlane0"), within).toContain("10.244.1.1/24");
    inNode("ip", "link", "delete", "podlane0");
    await expect.poll(() => inNode("ip", "-4", "address", "show"), within).toContain("10.244.1.1/24");
    expect((await pair.ask<ProblemsView>(0, "problems"))?.problems.filter(({ object }) => object === "pods")).toEqual([]);
  });

  test("routes to pods without a bridge are put back soon as well", async () => {
    const spec = { nodeSelector: {}, mode: "Routed" };
    pair.write("network.yaml", JSON.stringify({ apiVersion: "podlane.io/v1alpha1", kind: "PodNetwork", metadata: { name: "all" }, spec }));
    pair.start(0);
    await answers(0);
    const route = () => inNode("ip", "route", "show", "proto", "202");
    await expect.poll(route, within).toContain("unreachable 10.244.1.0/24");
    inNode("ip", "route", "flush", "proto", "202");
    // Before the next look at all there is, which comes each minute.
    await expect.poll(route, { timeout: 20_000, interval: 100 }).toContain("unreachable 10.244.1.0/24");
  });
});

describe("a fault of podlane that no boundary caught", () => {
  /** Runs in the agent's process: an exception at each SIGUSR2. */
  const poison = { NODE_OPTIONS: `--import "data:text/javascript,process.on('SIGUSR2',()=>{throw(new(TypeError)('poisoned'))})"` };

  test("costs nothing but itself, and is a problem; too many of them end the process", async () => {
    const agent = pair.start(0, [], poison);
    pair.start(1);
    await expect.poll(() => state(0), within).toBe("Established");
    const poisonAgain = () => agent.process.kill("SIGUSR2");
    poisonAgain();
    await logged(agent, "fault of podlane: uncaughtException: poisoned");
    expect(agent.log.find(line => line.place === "uncaughtException")?.stack).toContain("TypeError: poisoned");
    await expect
      .poll(async () => (await pair.ask<ProblemsView>(0, "problems"))?.problems.map(({ field }) => field), within)
      .toContain("faults");
    expect(await state(0)).toBe("Established");
    const timer = setInterval(poisonAgain, 5);
    try {
      expect(await agent.ended).toBe(1);
    } finally {
      clearInterval(timer);
    }
    expect(agent.log.at(-1)?.msg).toBe("20 faults within 60 s: ending; the kernel keeps its routes");
    expect(pair.kernelRoutes(0)).toContain("10.244.2.0/24");
  });
});

describe("configuration", () => {
  const extra = (number: number) => `
apiVersion: v1
kind: Node
metadata: { name: node${number} }
spec: { podCIDRs: [10.244.${number}.0/24] }
status: { addresses: [{ type: InternalIP, address: 192.0.2.${number} }] }
`;
  const peers = async () => (await pair.ask<PeersView>(0, "peers"))?.peers.map(peer => peer.address).sort();

  test("is read again at SIGHUP and by podlane reload, which says what it did", async () => {
    const agent = pair.start(0);
    await answers(0);
    pair.write("node3.yaml", extra(3));
    agent.process.kill("SIGHUP");
    await logged(agent, "reloaded");
    await expect.poll(peers, within).toEqual(["192.0.2.2", "192.0.2.3"]);
    pair.write("node4.yaml", extra(4));
    const { actions } = (await pair.ask<ReloadView>(0, "reload"))!;
    expect(await peers()).toEqual(["192.0.2.2", "192.0.2.3", "192.0.2.4"]);
    expect(actions.every(text => text.includes("added"))).toBe(true);
  });

  test("of forwarding moves the kernel routes, at run time and over a crash, and leaves none where none are wanted", async () => {
    const fabric = (forwarding: string) =>
      pair.write(
        "fabric.yaml",
        `apiVersion: podlane.io/v1alpha1
kind: Fabric
metadata: { name: cluster }
spec: { nodeSelector: {}, asn: 64512, timers: { holdTime: 9, connectRetryTime: 1 }, forwarding: ${forwarding} }
`,
      );
    const held = () =>
      execFileSync("ip", ["-n", pair.names[0], "-N", "route", "show", "table", "all"], { encoding: "utf8" })
        .split("\n")
        .filter(line => line.startsWith("10.244.2.0/24 "))
        .map(line => /(table \d+ )?proto \d+/.exec(line)?.[0]);
    const first = pair.start(0);
    pair.start(1);
    await expect.poll(held, within).toEqual(["proto 201"]);
    fabric("{ table: 1000 }");
    await logged(first, "kernel routes move to table 1000, protocol 201, metric 0");
    await expect.poll(held, within).toEqual(["table 1000 proto 201"]);
    first.process.kill("SIGKILL");
    await first.ended;
    fabric("{ table: 1000, protocol: 210 }");
    const second = pair.start(0);
    await expect.poll(held, within).toEqual(["table 1000 proto 210"]);
    second.process.kill("SIGKILL");
    await second.ended;
    fabric("{ enabled: false }");
    pair.start(0);
    await expect.poll(held, within).toEqual([]);
  });

  test("is followed without a word, and events tell", async () => {
    pair.start(0);
    await answers(0);
    const main = `${import.meta.dirname}/../cli/main.ts`;
    const follower = spawn(process.execPath, [main, "events", "--json", "--socket", pair.socket(0)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    follower.stdout.setEncoding("utf8").on("data", chunk => {
      text += chunk;
    });
    try {
      let number = 3;
      // The follower is on only some time after its start: changes are made until it sees one.
      await expect
        .poll(
          () => {
            pair.write(`node${number}.yaml`, extra(number));
            number++;
            return text;
          },
          { timeout: 20_000, interval: 500 },
        )
        .toMatch(/"type":"plan","text":"node\d+[^"]*: added"/);
    } finally {
      follower.kill();
      await once(follower, "close");
    }
  });

  test("a broken file changes nothing and is a problem, also over a restart", async () => {
    const first = pair.start(0);
    await expect.poll(peers, within).toEqual(["192.0.2.2"]);
    pair.write("nodes.yaml", "kind: [");
    await pair.podlane(0, "reload");
    const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
    expect(problems).toContainEqual(expect.objectContaining({ severity: "error", object: "nodes.yaml" }));
    expect(await peers()).toEqual(["192.0.2.2"]);
    first.process.kill("SIGKILL");
    await first.ended;

    pair.start(0);
    await expect.poll(async () => (await status(0))?.config.inUse, within).toBe("saved");
    expect(await peers()).toEqual(["192.0.2.2"]);
    const told = await pair.podlane(0, "problems", "--exit-code");
    expect(told.status).toBe(1);
    expect(told.stdout).toContain("using the last good plan, of ");
    expect(statSync(`${pair.state(0)}/plan.json`).mode & 0o777).toBe(0o600);
  });

  test("a directory that is gone at the start is waited for, with the last good plan meanwhile", async () => {
    const first = pair.start(0);
    await expect.poll(peers, within).toEqual(["192.0.2.2"]);
    first.process.kill("SIGTERM");
    await first.ended;
    renameSync(pair.config, `${pair.config}.away`);
    pair.start(0);
    await expect.poll(async () => (await status(0))?.config.inUse, within).toBe("saved");
    expect(await peers()).toEqual(["192.0.2.2"]);
    renameSync(`${pair.config}.away`, pair.config);
    await pair.podlane(0, "reload");
    expect((await status(0))!.config.inUse).toBe("source");
    expect((await pair.ask<ProblemsView>(0, "problems"))!.problems).toEqual([]);
  });

  test("a node that is deleted while others stay withdraws its routes, says so before and after, and is back with its object", async () => {
    pair.start(0);
    pair.start(1);
    await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
    const nodes = readFileSync(`${pair.config}/nodes.yaml`, "utf8");
    const [first, ...others] = nodes.split(/^---$/m);
    expect(first).toContain("name: node1");
    pair.write("nodes.yaml", others.join("---"));
    const messages = async () => (await pair.ask<ProblemsView>(0, "problems"))?.problems.map(one => one.message).join("\n");
    await expect.poll(messages, within).toMatch(/its routes are withdrawn in \d+ s unless it comes back/);
    expect((await status(0))?.speaker).toBeDefined();
    await expect.poll(async () => (await status(0))?.speaker, within).toBeUndefined();
    expect(await messages()).toContain("there is no such Node object");
    pair.write("nodes.yaml", nodes);
    await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
  });

  test("an emptied directory does not take the node out of service", async () => {
    pair.start(0);
    await expect.poll(peers, within).toEqual(["192.0.2.2"]);
    pair.write("nodes.yaml", "# nothing\n");
    await pair.podlane(0, "reload");
    expect(await peers()).toEqual(["192.0.2.2"]);
    const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
    expect(problems).toContainEqual(
      expect.objectContaining({ message: expect.stringContaining('there is no Node object "node1" any more') }),
    );
  });
});

test("a pod subnet that is taken away while a pod uses it is a warning, not an error", async () => {
  pair.start(0);
  await answers(0);
  const pod = `${pair.names[0]}-pod`;
  execFileSync("ip", ["netns", "add", pod]);
  try {
    const headers = ["Command: ADD", "Containerid: a", "Ifname: eth0", `Netns: /run/netns/${pod}`].flatMap(one => ["-H", `X-Cni-${one}`]);
    const config = JSON.stringify({ cniVersion: "1.0.0", name: "pods", type: "podlane" });
    execFileSync("curl", ["-sf", "--unix-socket", pair.socket(0), ...headers, "--data-binary", config, "http://agent/v1/cni"]);
    const nodes = readFileSync(`${pair.config}/nodes.yaml`, "utf8");
    pair.write("nodes.yaml", nodes.replace("10.244.1.0/24", "10.244.9.0/24"));
    await pair.podlane(0, "reload");
    const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
    expect(problems).toEqual([
      expect.objectContaining({
        severity: "warning",
        object: "Node/node1",
        message: expect.stringContaining("subnet, 10.244.1.2: each is"),
      }),
    ]);
    expect((await pair.podlane(0, "problems", "--exit-code")).status).toBe(0);
  } finally {
    execFileSync("ip", ["netns", "delete", pod]);
  }
});

describe("what is refused", () => {
  test("a second agent with the same state or the same socket; the first goes on", async () => {
    const first = pair.start(0);
    await answers(0);
    const sameState = pair.start(0, ["--socket", `${pair.folder}/other.sock`]);
    expect(await sameState.ended).toBe(1);
    expect(sameState.log.at(-1)!.msg).toContain(`the agent with process id ${first.process.pid} uses the state directory`);
    const sameSocket = pair.start(0, ["--state", `${pair.folder}/other`]);
    expect(await sameSocket.ended).toBe(1);
    expect(sameSocket.log.at(-1)!.msg).toContain(`another agent answers on ${pair.socket(0)}`);
    expect((await status(0))!.pid).toBe(first.process.pid);
  });

  test("a user who is not root, in one sentence each", async () => {
    const agent = spawn(
      "setpriv",
      [
        "--reuid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        process.execPath,
        `${import.meta.dirname}/../cli/main.ts`,
        "agent",
        "--node",
        "n",
        "--config",
        pair.config,
        "--log-format",
        "json",
      ],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let text = "";
    agent.stderr.setEncoding("utf8").on("data", chunk => {
      text += chunk;
    });
    const [code] = await once(agent, "close");
    expect(code).toBe(1);
    const lines = text
      .trim()
      .split("\n")
      .map(line => JSON.parse(line).msg);
    expect(lines[0]).toContain("CAP_NET_ADMIN: run as root");
    expect(text).not.toContain("    at ");
  });

  test("a state directory that cannot be made", async () => {
    const agent = pair.start(0, ["--state", `${pair.config}/nodes.yaml/state`]);
    expect(await agent.ended).toBe(1);
    expect(agent.log.at(-1)!.msg).toContain(`${pair.config}/nodes.yaml/state`);
    expect(agent.noise).toEqual([]);
  });
});

test("a second signal ends the agent at once", async () => {
  const agent = pair.start(0);
  await answers(0);
  // A request that does not come to its end holds up the orderly end.
  const client = connect(pair.socket(0), () => client.write("POST /v1/cni HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n"));
  client.on("error", () => {});
  await once(client, "connect");
  // Answered on a connection made later, so the first request has begun.
  await answers(0);
  agent.process.kill("SIGTERM");
  await logged(agent, "SIGTERM: ending");
  agent.process.kill("SIGINT");
  expect(await agent.ended).toBe(1);
  expect(agent.log.at(-1)!.msg).toBe("second signal (SIGINT): ending at once");
  client.destroy();
});
