/**
 * Real packets to Services of a node, whose router sends all of their ranges to it, and where it sends back what it has no route for: which of them arrive,
 * where the others end, and that the node itself reaches its Services as if there were no discard.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { NetworkConfig } from "../bgpd/config.ts";
import { network, SpeakerProcess, speakerConfig } from "./interop/speaker.ts";
import { TestNetwork } from "./network.ts";

const SERVER = "require('net').createServer(s => s.end('hello')).listen(8080, '::', () => console.log('ready'))";
/** Prints what came, or why nothing did. */
const ASK = `const [host, port] = process.argv.slice(1);
const socket = require('net').connect({ host, port: Number(port), timeout: 5000 });
const end = text => { console.log(text); process.exit(); };
socket.on('data', data => end(String(data))).on('timeout', () => end('silence')).on('error', error => end(error.code));`;
const SEND = `const [host] = process.argv.slice(1);
const socket = require('dgram').createSocket(host.includes(':') ? 'udp6' : 'udp4');
socket.send('x', 81, host, () => process.exit());`;

interface Plan {
  vip: string;
  service: string;
  aggregate: string;
  nobody: string;
  /** A network inside the aggregate that is attached to the node, and one that its router has. */
  inside: string;
  covering: string;
}
const plans: Record<"IPv4" | "IPv6", Plan> = {
  IPv4: {
    vip: "198.51.100.7",
    service: "198.51.100.7/32",
    aggregate: "203.0.113.0/24",
    nobody: "203.0.113.99",
    inside: "203.0.113.18",
    covering: "203.0.112.0/22",
  },
  IPv6: {
    vip: "2001:db8:51::7",
    service: "2001:db8:51::7/128",
    aggregate: "2001:db8:60::/64",
    nobody: "2001:db8:60::99",
    inside: "2001:db8:60:0:1::2",
    covering: "2001:db8:60::/56",
  },
};

let net: TestNetwork;
let us: string;
let router: string;
let client: string;
let lan: string;
let speaker: SpeakerProcess;
let servers: ChildProcess[];

