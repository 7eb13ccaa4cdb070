/**
 * Policies in the kernel: random ones of random clusters, loaded as the writer loads them, against real packets between namespaces, routed and through a
 * bridge. What each packet came to is read from the kernel: a table of the test's own records whom it saw before the policies, and whom behind them.
 */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, expect, test, vi } from "vitest";
import { bind, connectSocket, constants, listenSocket, socket, withNetns } from "../../kernel/index.ts";
import { encodeSockaddr } from "../../kernel/socket.ts";
import { describeKernel } from "../../kernel/testnetns.ts";
import { parseAddress } from "../../net/address.ts";
import { canonical, parseListing, sameObject, transaction } from "../../netfilter/json.ts";
import { type Nft, nft } from "../../netfilter/nft.ts";
import { PolicyIndex } from "../../netfilter/policy/policy-index.ts";
import { passes } from "../../netfilter/policy/testing/oracle.ts";
import { step, World } from "../../netfilter/policy/testing/random-cluster.ts";
import type { NetworkPolicyObject } from "../../netfilter/policy/types.ts";
import type { RulesetObject } from "../../netfilter/ruleset.ts";
import type { RulesetChange } from "../../netfilter/types.ts";
import { TestNetwork } from "../network.ts";

type Mode = "routed" | "bridge";

interface Host {
  namespace: string;
  addresses: string[];
}

interface Probe {
  source: string;
  destination: string;
  protocol: "TCP" | "UDP";
  port: number;
}

const Ports: [Probe["protocol"], number][] = [
  ["TCP", 80],
  ["TCP", 8080],
  ["UDP", 53],
];
const SEED = Number(process.env.PODLANE_SEED ?? 7);
const WORLDS = Number(process.env.PODLANE_RUNS ?? 8);

/** One before the policies, one behind them. */
const recorder = ["seen:0", "passed:20"]
  .flatMap(text => {
    const [name, priority] = text.split(":");
    return [4, 6].flatMap(family => {
      const ip = family === 4 ? "ip" : "ip6";
      const type = `ipv${family}_addr`;
      return [
        `add set inet recorder ${name}${family} { type ${type} . ${type} . inet_proto . inet_service; flags dynamic; size 65535; }`,
        `add chain inet recorder ${name} { type filter hook forward priority ${priority}; }`,
        `add rule inet recorder ${name} ct state new th dport != 0 add @${name}${family} { ${ip} saddr . ${ip} daddr . meta l4proto . th dport }`,
      ];
    });
  })
  .join("\n");

class Rack {
  readonly network = new TestNetwork();
  readonly node: string;
  readonly hosts: Host[] = [];
  readonly #nft: Nft;
  readonly #kernel = new Map<string, RulesetObject>();

  constructor(mode: Mode, pods: number) {
    this.node = this.network.namespace("node");
    this.#nft = nft(["ip", "netns", "exec", this.node, "nft"]);
    this.#shell("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0");
    if (mode === "bridge") {
      this.#shell("ip link add br0 type bridge forward_delay 0 nf_call_iptables 1 nf_call_ip6tables 1 && ip link set br0 up");
      this.#shell("ip addr add 10.0.255.254/16 dev br0 && ip addr add fd00::ff:ff/64 dev br0 nodad");
    }
    for (const group of [0, 1, 2]) for (let number = 1; number <= pods; number++) this.#pod(mode, group, number);
    this.#outside();
  }

  [Symbol.dispose](): void {
    this.network.dispose();
  }

  async apply(changes: readonly RulesetChange[]): Promise<void> {
    await this.#nft(transaction(changes.map(({ key, object }) => ({ before: this.#kernel.get(key), after: object }))));
    for (const { key, object } of changes) {
      if (object) this.#kernel.set(key, object);
      else this.#kernel.delete(key);
    }
  }

