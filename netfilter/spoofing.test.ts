/** Attacks from a pod's namespace, with real frames: each comes through without the guard and does not with it, and what a pod rightly says comes through. */
import { expect, it, onTestFinished, vi } from "vitest";
import { describeKernel, type TestNetns, testNetns } from "../kernel/testnetns.ts";
import { formatAddress } from "../net/address.ts";
import { transaction } from "./json.ts";
import { nft } from "./nft.ts";
import { type GuardedPod, linkLocal, Spoofing, SpoofingCounters } from "./spoofing.ts";
import * as frames from "./testing/frames.ts";
import { openPacketSocket } from "./testing/packet-socket.ts";

const MAC = "02:00:00:00:00:0a";
const OTHER_MAC = "02:00:00:00:00:0b";
const OWN = { ipv4: "10.0.0.10", ipv6: "fd00::10" };
const OTHER = { ipv4: "10.0.0.11", ipv6: "fd00::11" };
const GATEWAY = { ipv4: "10.0.0.1", ipv6: "fd00::1" };
const LINK_LOCAL = formatAddress(linkLocal(MAC));
const guarded = { hostInterface: "pla", mac: MAC, addresses: [OWN.ipv4, OWN.ipv6] };

const udpFrom = (source: string, mac = MAC) =>
  frames.udp(mac, source, source.includes(":") ? OTHER.ipv6 : OTHER.ipv4, [4000, 4000], "spoof", OTHER_MAC);

/** What must not come through, by name, and the counter that tells. */
const attacks: [string, string, keyof typeof SpoofingCounters][] = [
  ["another pod's IPv4 address", udpFrom(OTHER.ipv4), "source"],
  ["an IPv4 address of elsewhere", udpFrom("192.0.2.1"), "source"],
  ["another pod's IPv6 address", udpFrom(OTHER.ipv6), "source"],
  ["another link-local address", udpFrom("fe80::1"), "source"],
  ["no IPv6 address", udpFrom("::"), "source"],
  ["another MAC", udpFrom(OWN.ipv4, "02:00:00:00:00:99"), "mac"],
  ["an ARP answer for the gateway", frames.arp(MAC, 2, { mac: MAC, address: GATEWAY.ipv4 }, OTHER.ipv4), "arp"],
  ["an ARP request as another pod", frames.arp(MAC, 1, { mac: MAC, address: OTHER.ipv4 }, GATEWAY.ipv4), "arp"],
  ["an ARP answer with another's MAC", frames.arp(MAC, 2, { mac: OTHER_MAC, address: OWN.ipv4 }, OTHER.ipv4), "arp"],
  ["an ARP answer of nobody", frames.arp(MAC, 2, { mac: MAC, address: "0.0.0.0" }, OTHER.ipv4), "arp"],
  ["an advertisement for the gateway", frames.neighbour(MAC, 136, OWN.ipv6, GATEWAY.ipv6), "neighbour"],
  ["an advertisement for another pod", frames.neighbour(MAC, 136, LINK_LOCAL, OTHER.ipv6), "neighbour"],
  ["duplicate address detection for another's address", frames.neighbour(MAC, 135, "::", OTHER.ipv6), "neighbour"],
  ["a router advertisement", frames.routerAdvertisement(MAC, LINK_LOCAL), "router"],
  ["a router advertisement behind another header", frames.routerAdvertisement(MAC, LINK_LOCAL, true), "router"],
  ["an IPv6 redirect", frames.icmp(MAC, LINK_LOCAL, "ff02::1", 137, Array(36).fill(0)), "router"],
  ["an IPv4 redirect", frames.icmp(MAC, OWN.ipv4, OTHER.ipv4, 5, Array(28).fill(0), OTHER_MAC), "router"],
  ["a DHCP offer", frames.udp(MAC, OWN.ipv4, "255.255.255.255", [67, 68], "offer"), "dhcp"],
  ["a DHCPv6 reply", frames.udp(MAC, LINK_LOCAL, "ff02::1", [547, 546], "reply"), "dhcp"],
  ["a VLAN tag", frames.tagged(MAC, "tagged"), "other"],
  ["another protocol", frames.ethernet(MAC, 0x88b5, Array(50).fill(1)), "other"],
  // The last: the bridge believes from then on that the other pod is here.
  ["another pod's MAC", frames.udp(OTHER_MAC, OWN.ipv6, OTHER.ipv6, [4000, 4000], "spoof"), "mac"],
];

