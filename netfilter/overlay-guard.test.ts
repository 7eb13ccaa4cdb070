/** Who may put packets into tunnels, with real ones: what comes out of a VXLAN device, by the sender's address. */
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { describeKernel, testNetns } from "../kernel/testnetns.ts";
import { hexOf } from "../net/octets.ts";
import { OVERLAY_PREFIX, overlayGuardChanges } from "./overlay-guard.ts";
import { udp } from "./testing/frames.ts";
import { openPacketSocket } from "./testing/packet-socket.ts";
import { writerIn } from "./testing/writer.ts";

const PORT = 4789;
/** "ABC" and "ABD" as octets: frames are made of text here. */
const VNI = 0x414243;
const OTHER_VNI = 0x414244;
const plan = { vni: VNI, port: PORT, nodes: [{ addresses: ["10.0.0.2", "2001:db8::2"] }, { addresses: ["10.0.0.1"] }] };

describe("changes of the guard of tunnels", () => {
  it("are elements of sets where nodes come and go", () => {
    const more = overlayGuardChanges({ ...plan, nodes: [...plan.nodes, { addresses: ["2001:db8::3"] }] });
    const chains = (changes: typeof more) => changes.filter(({ object }) => object?.kind === "chain");
    expect(chains(more)).toEqual(chains(overlayGuardChanges(plan)));
    const elements = (changes: typeof more) =>
      Object.fromEntries(changes.flatMap(({ key, object }) => (object?.kind === "set" ? [[key, [...object.elements.keys()]]] : [])));
    expect(elements(overlayGuardChanges(plan))).toEqual({
      "inet podlane set overlay-nodes4": ["10.0.0.1", "10.0.0.2"],
      "inet podlane set overlay-nodes6": ["2001:db8::2"],
    });
    expect(elements(more)["inet podlane set overlay-nodes6"]).toEqual(["2001:db8::2", "2001:db8::3"]);
  });

  it("take the same objects away where there is no overlay", () => {
    const none = overlayGuardChanges(undefined);
    expect(none.map(({ key }) => key)).toEqual(overlayGuardChanges(plan).map(({ key }) => key));
    expect(none.every(({ object }) => object === undefined)).toBe(true);
  });
});

const Families = {
  IPv4: { own: "192.0.2.1", node: "192.0.2.2", outsider: "192.0.2.9", length: 24 },
  IPv6: { own: "2001:db8::1", node: "2001:db8::2", outsider: "2001:db8::9", length: 64 },
};