  /** What of these came through, once all of them were seen. */
  async send(probes: readonly Probe[]): Promise<Set<string>> {
    this.#shell(`nft -f - <<'END'\nadd table inet recorder\ndelete table inet recorder\nadd table inet recorder\n${recorder}\nEND`);
    const open = probes.map(probe => this.#fire(probe));
    try {
      const wanted = new Set(probes.map(textOf));
      for (;;) {
        const seen = this.#recorded("seen");
        if ([...wanted].every(one => seen.has(one))) break;
        await delay(20);
      }
      return new Set([...this.#recorded("passed")].filter(one => wanted.has(one)));
    } finally {
      for (const close of open) close();
    }
  }

  hostOf(address: string): Host {
    return this.hosts.find(({ addresses }) => addresses.includes(address))!;
  }

  path(host: Host): string {
    return this.network.path(host.namespace);
  }

  /** As kube-proxy does it: the destination of Services, and the source of who comes back to itself. */
  translate(services: Record<string, string>): void {
    const rules = Object.entries(services).map(([service, backend]) => {
      const [[address, port], [pod]] = [service.split(":"), backend.split(":")];
      return `add rule ip proxy pre ip daddr ${address} tcp dport ${port} dnat to ${backend}\nadd rule ip proxy post ip saddr ${pod} ip daddr ${pod} masquerade`;
    });
    const chains = [
      "add chain ip proxy pre { type nat hook prerouting priority -100; }",
      "add chain ip proxy post { type nat hook postrouting priority 100; }",
    ];
    const table = ["add table ip proxy", "delete table ip proxy", "add table ip proxy", ...chains, ...rules].join("\n");
    this.#shell(`nft -f - <<'END'\n${table}\nEND`);
  }

  /** Packets that named counters of ours counted. */
  counted(): Map<string, number> {
    const listed = JSON.parse(this.network.exec(this.node, "nft", "-j", "list", "counters", "table", "inet", "podlane"));
    const counters = (listed.nftables as { counter?: { name: string; packets: number } }[]).flatMap(({ counter }) => counter ?? []);
    return new Map(counters.map(({ name, packets }) => [name, packets]));
  }

  #fire({ source, destination, protocol, port }: Probe): () => void {
    const netns = this.path(this.hostOf(source));
    const [address, localAddress] = [parseAddress(destination), parseAddress(source)];
    const family = address.length === 4 ? 4 : 6;
    if (protocol === "TCP") {
      const client = connectSocket({ netns, address, port, localAddress });
      client.on("error", () => {});
      return () => client.destroy();
    }
    const client = createSocket(family === 4 ? "udp4" : "udp6");
    client.on("error", () => {});
    const fd = withNetns(netns, () => {
      const made = socket(family === 4 ? constants.AF_INET : constants.AF_INET6, constants.SOCK_DGRAM, 0, "open a UDP socket");
      bind(made, encodeSockaddr(localAddress, 0), "bind a UDP socket");
      return made;
    });
    client.bind({ fd }, () => client.send("probe", port, destination));
    return () => client.close();
  }

  #recorded(name: string): Set<string> {
    const texts = [4, 6].flatMap(family => {
      const listed = JSON.parse(this.network.exec(this.node, "nft", "-j", "list", "set", "inet", "recorder", `${name}${family}`));
      const elements =
        (listed.nftables as { set?: { elem?: { concat: [string, string, string | number, number] }[] } }[])[1].set?.elem ?? [];
      return elements.map(({ concat: [source, destination, protocol, port] }) => {
        const name = protocol === "tcp" || protocol === 6 ? "TCP" : "UDP";
        return textOf({ source, destination, protocol: name, port });
      });
    });
    return new Set(texts);
  }

  #pod(mode: Mode, group: number, number: number): void {
    const namespace = this.network.namespace(`${group}${number}`);
    const [four, six] = [`10.0.${group}.${number}`, `fd00::${group + 1}:${number}`];
    const device = `v${group}${number}`;
    this.hosts.push({ namespace, addresses: [four, six] });
    if (mode === "bridge") {
      this.network.link({ namespace, device: "eth0", addresses: [`${four}/16`, `${six}/64`] }, { namespace: this.node, device });
      this.#shell(`ip link set ${device} master br0 && bridge link set dev ${device} hairpin on`);
      this.#shell("ip route add default via 10.0.255.254 && ip -6 route add default via fd00::ff:ff", namespace);
    } else {
      const gateway = { namespace: this.node, device, addresses: ["169.254.1.1/32", "fe80::1/64"] };
      this.network.link({ namespace, device: "eth0", addresses: [`${four}/32`, `${six}/128`] }, gateway);
      this.#shell(`ip route add ${four} dev ${device} && ip -6 route add ${six} dev ${device}`);
      this.#shell(
        "ip route add 169.254.1.1 dev eth0 && ip route add default via 169.254.1.1 && ip -6 route add default via fe80::1 dev eth0",
        namespace,
      );
    }
  }

  #outside(): void {
    const namespace = this.network.namespace("outside");
    const addresses = ["192.0.2.9", "2001:db8::2"];
    this.hosts.push({ namespace, addresses });
    this.network.link(
      { namespace, device: "eth0", addresses: ["192.0.2.9/24", "2001:db8::2/64"] },
      { namespace: this.node, device: "uplink", addresses: ["192.0.2.1/24", "2001:db8::1/64"] },
    );
    this.#shell("ip route add 10.0.0.0/8 via 192.0.2.1 && ip -6 route add fd00::/16 via 2001:db8::1", namespace);
  }

  #shell(script: string, namespace = this.node): void {
    this.network.exec(namespace, "sh", "-ec", script);
  }
}