const legitimate: [string, string][] = [
  ["its IPv4 address", udpFrom(OWN.ipv4)],
  ["its IPv6 address", udpFrom(OWN.ipv6)],
  ["its link-local address", udpFrom(LINK_LOCAL)],
  ["gratuitous ARP", frames.arp(MAC, 1, { mac: MAC, address: OWN.ipv4 }, OWN.ipv4)],
  ["an ARP probe", frames.arp(MAC, 1, { mac: MAC, address: "0.0.0.0" }, OWN.ipv4)],
  ["an ARP answer", frames.arp(MAC, 2, { mac: MAC, address: OWN.ipv4 }, OTHER.ipv4)],
  ["an advertisement of its own", frames.neighbour(MAC, 136, OWN.ipv6, OWN.ipv6)],
  ["a question for another", frames.neighbour(MAC, 135, OWN.ipv6, OTHER.ipv6)],
  ["duplicate address detection", frames.neighbour(MAC, 135, "::", OWN.ipv6)],
  ["duplicate address detection of the link-local address", frames.neighbour(MAC, 135, "::", LINK_LOCAL)],
  ["a router solicitation", frames.icmp(MAC, "::", "ff02::2", 133, [0, 0, 0, 0])],
  ["MLDv2 without an address", frames.icmp(MAC, "::", "ff02::16", 143, [0, 0, 0, 0])],
  ["MLD", frames.icmp(MAC, LINK_LOCAL, "ff02::16", 131, Array(20).fill(0))],
  ["IGMP", frames.igmpReport(MAC, OWN.ipv4, "224.0.0.251")],
  ["an answer to an echo request", frames.icmp(MAC, OWN.ipv4, OTHER.ipv4, 0, [0, 1, 0, 1], OTHER_MAC)],
];

/** A node with the pod "a" at pla and the pod "b" at plb. */
function node(): { node: TestNetns; a: TestNetns; b: TestNetns } {
  const [machine, a, b] = [testNetns(), testNetns(), testNetns()];
  for (const [pod, name, mac] of [
    [a, "pla", MAC],
    [b, "plb", OTHER_MAC],
  ] as const) {
    machine.ip(`link add ${name} type veth peer name eth0 netns ${pod.name}`);
    pod.ip(`link set eth0 address ${mac}`);
    // What the kernel says by itself is not what is tested.
    pod.run("sysctl", ["-qw", "net.ipv6.conf.eth0.disable_ipv6=1"]);
  }
  return { node: machine, a, b };
}

async function guard(machine: TestNetns, pod: GuardedPod): Promise<void> {
  const changes = new Spoofing().set(pod);
  const differences = changes.map(({ object }) => ({ before: undefined, after: object }));
  await nft(["ip", "netns", "exec", machine.name, "nft"])(transaction(differences));
}

/** As a packet socket shows it: the kernel keeps the tag beside the frame. */
function untagged(frame: string): string {
  return frame.slice(24, 28) === "8100" ? frame.slice(0, 24) + frame.slice(32) : frame;
}

function counted(machine: TestNetns, family: string): Record<string, number> {
  const { nftables } = JSON.parse(machine.run("nft", ["-j", "list", "counters", "table", family, "podlane"]));
  const counters = nftables as { counter?: { name: string; packets: number } }[];
  return Object.fromEntries(counters.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets]] : [])));
}

it("has counters as long as there are pods, or pods will come", () => {
  const spoofing = new Spoofing();
  const isCounting = () => spoofing.isCounting;
  expect(isCounting()).toBe(false);
  spoofing.set({ ...guarded, bridged: false });
  expect(isCounting()).toBe(true);
  spoofing.delete(guarded.hostInterface);
  expect(isCounting()).toBe(false);
  spoofing.expectPods(true);
  spoofing.set({ ...guarded, bridged: true });
  spoofing.delete(guarded.hostInterface);
  // They go on when the next pod comes.
  expect(isCounting()).toBe(true);
  spoofing.expectPods(undefined);
  expect(isCounting()).toBe(false);
});

describeKernel("the guard on a bridge", () => {
  it("lets nothing through that another should say, and all that the pod itself may say", async () => {
    const { node: machine, a, b } = node();
    machine.ip("link add br0 type bridge mcast_snooping 0");
    for (const name of ["pla", "plb"]) machine.ip(`link set ${name} master br0 up`);
    machine.ip("link set br0 up");
    for (const pod of [a, b]) pod.ip("link set eth0 up");
    await vi.waitFor(() => expect(machine.json<{ ifname: string }>("link show up")).not.toHaveLength(0));
    const attacker = openPacketSocket(a.path, "eth0");
    const victim = openPacketSocket(b.path, "eth0");
    onTestFinished(() => {
      attacker.close();
      victim.close();
    });
    /** Which of these come through: a frame that always does ends the wait. */
    const through = async (all: readonly (readonly [string, string, ...unknown[]])[]): Promise<string[]> => {
      const seen = new Set<string>();
      const hear = (text: string) =>
        vi.waitFor(() => {
          const mark = frames.udp(MAC, OWN.ipv4, OTHER.ipv4, [4000, 4000], text);
          attacker.send(mark);
          for (const frame of victim.received()) seen.add(frame);
          expect(seen).toContain(mark);
        });
      await hear("begin");
      for (const [, frame] of all) attacker.send(frame);
      await hear("end");
      return all.filter(([, frame]) => seen.has(untagged(frame))).map(([name]) => name);
    };
    const names = attacks.map(([name]) => name);
    expect(await through(attacks)).toEqual(names);
    machine.run("bridge", ["fdb", "replace", OTHER_MAC, "dev", "plb", "master", "static"]);
    await guard(machine, { ...guarded, bridged: true });
    expect(await through(attacks)).toEqual([]);
    const expected = Object.entries(SpoofingCounters).map(([what, name]) => [name, attacks.filter(([, , one]) => one === what).length]);
    expect(counted(machine, "bridge")).toEqual(Object.fromEntries(expected));
    expect(await through(legitimate)).toEqual(legitimate.map(([name]) => name));
    expect(counted(machine, "bridge")).toEqual(Object.fromEntries(expected));
    // Of a port that it does not know it lets all through: no pod that runs is cut off.
    machine.ip("link set pla down");
    machine.ip("link set pla name plc");
    machine.ip("link set plc up");
    expect(await through(attacks.slice(0, 3))).toHaveLength(3);
  });
});