describeKernel("the guard of tunnels", () => {
  it.each(Object.entries(Families))("lets nodes alone put packets into them: %s", async (_name, { own, node, outsider, length }) => {
    const [here, there] = [testNetns(), testNetns()];
    here.ip(`link add up0 type veth peer name eth0 netns ${there.name}`);
    here.ip("link set up0 up");
    there.ip("link set eth0 up");
    here.ip(`addr add ${own}/${length} dev up0${length === 64 ? " nodad" : ""}`);
    const [{ address: mac }] = here.json<{ address: string }>("link show up0");
    const sender = openPacketSocket(there.path, "eth0");
    const [inside, beside] = [VNI, OTHER_VNI].map(vni => {
      here.ip(`link add vx${vni} type vxlan id ${vni} dstport ${PORT} local ${own} nolearning`);
      here.ip(`link set vx${vni} up`);
      return openPacketSocket(here.path, `vx${vni}`);
    });
    const writer = writerIn(here);
    onTestFinished(() => {
      for (const socket of [sender, inside, beside]) socket.close();
    });
    const send = (source: string, text: string, identifier = "ABC") => {
      const frame = `\x02\0\0\0\0\x0b\x02\0\0\0\0\x0a\x08\0${text.padStart(60, "E")}`;
      sender.send(udp("02:00:00:00:00:0c", source, own, [50_000, PORT], `\x08\0\0\0${identifier}\0${frame}`, mac));
    };
    const isHeard = (socket: typeof inside, text: string) =>
      vi.waitFor(() => expect(socket.received().join(" ")).toContain(hexOf(new TextEncoder().encode(text))));
    const dropped = () => Number(/packets (\d+)/.exec(here.run("nft", ["list", "counter", "inet", "podlane", "overlay-outsiders"]))?.[1]);

    send(outsider, "before");
    await isHeard(inside, "before");
    await writer.change(overlayGuardChanges({ ...plan, nodes: [{ addresses: [node] }] }));
    const rules = () => here.run("nft", ["-a", "list", "chain", "inet", "podlane", "overlay-input"]);
    const before = rules();
    send(outsider, "kept out");
    await vi.waitFor(() => expect(dropped()).toBe(1));
    send(outsider, "of another tunnel", "ABD");
    await isHeard(beside, "of another tunnel");
    send(node, "of a node");
    await isHeard(inside, "of a node");
    // A killed agent's rules stay, and the next one finds all as it wants it.
    const next = writerIn(here);
    await Promise.all([next.change(overlayGuardChanges({ ...plan, nodes: [{ addresses: [node] }] })), next.complete(OVERLAY_PREFIX)]);
    expect([rules(), dropped()]).toEqual([before, 1]);
    await writer.change(overlayGuardChanges({ ...plan, nodes: [{ addresses: [outsider] }] }));
    send(node, "no node by now");
    await vi.waitFor(() => expect(dropped()).toBe(2));
    send(outsider, "a node by now");
    await isHeard(inside, "a node by now");
    expect(rules()).toBe(before);
    await writer.change(overlayGuardChanges(undefined));
    send(node, "after");
    await isHeard(inside, "after");
    expect(here.run("nft", ["list", "tables"])).toBe("");
  });

  it.each(Object.entries(Families))("nor does the node pass them on to other nodes' for somebody else: %s", async (_name, family) => {
    const { own, node, outsider, length } = family;
    const isIpv6 = length === 64;
    const far = isIpv6 ? "2001:db8:9::2" : "198.51.100.2";
    const [here, there, beyond] = [testNetns(), testNetns(), testNetns()];
    for (const [name, netns] of [
      ["up0", there],
      ["dn0", beyond],
    ] as const) {
      here.ip(`link add ${name} type veth peer name eth0 netns ${netns.name}`);
      here.ip(`link set ${name} up`);
      netns.ip("link set eth0 up");
    }
    here.run("sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    here.ip(`addr add ${own}/${length} dev up0${isIpv6 ? " nodad" : ""}`);
    here.ip(`addr add ${isIpv6 ? "2001:db8:9::1/64" : "198.51.100.1/24"} dev dn0${isIpv6 ? " nodad" : ""}`);
    here.ip(`neigh replace ${far} lladdr 02:00:00:00:00:0d dev dn0 nud permanent`);
    // As programs have that hide all that leaves the node.
    here.run("nft", ["add table inet hide; add chain inet hide post { type nat hook postrouting priority srcnat; }"]);
    here.run("nft", ["add rule inet hide post oifname dn0 masquerade"]);
    const [{ address: mac }] = here.json<{ address: string }>("link show up0");
    const [sender, receiver] = [openPacketSocket(there.path, "eth0"), openPacketSocket(beyond.path, "eth0")];
    const writer = writerIn(here);
    onTestFinished(() => {
      for (const socket of [sender, receiver]) socket.close();
    });
    const send = (source: string, text: string, port = 50_000) =>
      sender.send(udp("02:00:00:00:00:0c", source, far, [port, PORT], `\x08\0\0\0ABC\0${text.padStart(60, "E")}`, mac));
    const isHeard = (text: string) =>
      vi.waitFor(() => expect(receiver.received().join(" ")).toContain(hexOf(new TextEncoder().encode(text))));
    const dropped = () => Number(/packets (\d+)/.exec(here.run("nft", ["list", "counter", "inet", "podlane", "overlay-outsiders"]))?.[1]);
    send(outsider, "before");
    await isHeard("before");
    await writer.change(overlayGuardChanges({ ...plan, nodes: [{ addresses: [node] }, { addresses: [far] }] }));
    send(outsider, "kept back");
    await vi.waitFor(() => expect(dropped()).toBe(1));
    send(node, "of a node behind this one", 50_001);
    await isHeard("of a node behind this one");
    await writer.change(overlayGuardChanges({ ...plan, nodes: [{ addresses: [node] }] }));
    send(outsider, "to somebody who is no node");
    await isHeard("to somebody who is no node");
  });
});