function textOf({ source, destination, protocol, port }: Probe): string {
  return `${protocol} ${source} -> ${destination}:${port}`;
}

function allProbes({ hosts }: Rack): Probe[] {
  const all = hosts.flatMap(({ addresses }) => addresses);
  return all.flatMap(source =>
    all
      .filter(destination => destination !== source && destination.includes(":") === source.includes(":"))
      .flatMap(destination => Ports.map(([protocol, port]) => ({ source, destination, protocol, port }))),
  );
}

describeKernel.each<Mode>(["routed", "bridge"])("%s", mode => {
  const rack = new Rack(mode, 2);
  afterAll(() => rack[Symbol.dispose]());

  test("random policies do to packets what the documents say, from one to the next", async () => {
    for (const steps of fc.sample(fc.array(step, { minLength: 15, maxLength: 40 }), { seed: SEED, numRuns: WORLDS })) {
      const index = new PolicyIndex({ log: { perSecond: 1, burst: 1 } });
      const world = new World(index);
      for (const one of steps) {
        world.do(one);
        if ("take" in one) await rack.apply(index.take());
      }
      await rack.apply(index.take());
      const { cluster, attachments } = world;
      const here = new Set([...attachments.values()].flatMap(({ addresses }) => addresses));
      const probes = allProbes(rack);
      const wanted = probes.filter(probe => {
        const out = !here.has(probe.source) || passes(cluster, probe, "egress");
        return out && (!here.has(probe.destination) || passes(cluster, probe, "ingress"));
      });
      const passed = await rack.send(probes);
      expect([...passed].sort()).toEqual(wanted.map(textOf).sort());
      const gone = [...index.objects()].map(([key]) => ({ key, object: undefined }));
      await rack.apply(gone);
    }
  }, 240_000);

  /** The first pod is shut, whatever comes; pods 10.0.1.* are in another namespace. */
  function shut(policy: Partial<NetworkPolicyObject>): PolicyIndex {
    const index = new PolicyIndex();
    const about = { labels: {}, hostNetwork: false, ended: false, ports: [] };
    for (const [at, namespace] of ["a", "b"].entries()) {
      const { addresses } = rack.hosts[at * 2];
      index.setPod({ key: `${namespace}/p1`, namespace, name: "p1", addresses, ...about });
      index.setAttachment({ key: `${namespace}/p1`, addresses, hostInterface: `v${at}1` });
    }
    if (Object.keys(policy).length > 0) index.setPolicy({ key: "a/shut", namespace: "a", name: "shut", pods: {}, ...policy });
    index.settle();
    return index;
  }

  async function clear(index: PolicyIndex): Promise<void> {
    await rack.apply([...index.objects()].map(([key]) => ({ key, object: undefined })));
  }

  test("a connection that is there goes on when a policy comes, a new one is dropped and counted, and passes when the policy is gone", async () => {
    const index = shut({});
    await rack.apply(index.take());
    const [server, client] = [rack.hosts[0], rack.hosts[2]];
    const address = parseAddress(server.addresses[0]);
    const listener = listenSocket({ netns: rack.path(server), address, port: 7000 }, one => one.pipe(one).on("error", () => {}));
    const connection = connectSocket({ netns: rack.path(client), address, port: 7000 });
    try {
      connection.write("before");
      expect(String(await once(connection, "data"))).toBe("before");
      index.setPolicy({ key: "a/shut", namespace: "a", name: "shut", pods: {}, ingress: [] });
      index.settle();
      await rack.apply(index.take());
      connection.write("behind");
      expect(String(await once(connection, "data"))).toBe("behind");
      const probe: Probe = { source: client.addresses[0], destination: server.addresses[0], protocol: "TCP", port: 7000 };
      expect(await rack.send([probe])).toEqual(new Set());
      const [{ name, ...counter }] = index.counters();
      expect(counter).toEqual({ policy: "a/shut", direction: "ingress" });
      expect(rack.counted().get(name)).toBeGreaterThan(0);
      index.deletePolicy("a/shut");
      index.settle();
      await rack.apply(index.take());
      expect(await rack.send([probe])).toEqual(new Set([textOf(probe)]));
    } finally {
      connection.destroy();
      listener.server.close();
      await clear(index);
    }
  });

  test("through a Service the policy sees the backend, and a pod reaches itself", async () => {
    const index = shut({ ingress: [], egress: [{ peers: [{ pods: {}, namespaces: {} }], ports: [{ protocol: "TCP", port: 7001 }] }] });
    await rack.apply(index.take());
    const [self, other] = [rack.hosts[0], rack.hosts[2]];
    rack.translate({ "10.96.0.1:80": `${self.addresses[0]}:7001`, "10.96.0.2:80": `${other.addresses[0]}:7001` });
    const netns = rack.path(self);
    const listeners = [self, other].map(host =>
      listenSocket({ netns: rack.path(host), address: parseAddress(host.addresses[0]), port: 7001 }, one => one.destroy()),
    );
    try {
      for (const service of ["10.96.0.1", "10.96.0.2"]) {
        const connection = connectSocket({ netns, address: parseAddress(service), port: 80 });
        await once(connection, "connect");
        connection.destroy();
      }
    } finally {
      for (const { server } of listeners) server.close();
      rack.translate({});
      await clear(index);
    }
  });

  test("what the kernel lists is what was wanted, so that a restarted agent changes nothing", async () => {
    const index = shut({
      ingress: [
        { peers: [{ block: { cidr: "0.0.0.0/0", except: ["10.0.0.0/8", "192.0.2.9/32"] } }, { block: { cidr: "fd00::/16", except: [] } }] },
        {
          peers: [{ namespaces: {} }],
          ports: [{ protocol: "TCP", port: 80, endPort: 90 }, { protocol: "UDP", port: "dns" }, { protocol: "SCTP" }],
        },
      ],
      egress: [{ ports: [{ protocol: "TCP", port: "http" }] }],
    });
    await rack.apply(index.take());
    const listed = parseListing(rack.network.exec(rack.node, "nft", "-j", "list", "table", "inet", "podlane"));
    expect([...listed.keys()].sort()).toEqual([...index.objects().keys()].sort());
    const differing = [...index.objects()].filter(([key, object]) => !sameObject(listed.get(key)!, canonical(object)));
    expect(differing).toEqual([]);
    await clear(index);
  });
});

