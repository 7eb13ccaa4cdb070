import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../net/address.ts";
import { NTF_MASTER, NTF_PROXY, NTF_SELF, NUD_NOARP, NUD_PERMANENT, NUD_REACHABLE } from "./constants.ts";
import { addVeth, describeKernel, mac, macText, testNetns } from "./testnetns.ts";
import type { Neighbour } from "./types.ts";

interface IpNeighbour {
  dst: string;
  dev: string;
  lladdr?: string;
  state: string[];
}

interface BridgeFdb {
  mac: string;
  ifname: string;
  dst?: string;
  flags: string[];
  state: string;
}

describeKernel("neighbours", () => {
  test("IPv4 and IPv6 entries are set, replaced, deleted and listed as ip-neighbour(8) lists them", () => {
    const netns = testNetns();
    const { netlink, json } = netns;
    const ifindex = addVeth(netns);
    const four: Neighbour = {
      family: 4,
      ifindex,
      address: parseAddress("10.1.1.9"),
      linkAddress: mac("02:00:00:00:00:09"),
      state: NUD_PERMANENT,
      flags: 0,
    };
    const six: Neighbour = { ...four, family: 6, address: parseAddress("fd00:1::9"), state: NUD_REACHABLE };
    netlink.setNeighbour(four);
    netlink.setNeighbour({ ...four, linkAddress: mac("02:00:00:00:00:0a") });
    netlink.setNeighbour(six);
    const shown = json<IpNeighbour>("neigh show dev v0").map(entry => `${entry.dst} ${entry.lladdr} ${entry.state}`);
    expect(shown.sort()).toEqual(["10.1.1.9 02:00:00:00:00:0a PERMANENT", "fd00:1::9 02:00:00:00:00:09 REACHABLE"]);
    expect(netlink.neighbours(4, ifindex)).toEqual([{ ...four, linkAddress: mac("02:00:00:00:00:0a") }]);
    // The kernel keeps entries of its own for multicast groups.
    expect(netlink.neighbours(6).filter(entry => entry.state !== NUD_NOARP)).toEqual([six]);
    expect(netlink.neighbours(4, 1)).toEqual([]);
    expect(netlink.neighbours(4, 999)).toEqual([]);
    netlink.deleteNeighbour(four);
    netlink.deleteNeighbour(six);
    expect(json("neigh show dev v0")).toEqual([]);
    expect(() => netlink.deleteNeighbour(four)).toThrow(/^delete neighbour 10\.1\.1\.9 lladdr 02:00:00:00:00:09 dev v0: .*\(ENOENT\)$/);
  });

  test("proxies: addresses that the node answers for are set, listed apart from neighbours, and deleted", () => {
    const netns = testNetns();
    const { netlink } = netns;
    const ifindex = addVeth(netns);
    const proxy = (family: 4 | 6, text: string): Neighbour => ({
      family,
      ifindex,
      address: parseAddress(text),
      state: 0,
      flags: NTF_PROXY,
    });
    for (const one of [proxy(4, "10.1.1.9"), proxy(4, "10.1.1.9"), proxy(6, "fd00:1::9")]) netlink.setNeighbour(one);
    const listed = () => ([4, 6] as const).map(family => netlink.proxies(family, ifindex).map(formatAddress));
    expect([listed(), netlink.proxies(4, 1), netlink.neighbours(4, ifindex)]).toEqual([[["10.1.1.9"], ["fd00:1::9"]], [], []]);
    expect(netns.run("ip", ["-n", netns.name, "neigh", "show", "proxy"])).toContain("10.1.1.9 dev v0");
    netlink.deleteNeighbour(proxy(6, "fd00:1::9"));
    expect(listed()).toEqual([["10.1.1.9"], []]);
    expect(() => netlink.deleteNeighbour(proxy(6, "fd00:1::9"))).toThrow(/ENOENT/);
  });

  test("VXLAN forwarding entries: a station, and several flood destinations", () => {
    const { netlink, run } = testNetns();
    const { index } = netlink.addLink({
      kind: "vxlan",
      name: "vx0",
      id: 5,
      port: 4789,
      local: parseAddress("10.0.0.1"),
      learning: false,
      up: true,
    });
    const flood = new Uint8Array(6);
    const entry = (linkAddress: Uint8Array, destination: string): Neighbour => ({
      family: "bridge",
      ifindex: index,
      linkAddress,
      destination: parseAddress(destination),
      state: NUD_PERMANENT,
      flags: 0,
    });
    netlink.setNeighbour(entry(mac("02:00:00:00:00:01"), "10.0.0.2"));
    netlink.setNeighbour(entry(mac("02:00:00:00:00:01"), "10.0.0.3"));
    netlink.setNeighbour(entry(flood, "10.0.0.2"));
    netlink.setNeighbour(entry(flood, "10.0.0.3"));
    netlink.setNeighbour(entry(flood, "10.0.0.3"));
    const shown = JSON.parse(run("bridge", ["-j", "fdb", "show", "dev", "vx0"])) as BridgeFdb[];
    const expected = ["00:00:00:00:00:00 10.0.0.2", "00:00:00:00:00:00 10.0.0.3", "02:00:00:00:00:01 10.0.0.3"];
    expect(shown.map(line => `${line.mac} ${line.dst}`).sort()).toEqual(expected);
    const listed = netlink.neighbours("bridge", index);
    const text = (neighbour: Neighbour) => `${macText(neighbour.linkAddress ?? flood)} ${formatAddress(neighbour.destination ?? flood)}`;
    expect(listed.map(text).sort()).toEqual(expected);
    expect(listed.every(neighbour => (neighbour.flags & NTF_SELF) !== 0 && neighbour.family === "bridge")).toBe(true);
    for (const neighbour of listed) netlink.deleteNeighbour(neighbour);
    expect(netlink.neighbours("bridge", index)).toEqual([]);
  });

  test("many at once: neighbours and forwarding entries are set, replaced and deleted, and what fails is named", () => {
    const { netlink } = testNetns();
    const { index: ifindex } = netlink.addLink({ kind: "vxlan", name: "vx0", id: 5, port: 4789, learning: false, up: true });
    const common = { ifindex, state: NUD_PERMANENT, flags: 0 };
    const count = 2000;
    const address = (n: number) => Uint8Array.of(10, 0, n >> 8, n & 255);
    const station = (n: number) => Uint8Array.of(2, 0, ...address(n));
    const neighbour = (n: number): Neighbour => ({ ...common, family: 4, address: address(n), linkAddress: station(n) });
    const entry = (n: number): Neighbour => ({ ...common, family: "bridge", linkAddress: station(n), destination: address(n) });
    const all = Array.from({ length: count }, (_, n) => [neighbour(n + 1), entry(n + 1)]).flat();
    expect(netlink.batchNeighbours(all.map(one => ({ action: "set", neighbour: one })))).toEqual([]);
    expect(netlink.batchNeighbours(all.map(one => ({ action: "set", neighbour: one })))).toEqual([]);
    expect(netlink.neighbours(4, ifindex)).toHaveLength(count);
    expect(netlink.neighbours("bridge", ifindex)).toHaveLength(count);
    const gone = { ...neighbour(1), address: parseAddress("10.9.9.9") };
    const failures = netlink.batchNeighbours([gone, ...all].map(one => ({ action: "delete", neighbour: one })));
    expect(failures.map(({ index, error }) => `${index} ${error.message}`)).toEqual([
      expect.stringMatching(/^0 delete neighbour 10\.9\.9\.9 lladdr 02:00:0a:00:00:01 dev vx0: .*\(ENOENT\)$/),
    ]);
    expect([...netlink.neighbours(4, ifindex), ...netlink.neighbours("bridge", ifindex)]).toEqual([]);
  });

  test("a bridge port's static entry", () => {
    const netns = testNetns();
    const { netlink, run } = netns;
    const ifindex = addVeth(netns);
    const bridge = netlink.addLink({ kind: "bridge", name: "br0", up: true });
    netlink.setLink(ifindex, { master: bridge.index });
    const entry: Neighbour = {
      family: "bridge",
      ifindex,
      linkAddress: mac("02:00:00:00:00:77"),
      state: NUD_NOARP,
      flags: NTF_MASTER,
    };
    netlink.setNeighbour(entry);
    const shown = JSON.parse(run("bridge", ["-j", "fdb", "show", "dev", "v0"])) as BridgeFdb[];
    expect(shown.filter(line => line.mac === "02:00:00:00:00:77")).toMatchObject([{ state: "static" }]);
    const listed = netlink
      .neighbours("bridge", ifindex)
      .find(line => macText(line.linkAddress ?? new Uint8Array()) === "02:00:00:00:00:77");
    expect(listed).toMatchObject({ family: "bridge", ifindex, state: NUD_NOARP });
    netlink.deleteNeighbour(entry);
    expect(run("bridge", ["fdb", "show", "dev", "v0"])).not.toContain("02:00:00:00:00:77");
  });
});
