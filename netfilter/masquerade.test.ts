/** Masquerade with real packets: what an outside host sees as their source, in both families, while nodes come and go. */
import { expect, it, onTestFinished, vi } from "vitest";
import { describeKernel, type TestNetns, testNetns } from "../kernel/testnetns.ts";
import { parseAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import { masqueradeChanges } from "./masquerade.ts";
import { udp } from "./testing/frames.ts";
import { openPacketSocket, type PacketSocket } from "./testing/packet-socket.ts";
import { writerIn } from "./testing/writer.ts";

const MAC = "02:00:00:00:00:0a";
const PORT = 5000;

interface Family {
  pod: string;
  node: string;
  /** On the segment of the node: no node itself, or the next one. */
  outside: string;
  length: number;
  /** Where the source address of a packet begins in a frame, in octets. */
  sourceAt: number;
}

const Families: Record<string, Family> = {
  IPv4: { pod: "10.1.0.2", node: "192.0.2.1", outside: "192.0.2.9", length: 24, sourceAt: 26 },
  IPv6: { pod: "fd01::2", node: "2001:db8::1", outside: "2001:db8::9", length: 64, sourceAt: 22 },
};

class Segment {
  readonly node = testNetns();
  readonly #pod = testNetns();
  readonly #outside = testNetns();
  readonly #sender: PacketSocket;
  readonly #receiver: PacketSocket;
  readonly #nodeMac: string;

  constructor(family: Family) {
    link(this.node, "pla", this.#pod);
    link(this.node, "up0", this.#outside);
    this.#pod.ip(`link set eth0 address ${MAC}`);
    const whole = family.length === 24 ? 32 : 128;
    this.node.run("sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    this.node.ip(`addr add ${family.node}/${family.length} dev up0${whole === 128 ? " nodad" : ""}`);
    this.node.ip(`route add ${family.pod}/${whole} dev pla`);
    const [{ address: outsideMac }] = this.#outside.json<{ address: string }>("link show eth0");
    this.node.ip(`neigh replace ${family.outside} lladdr ${outsideMac} dev up0 nud permanent`);
    this.#nodeMac = this.node.json<{ address: string }>("link show pla")[0].address;
    this.#sender = openPacketSocket(this.#pod.path, "eth0");
    this.#receiver = openPacketSocket(this.#outside.path, "eth0");
    onTestFinished(() => {
      this.#sender.close();
      this.#receiver.close();
    });
  }

  /** As whom the outside host sees the flow from this port; another packet of it each time. */
  async seen({ pod, outside, sourceAt, node }: Family, port: number): Promise<string> {
    const text = hexOf(new TextEncoder().encode(`flow ${port}`));
    let source = "";
    this.#receiver.received();
    await vi.waitFor(() => {
      this.#sender.send(udp(MAC, pod, outside, [port, PORT], `flow ${port}`, this.#nodeMac));
      const frame = this.#receiver.received().find(one => one.endsWith(text));
      expect(frame).toBeDefined();
      source = frame!.slice(sourceAt * 2, sourceAt * 2 + parseAddress(pod).length * 2);
    });
    return { [hexOf(parseAddress(pod))]: "pod", [hexOf(parseAddress(node))]: "node" }[source] ?? source;
  }
}

function link(node: TestNetns, name: string, other: TestNetns): void {
  node.ip(`link add ${name} type veth peer name eth0 netns ${other.name}`);
  node.ip(`link set ${name} up`);
  other.ip("link set eth0 up");
}

describeKernel("masquerade", () => {
  it.each(Object.keys(Families))("shows pods to others than nodes with the node's address, and lets flows be: %s", async name => {
    const family = Families[name];
    const segment = new Segment(family);
    const { node } = segment;
    const writer = writerIn(node);
    const whole = family.length === 24 ? 32 : 128;
    const plan = { sources: [`${family.pod}/${whole}`], exempt: [`${family.pod}/${whole}`, `${family.node}/${whole}`] };
    const withOutside = { ...plan, exempt: [...plan.exempt, `${family.outside}/${whole}`] };
    const rules = () => node.run("nft", ["-a", "list", "table", "inet", "podlane"]).match(/masquerade.*handle \d+/g);
    // As kube-proxy has: connections are tracked and translated, whatever we do.
    const proxy = "add table inet proxy; add chain inet proxy post { type nat hook postrouting priority 100; }";
    node.run("nft", [`${proxy}; add rule inet proxy post meta mark 0x4000 masquerade`]);
    expect(await segment.seen(family, 4000)).toBe("pod");
    await writer.change(masqueradeChanges(plan));
    // It was there before.
    expect(await segment.seen(family, 4000)).toBe("pod");
    expect(await segment.seen(family, 4001)).toBe("node");
    const before = rules();
    expect(before).toHaveLength(2);
    expect(before?.[0]).toContain("fully-random");
    await writer.change(masqueradeChanges(withOutside));
    expect(await segment.seen(family, 4001)).toBe("node");
    expect(await segment.seen(family, 4002)).toBe("pod");
    await writer.change(masqueradeChanges(plan));
    expect(await segment.seen(family, 4002)).toBe("pod");
    expect(await segment.seen(family, 4003)).toBe("node");
    expect(rules()).toEqual(before);
    await writer.change(masqueradeChanges(undefined));
    expect(await segment.seen(family, 4004)).toBe("pod");
    expect(await segment.seen(family, 4003)).toBe("node");
    expect(node.run("nft", ["list", "tables"]).trim()).toBe("table inet proxy");
  });
});