describeKernel("frames between ports of a bridge", () => {
  test("a pod that is shut is not reached by its link-local address or by a group either", async context => {
    context.skip(!existsSync("/usr/bin/ping") && !existsSync("/bin/ping"), "there is no ping");
    using rack = new Rack("bridge", 1);
    const [shut, other, open] = rack.hosts;
    const show = rack.network.exec(shut.namespace, "ip", "-j", "-6", "addr", "show", "dev", "eth0");
    const all = (JSON.parse(show) as { addr_info?: { local: string; scope: string }[] }[]).flatMap(({ addr_info = [] }) => addr_info);
    const linkLocal = all.find(({ scope }) => scope === "link")!.local;
    /** Who answered. */
    const answers = (target: string) => {
      try {
        const text = rack.network.exec(other.namespace, "ping", "-6", "-n", "-c2", "-i0.2", "-W1", target);
        return [...text.matchAll(/from ([0-9a-f:]+)/g)].map(([, from]) => from.replace(/:$/, ""));
      } catch {
        return [];
      }
    };
    await vi.waitFor(() => expect(answers(`${linkLocal}%eth0`)).toContain(linkLocal), { timeout: 20_000 });
    const own = [linkLocal, ...shut.addresses];
    const answersGroup = () => answers("ff02::1%eth0").filter(one => own.includes(one));
    await vi.waitFor(() => expect(answersGroup()).not.toEqual([]), { timeout: 20_000 });
    const index = new PolicyIndex();
    const about = { labels: {}, hostNetwork: false, ended: false, ports: [] };
    index.setPod({ key: "a/p1", namespace: "a", name: "p1", addresses: shut.addresses, ...about });
    index.setAttachment({ key: "a/p1", addresses: shut.addresses, hostInterface: "v01", bridge: "br0" });
    index.setPolicy({ key: "a/shut", namespace: "a", name: "shut", pods: {}, ingress: [] });
    index.settle();
    await rack.apply(index.take());
    expect(answers(`${linkLocal}%eth0`)).toEqual([]);
    expect(answersGroup()).toEqual([]);
    expect(answers(shut.addresses[1])).toEqual([]);
    // Neighbours are found as before: the node, and a pod that is not shut.
    expect(answers("fd00::ff:ff")).toContain("fd00::ff:ff");
    expect(answers(open.addresses[1])).toContain(open.addresses[1]);
  });
});