describeKernel("the guard on links of their own", () => {
  it("lets a pod speak for itself alone, and never as a router", async () => {
    const { node: machine, a, b } = node();
    for (const [name, { ipv4, ipv6 }] of [
      ["pla", OWN],
      ["plb", OTHER],
    ] as const) {
      machine.run("sysctl", [
        "-qw",
        `net.ipv4.conf.${name}.rp_filter=0`,
        `net.ipv6.conf.${name}.accept_ra=2`,
        `net.ipv6.conf.${name}.accept_dad=0`,
      ]);
      machine.ip(`link set ${name} up`);
      machine.ip(`route add ${ipv4}/32 dev ${name}`);
      machine.ip(`-6 route add ${ipv6}/128 dev ${name}`);
      machine.ip(`addr add 169.254.1.1/32 dev ${name}`);
    }
    machine.run("sysctl", ["-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    machine.ip(`neigh add ${OTHER.ipv4} lladdr ${OTHER_MAC} dev plb nud permanent`);
    machine.ip(`-6 neigh add ${OTHER.ipv6} lladdr ${OTHER_MAC} dev plb nud permanent`);
    for (const pod of [a, b]) pod.ip("link set eth0 up");
    const [{ address: nodeMac }] = machine.json<{ address: string }>("link show pla");
    const attacker = openPacketSocket(a.path, "eth0");
    const victim = openPacketSocket(b.path, "eth0");
    onTestFinished(() => {
      attacker.close();
      victim.close();
    });
    const udp = (source: string, text: string, mac = MAC) =>
      frames.udp(mac, source, source.includes(":") ? OTHER.ipv6 : OTHER.ipv4, [4000, 4000], text, nodeMac);
    const claim = frames.arp(MAC, 1, { mac: MAC, address: "10.0.0.99" }, "169.254.1.1");
    const cases = [udp("10.0.0.99", "one"), udp("fd00::99", "two"), udp(OWN.ipv4, "three", OTHER_MAC)];
    const advertisement = frames.routerAdvertisement(MAC, LINK_LOCAL);
    const heard: string[] = [];
    const reach = async (text: string) => {
      await vi.waitFor(() => {
        for (const source of [OWN.ipv4, OWN.ipv6]) attacker.send(udp(source, text));
        heard.push(...victim.received());
        expect(heard.filter(frame => frame.endsWith(Buffer.from(text).toString("hex"))).length).toBeGreaterThan(1);
      });
    };
    const arrived = () => ["one", "two", "three"].filter(text => heard.some(frame => frame.endsWith(Buffer.from(text).toString("hex"))));
    const attack = async (text: string) => {
      heard.length = 0;
      for (const frame of [...cases, claim, advertisement]) attacker.send(frame);
      await reach(text);
    };
    const learned = () => machine.ip("neigh show dev pla").includes("10.0.0.99");
    const defaults = () => machine.ip("-6 route show default");
    await reach("begin");
    await attack("without");
    expect(arrived()).toEqual(["one", "two", "three"]);
    await vi.waitFor(() => expect(learned()).toBe(true));
    expect(defaults()).toContain("proto ra");
    machine.ip("neigh flush dev pla");
    machine.ip("-6 route del default");
    await guard(machine, { ...guarded, bridged: false });
    await attack("within");
    expect(arrived()).toEqual([]);
    expect(learned()).toBe(false);
    expect(defaults()).toBe("");
    expect(counted(machine, "inet")).toMatchObject({ "spoof-source": 2, "spoof-mac": 1, "spoof-router": 1 });
    expect(counted(machine, "arp")).toMatchObject({ "spoof-arp": 1 });
  });
});