beforeEach(async () => {
  net = new TestNetwork();
  servers = [];
  [us, router, client, lan] = ["us", "router", "client", "lan"].map(name => net.namespace(name));
  const pod = net.namespace("pod");
  cable(router, "2", us);
  cable(client, "1", router);
  cable(pod, "3", us);
  net.link(
    { namespace: lan, device: "eth0", addresses: ["203.0.113.18/28", "2001:db8:60:0:1::2/80"] },
    { namespace: us, device: "lan", addresses: ["203.0.113.17/28", "2001:db8:60:0:1::1/80"] },
  );
  for (const namespace of [us, router]) {
    net.exec(namespace, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
  }
  const routes: [string, string, string][] = [
    [us, "default", "10.2.0.2"],
    [us, "default", "2001:db8:2::2"],
    [us, plans.IPv4.covering, "10.2.0.2"],
    [us, plans.IPv6.covering, "2001:db8:2::2"],
    [client, "default", "10.1.0.1"],
    [client, "default", "2001:db8:1::1"],
    [pod, "default", "10.3.0.1"],
    [pod, "default", "2001:db8:3::1"],
    [lan, "default", "203.0.113.17"],
    [lan, "default", "2001:db8:60:0:1::1"],
    ...Object.values(plans).flatMap(({ service, aggregate }) =>
      [service, aggregate].map((prefix): [string, string, string] => [router, prefix, prefix.includes(":") ? "2001:db8:2::1" : "10.2.0.1"]),
    ),
  ];
  for (const [namespace, prefix, via] of routes)
    net.exec(namespace, "ip", ...(via.includes(":") ? ["-6"] : []), "route", "add", prefix, "via", via);
  const dnat = [
    "ip daddr 198.51.100.7 tcp dport 80 dnat ip to 10.3.0.2:8080",
    "ip6 daddr 2001:db8:51::7 tcp dport 80 dnat ip6 to [2001:db8:3::2]:8080",
  ];
  const chains = ["prerouting", "output"].map(hook => `chain ${hook} { type nat hook ${hook} priority -100; ${dnat.join("; ")}; };`);
  net.exec(us, "nft", `table inet proxy { ${chains.join(" ")} }`);
  const counted = `ip daddr { 198.51.100.7, 203.0.113.0/24 } iifname us counter; ip6 daddr { 2001:db8:51::7, 2001:db8:60::/64 } iifname us counter;`;
  net.exec(router, "nft", `table inet back { chain in { type filter hook prerouting priority -300; ${counted} }; }`);
  await Promise.all([pod, lan].map(serve));
  speaker = new SpeakerProcess(us, speakerConfig({ asn: 65001, routerId: "10.2.0.1", neighbors: [], startupWait: 1 }));
  await speaker.started;
  // Servers and neighbour discovery: from then on each packet arrives, or does not.
  for (const { inside, vip } of Object.values(plans)) {
    await vi.waitFor(
      () => expect([ask(us, inside, 8080), ask(client, vip, 80), ask(lan, vip, 80)]).toEqual(Array(3).fill("hello")),
      20_000,
    );
  }
});

afterEach(async () => {
  await speaker.kill();
  for (const server of servers) server.kill("SIGKILL");
  net.dispose();
});

/** Between a host and who forwards for it, of network n: .2 and .1. */
function cable(host: string, n: string, gateway: string): void {
  const name = (namespace: string) => namespace.split("-").at(-1)!;
  net.link(
    { namespace: host, device: name(gateway), addresses: [`10.${n}.0.2/24`, `2001:db8:${n}::2/64`] },
    { namespace: gateway, device: name(host), addresses: [`10.${n}.0.1/24`, `2001:db8:${n}::1/64`] },
  );
}

/** Resolves when it listens. */
function serve(namespace: string): Promise<void> {
  const server = spawn("ip", ["netns", "exec", namespace, process.execPath, "-e", SERVER], { stdio: ["ignore", "pipe", "pipe"] });
  servers.push(server);
  return new Promise((resolve, reject) => {
    let said = "";
    server.stderr.on("data", text => {
      said += text;
    });
    server.stdout.once("data", () => resolve());
    server.once("exit", code => reject(new Error(`the server in ${namespace} ended with ${code}: ${said}`)));
  });
}

function ask(namespace: string, host: string, port: number): string {
  return net.exec(namespace, process.execPath, "-e", ASK, host, String(port)).trim();
}

/** How often the router gets back a packet that a host has sent to the node. */
function returned(from: string, host: string): number {
  const count = () =>
    [...net.exec(router, "nft", "list", "table", "inet", "back").matchAll(/counter packets (\d+)/g)].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    );
  const before = count();
  net.exec(from, process.execPath, "-e", SEND, host);
  // By the same way, after it.
  expect(ask(from, host.includes(":") ? plans.IPv6.vip : plans.IPv4.vip, 80)).toBe("hello");
  return count() - before;
}

const announced = ({ service, aggregate }: Plan, discard: NetworkConfig["discard"]) =>
  [service, aggregate].map((prefix): [string, NetworkConfig] => [prefix, { ...network(prefix), kind: "service", discard }]);

async function announce(discard: NetworkConfig["discard"]): Promise<void> {
  await speaker.changeNetworks(Object.values(plans).flatMap(plan => announced(plan, discard)));
  await speaker.settled();
}

describe.each(Object.entries(plans))("%s Services", (_, plan) => {
  it("are reached, and what nobody takes ends at the node, where it went round until its hops were used up", {
    timeout: 60_000,
  }, async () => {
    await announce(false);
    for (const host of [plan.vip, plan.nobody]) expect(returned(client, host)).toBeGreaterThan(20);
    await announce("transit");
    for (const host of [plan.vip, plan.nobody])
      for (const from of [client, lan]) expect([host, from, returned(from, host)]).toEqual([host, from, 0]);
    // The node itself, through its OUTPUT chain; and what is in the aggregate and attached.
    for (const from of [us, client, lan]) expect([from, ask(from, plan.vip, 80)]).toEqual([from, "hello"]);
    for (const from of [us, client, lan]) expect([from, ask(from, plan.inside, 8080)]).toEqual([from, "hello"]);
  });

  it("would not be reached by the node itself with a discard for all packets", { timeout: 60_000 }, async () => {
    await announce(true);
    expect([ask(us, plan.vip, 80), ask(client, plan.vip, 80)]).toEqual(["EINVAL", "hello"]);
  });

  it("stay discarded while their agent is dead", { timeout: 60_000 }, async () => {
    await announce("transit");
    await speaker.kill();
    expect(returned(client, plan.nobody)).toBe(0);
    expect(ask(us, plan.vip, 80)).toBe("hello");
  });
});
