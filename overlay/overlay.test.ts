/** Tunnels in the kernel: made, adopted, put back and taken away, with what ip(8) and bridge(8) say about them. Needs root on Linux. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import { openKernel, withNetns, writeSysctl } from "../kernel/index.ts";
import { describeKernel, type TestNetns, testNetns } from "../kernel/testnetns.ts";
import { formatAddress, parseAddress, parsePrefix } from "../net/address.ts";
import { Overlay } from "./overlay.ts";
import type { OverlayPlan } from "./types.ts";

interface IpLink {
  ifindex: number;
  ifalias?: string;
  mtu: number;
  address: string;
  flags: string[];
  linkinfo: { info_kind: string; info_data: { id: number; port: number; local?: string; local6?: string; learning: boolean } };
}

const node = (n: number) => ({ name: `node${n}`, addresses: [`10.1.2.${n}`, `fd00:2::${n}`] });
const base: OverlayPlan = {
  mode: "Always",
  vni: 20179,
  port: 4789,
  checksumOffload: "Auto",
  local: ["10.1.1.2"],
  sources: ["10.244.1.1", "fd00:10:244:1::1"],
  nodes: [node(2), node(3)],
};
const dual: OverlayPlan = { ...base, local: ["10.1.1.2", "fd00:1::2"] };

describeKernel("the overlay", () => {
  let netns: TestNetns;
  let clock: FakeClock;
  let overlay: Overlay;
  let mended: string[];

  const start = () => {
    const kernel = openKernel({ netns: netns.path });
    overlay = new Overlay({ kernel, clock, log: { info() {}, warn() {} }, mended: texts => mended.push(...texts) });
    return kernel;
  };
  let kernel: ReturnType<typeof start>;

  beforeEach(async () => {
    netns = testNetns();
    clock = new FakeClock();
    mended = [];
    netns.ip("link add up0 mtu 1600 type veth peer name up1");
    for (const name of ["up0", "up1"]) netns.ip(`link set ${name} up`);
    netns.ip("addr add 10.1.1.2/24 dev up0");
    netns.ip("addr add fd00:1::2/64 dev up0 nodad");
    // The kernel's own route to an address of IPv6 comes a moment after it.
    await expect.poll(() => netns.run("ip", ["-6", "route", "show", "table", "local"])).toContain("fd00:1::2");
    kernel = start();
  });
  afterEach(() => {
    overlay.close();
    kernel.close();
  });

  const link = (name: string) => netns.json<IpLink>("link show").find(one => (one as unknown as { ifname: string }).ifname === name);
  const addresses = (name: string) =>
    netns
      .json<{ addr_info: { local: string; prefixlen: number; scope: string }[] }>(`addr show dev ${name}`)
      .flatMap(({ addr_info }) => addr_info.filter(({ scope }) => scope === "global").map(one => `${one.local}/${one.prefixlen}`));
  const neighbours = (name: string) =>
    (["-4", "-6"] as const)
      .flatMap(family => netns.json<{ dst: string; lladdr: string; state: string[] }>(`${family} neigh show dev ${name} nud permanent`))
      .map(({ dst, lladdr }) => `${dst} ${lladdr}`)
      .sort();
  const entries = (name: string) =>
    (JSON.parse(netns.run("bridge", ["-j", "fdb", "show", "dev", name])) as { mac: string; dst: string }[]).map(
      one => `${one.dst} ${one.mac}`,
    );
  const way = (address: string, connected = false) => {
    const hop = overlay.around(parseAddress(address), connected);
    return hop && `${formatAddress(hop.gateway!)}%${hop.ifindex}${hop.onlink ? " onlink" : ""}`;
  };

  test("with Always says which uplink drops by its reverse path what a node with CrossSubnet sends", () => {
    const strict = (value: string, all = "0") =>
      withNetns(netns.path, () => {
        writeSysctl("net.ipv4.conf.all.rp_filter", all);
        writeSysctl("net.ipv4.conf.up0.rp_filter", value);
        overlay.apply({ ...base, plain: "node2" });
        return overlay.problems();
      });
    const problem = {
      severity: "error",
      reason: "StrictReversePath",
      field: "overlay",
      message: expect.stringMatching(/^up0 filters .* node node2 /),
      remedy: expect.stringContaining("sysctl -w net.ipv4.conf.up0.rp_filter=2"),
    };
    expect(strict("1")).toEqual([problem]);
    expect(strict("0", "1")).toEqual([problem]);
    expect(strict("2", "1")).toEqual([]);
    expect(strict("1", "2")).toEqual([]);
    expect(strict("0")).toEqual([]);
    withNetns(netns.path, () => {
      writeSysctl("net.ipv4.conf.up0.rp_filter", "1");
      overlay.apply(base);
    });
    expect(overlay.problems()).toEqual([]);
  });

  test("is a device for each family, without learning, and one entry of each kind for each node", () => {
    overlay.apply(dual);
    expect(overlay.problems()).toEqual([]);
    const [four, six] = ["podlane.vx4", "podlane.vx6"].map(link);
    expect(four).toMatchObject({ ifalias: "podlane overlay", mtu: 1550, address: "6e:34:0a:01:01:02" });
    expect(four?.linkinfo.info_data).toMatchObject({ id: 20179, port: 4789, local: "10.1.1.2", learning: false });
    expect(six).toMatchObject({ ifalias: "podlane overlay", mtu: 1530 });
    expect(six?.linkinfo.info_data).toMatchObject({ id: 20179, port: 4789, local6: "fd00:1::2", learning: false });
    expect(four?.flags).toContain("UP");
    expect(neighbours("podlane.vx4")).toEqual(["10.1.2.2 6e:34:0a:01:02:02", "10.1.2.3 6e:34:0a:01:02:03"]);
    expect(entries("podlane.vx4").sort()).toEqual(["10.1.2.2 6e:34:0a:01:02:02", "10.1.2.3 6e:34:0a:01:02:03"]);
    // The gateway of an end of IPv6 is the link-local address that goes with its hardware address.
    const hardware = (lines: string[]) => lines.map(text => text.split(" ")[1]).sort();
    expect(hardware(neighbours("podlane.vx6"))).toEqual(hardware(entries("podlane.vx6")));
    for (const text of neighbours("podlane.vx6")) expect(text).toMatch(/^fe80::6c/);
    for (const name of ["podlane.vx4", "podlane.vx6"]) expect(addresses(name)).toEqual(["10.244.1.1/32", "fd00:10:244:1::1/128"]);
    expect([way("10.1.2.2"), way("fd00:2::3"), way("10.1.2.9")]).toEqual([
      `10.1.2.2%${four?.ifindex} onlink`,
      expect.stringMatching(new RegExp(`^fe80::6c[0-9a-f:]+%${six?.ifindex}$`)),
      undefined,
    ]);
    expect(overlay.words(overlay.around(parseAddress("10.1.2.2"), false)!)).toBe("through the tunnel to node node2");
    expect(overlay.words({ gateway: parseAddress("10.1.2.2"), ifindex: 1 })).toBeUndefined();
  });

  test("a node with ends of one family is known by addresses of the other, which lead to these ends", () => {
    const [far] = [{ name: "far", addresses: ["10.1.2.2"], aliases: ["fd00:10:244:2::1"] }];
    overlay.apply({ ...base, mode: "CrossSubnet", nodes: [far, node(3)] });
    const index = link("podlane.vx4")?.ifindex;
    expect(way("fd00:10:244:2::1")).toBe(`fe80::6c34:aff:fe01:202%${index}`);
    expect(overlay.words(overlay.around(parseAddress("fd00:10:244:2::1"), false)!)).toBe("through the tunnel to node far");
    expect(neighbours("podlane.vx4")).toContain("fe80::6c34:aff:fe01:202 6e:34:0a:01:02:02");
    expect([overlay.endOf(parseAddress("fd00:10:244:2::1")), overlay.endOf(parseAddress("10.1.2.2"))]).toEqual([
      parseAddress("10.1.2.2"),
      undefined,
    ]);
    expect(overlay.behind(parsePrefix("10.1.2.0/24")).map(formatAddress)).toEqual(["fd00:10:244:2::1"]);
    expect(overlay.behind(parsePrefix("10.1.3.0/24"))).toEqual([]);
    overlay.apply({ ...base, nodes: [node(3)] });
    expect(neighbours("podlane.vx4")).toEqual(["10.1.2.3 6e:34:0a:01:02:03"]);
    overlay.apply({ ...base, local: ["fd00:1::2"], nodes: [{ name: "far", addresses: ["fd00:2::2"], aliases: ["10.244.2.1"] }] });
    expect(way("10.244.2.1")).toBe(`10.244.2.1%${link("podlane.vx6")?.ifindex} onlink`);
    expect(neighbours("podlane.vx6").map(text => text.split(" ")[0])).toEqual(["10.244.2.1", expect.stringMatching(/^fe80::6c/)]);
  });

  test("CrossSubnet leaves out what is on a link of ours, Always does not", () => {
    overlay.apply({ ...base, mode: "CrossSubnet" });
    expect([way("10.1.2.2", true) === undefined, way("10.1.2.2") === undefined]).toEqual([true, false]);
    overlay.apply(base);
    expect(way("10.1.2.2", true)).toBeDefined();
  });

  test("prefixes that hold the other end of a tunnel are needed by it", () => {
    overlay.apply(dual);
    const needed = [
      "10.1.2.0/24",
      "10.1.2.3/32",
      "0.0.0.0/0",
      "::/0",
      "fd00:2::/64",
      "10.1.2.4/30",
      "10.1.1.0/24",
      "10.244.2.0/24",
      "fd00:3::/64",
    ];
    expect(needed.map(text => overlay.needs(parsePrefix(text)))).toEqual([true, true, true, true, true, false, false, false, false]);
  });

  test("tells which next hops may go another way now, and nothing where nothing changed", () => {
    const told: string[] = [];
    const stop = overlay.onChange(changed => told.push(changed === "all" ? changed : changed.map(formatAddress).sort().join()));
    overlay.apply(base);
    overlay.apply(structuredClone(base));
    overlay.apply({ ...base, nodes: [node(3), node(4)] });
    overlay.apply({ ...base, nodes: [node(3), node(4)], mode: "CrossSubnet" });
    overlay.apply(undefined);
    stop();
    overlay.apply(base);
    expect(told).toEqual(["all", "10.1.2.2,10.1.2.4,fd00:2::2,fd00:2::4", "all", "all"]);
  });

  test("tells of a next hop that stands for a node whose end has another address now", () => {
    const far = (address: string) => ({ ...base, nodes: [{ name: "far", addresses: [address], aliases: ["fd00:10:244:2::1"] }] });
    overlay.apply(far("10.1.2.2"));
    const told: string[] = [];
    overlay.onChange(changed => told.push(changed === "all" ? changed : changed.map(formatAddress).sort().join()));
    overlay.apply(far("10.1.2.9"));
    expect(told).toEqual(["10.1.2.2,10.1.2.9,fd00:10:244:2::1"]);
    expect(way("fd00:10:244:2::1")).toMatch(/^fe80::6c34:aff:fe01:209%/);
  });

  test("a next hop that stands for a node without an end in our families goes without a tunnel", () => {
    overlay.apply({ ...base, nodes: [{ name: "six", addresses: ["fd00:2::2"], aliases: ["10.244.2.1"] }] });
    expect(way("10.244.2.1")).toBeUndefined();
  });

  test("only differences are written: what stands and what others put there stays", () => {
    overlay.apply(base);
    netns.ip("neigh replace 10.1.2.77 lladdr 02:00:00:00:00:77 dev podlane.vx4 nud permanent");
    netns.run("bridge", ["fdb", "append", "02:00:00:00:00:77", "dev", "podlane.vx4", "dst", "10.1.2.77"]);
    overlay.apply({ ...base, nodes: [node(3), node(4)] });
    const expected = ["10.1.2.3 6e:34:0a:01:02:03", "10.1.2.4 6e:34:0a:01:02:04", "10.1.2.77 02:00:00:00:00:77"];
    expect(neighbours("podlane.vx4").sort()).toEqual(expected);
    expect(entries("podlane.vx4").sort()).toEqual(expected);
  });

  test("a thousand nodes, and their going", async () => {
    const nodes = Array.from({ length: 1000 }, (_, n) => ({ name: `n${n}`, addresses: [`10.9.${n >> 8}.${n & 255}`] }));
    overlay.apply({ ...base, nodes });
    await expect.poll(() => kernel.netlink.neighbours(4, link("podlane.vx4")!.ifindex).length).toBe(1000);
    await expect.poll(() => entries("podlane.vx4").length).toBe(1000);
    overlay.apply({ ...base, nodes: nodes.slice(0, 1) });
    await expect.poll(() => entries("podlane.vx4").length).toBe(1);
    await expect.poll(() => neighbours("podlane.vx4")).toEqual([expect.stringMatching(/^10\.9\.0\.0 /)]);
    expect(overlay.problems()).toEqual([]);
  });

  test("an agent that begins anew adopts all that stands, and takes away what went meanwhile", () => {
    overlay.apply(dual);
    const before = ["podlane.vx4", "podlane.vx6"].map(name => link(name)?.ifindex);
    overlay.close();
    kernel.close();
    kernel = start();
    overlay.apply({ ...dual, nodes: [node(3)] });
    expect(["podlane.vx4", "podlane.vx6"].map(name => link(name)?.ifindex)).toEqual(before);
    expect(neighbours("podlane.vx4")).toEqual(["10.1.2.3 6e:34:0a:01:02:03"]);
    expect(mended).toEqual([]);
  });

  test("a device that was made and not marked yet is ours", () => {
    netns.ip("link add podlane.vx4 address 6e:34:0a:01:01:02 type vxlan id 20179 dstport 4789 local 10.1.1.2 nolearning");
    const made = link("podlane.vx4")?.ifindex;
    overlay.apply(base);
    expect(overlay.problems()).toEqual([]);
    expect(link("podlane.vx4")).toMatchObject({ ifindex: made, ifalias: "podlane overlay" });
  });

  test.each([
    ["identifier", { vni: 7 }],
    ["port", { port: 8472 }],
    ["own address", { local: ["10.1.1.9"] }],
  ])("another %s is another device", (_what, change) => {
    netns.ip("addr add 10.1.1.9/24 dev up0");
    overlay.apply(base);
    const before = link("podlane.vx4")?.ifindex;
    overlay.apply({ ...base, ...change });
    expect(overlay.problems()).toEqual([]);
    const now = link("podlane.vx4")!;
    expect(now.ifindex).not.toBe(before);
    expect(neighbours("podlane.vx4")).toHaveLength(2);
    expect(way("10.1.2.2")).toBe(`10.1.2.2%${now.ifindex} onlink`);
  });

  test("an own address that no link has is said, until one has it", async () => {
    netns.ip("addr del 10.1.1.2/24 dev up0");
    overlay.apply(base);
    const texts = () => overlay.problems().map(({ message }) => message);
    expect(texts()).toEqual(["no link of the node has its InternalIP 10.1.1.2: nothing goes through tunnels over IPv4"]);
    netns.ip("addr add 10.1.1.2/24 dev up0");
    await expect
      .poll(() => {
        clock.advance(50);
        return texts();
      })
      .toEqual([]);
  });

  test("IPv6 goes through on a node that has none on new links", () => {
    netns.run("sysctl", ["-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    withNetns(netns.path, () => overlay.apply(base));
    expect(overlay.problems()).toEqual([]);
    expect(addresses("podlane.vx4")).toEqual(["10.244.1.1/32", "fd00:10:244:1::1/128"]);
  });

  describe("puts back", () => {
    const undone: [string, () => void][] = [
      ["a device that was taken down", () => netns.ip("link set podlane.vx4 down")],
      ["its MTU", () => netns.ip("link set podlane.vx4 mtu 1400")],
      ["its hardware address", () => netns.ip("link set podlane.vx4 address 02:00:00:00:00:01")],
      ["an address of the node", () => netns.ip("addr del 10.244.1.1/32 dev podlane.vx4")],
      ["a device that was removed", () => netns.ip("link del podlane.vx4")],
    ];
    test.each(undone)("%s, by the kernel's word", async (_what, undo) => {
      overlay.apply(base);
      undo();
      const state = () => ({
        mtu: link("podlane.vx4")?.mtu,
        address: link("podlane.vx4")?.address,
        up: link("podlane.vx4")?.flags.includes("UP"),
        addresses: link("podlane.vx4") && addresses("podlane.vx4"),
        entries: link("podlane.vx4") && [...neighbours("podlane.vx4"), ...entries("podlane.vx4")].length,
      });
      const wanted = {
        mtu: 1550,
        address: "6e:34:0a:01:01:02",
        up: true,
        addresses: ["10.244.1.1/32", "fd00:10:244:1::1/128"],
        entries: 4,
      };
      await expect
        .poll(() => {
          clock.advance(50);
          return state();
        })
        .toEqual(wanted);
    });

    test("entries and offload, now and then", () => {
      overlay.apply({ ...base, checksumOffload: "Off" });
      expect(kernel.netlink.checksumOffload("podlane.vx4")).toBe(false);
      netns.ip("neigh replace 10.1.2.2 lladdr 02:00:00:00:00:01 dev podlane.vx4 nud permanent");
      netns.run("bridge", ["fdb", "del", "6e:34:0a:01:02:03", "dev", "podlane.vx4", "dst", "10.1.2.3"]);
      kernel.netlink.setChecksumOffload("podlane.vx4", true);
      overlay.look();
      expect(neighbours("podlane.vx4")).toEqual(["10.1.2.2 6e:34:0a:01:02:02", "10.1.2.3 6e:34:0a:01:02:03"]);
      expect(entries("podlane.vx4")).toHaveLength(2);
      expect(kernel.netlink.checksumOffload("podlane.vx4")).toBe(false);
      expect(mended).toEqual(["turned checksum offload of podlane.vx4 off"]);
    });

    test("follows the MTU of its way out", async () => {
      overlay.apply(base);
      netns.ip("link set up0 mtu 1500");
      await expect
        .poll(() => {
          clock.advance(50);
          return link("podlane.vx4")?.mtu;
        })
        .toBe(1450);
    });
  });

  test("goes a while after it is wanted no more, with what a killed agent left", () => {
    overlay.apply(dual);
    overlay.apply(base);
    expect(link("podlane.vx6")).toBeDefined();
    clock.advance(3000);
    expect([link("podlane.vx4") !== undefined, link("podlane.vx6") !== undefined]).toEqual([true, false]);
    overlay.close();
    kernel.close();
    kernel = start();
    overlay.apply(undefined);
    clock.advance(2000);
    overlay.apply(base);
    clock.advance(5000);
    expect(link("podlane.vx4")).toBeDefined();
    overlay.apply(undefined);
    clock.advance(3000);
    expect(link("podlane.vx4")).toBeUndefined();
  });

  test("another program's device with the same identifier and port is named, and when it goes there is a tunnel", () => {
    netns.ip("link add flannel.1 type vxlan id 20179 dstport 4789 local 10.1.1.2 nolearning");
    overlay.apply(base);
    expect(overlay.problems()).toEqual([
      {
        severity: "error",
        reason: "OverlayConflict",
        field: "overlay",
        message: "the VXLAN device flannel.1 of another program has UDP port 4789 and VNI 20179 already: there is no tunnel",
        remedy: expect.stringContaining("set another spec.vxlan.vni in the PodNetworks of all nodes, or remove flannel.1"),
      },
    ]);
    expect(way("10.1.2.2")).toBeUndefined();
    netns.ip("link del flannel.1");
    overlay.look();
    expect(overlay.problems()).toEqual([]);
    expect(way("10.1.2.2")).toBeDefined();
  });

  test("another program's device that takes all identifiers of the port is named", () => {
    netns.ip("link add cilium_vxlan up type vxlan external dstport 4789");
    overlay.apply(base);
    const [problem] = overlay.problems();
    expect(problem).toMatchObject({
      reason: "OverlayConflict",
      message: expect.stringContaining("cilium_vxlan"),
      remedy: expect.stringContaining("spec.vxlan.port"),
    });
  });

  test("a link of our name that is not ours is left alone", () => {
    netns.ip("link add podlane.vx4 type vxlan id 5 dstport 4789 local 10.1.1.2");
    overlay.apply(base);
    expect(overlay.problems()).toMatchObject([
      { reason: "OverlayConflict", message: expect.stringContaining("podlane.vx4 (vxlan) that podlane did not make") },
    ]);
    expect(link("podlane.vx4")?.linkinfo.info_data.id).toBe(5);
    overlay.apply(undefined);
    clock.advance(3000);
    expect(link("podlane.vx4")).toBeDefined();
  });
});
