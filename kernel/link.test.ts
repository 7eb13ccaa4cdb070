import { expect, test, vi } from "vitest";
import { parseAddress } from "../net/address.ts";
import { NetlinkError } from "./error.ts";
import { openNetns } from "./netns.ts";
import { checkRequirements } from "./requirements.ts";
import { addVeth, describeKernel, mac, macText, testNetns } from "./testnetns.ts";
import type { Link } from "./types.ts";

interface IpLink {
  ifindex: number;
  ifname: string;
  flags: string[];
  mtu: number;
  address?: string;
  master?: string;
  ifalias?: string;
  linkinfo?: { info_kind?: string; info_data?: Record<string, unknown>; info_slave_data?: Record<string, unknown> };
}

/** The fields that ip-link(8) and we both show. */
function comparable(link: Link, nameOf: (index: number) => string | undefined) {
  return {
    ifindex: link.index,
    ifname: link.name,
    up: link.up,
    carrier: link.carrier,
    loopback: link.loopback,
    mtu: link.mtu,
    address: macText(link.address),
    master: nameOf(link.master),
    ifalias: link.alias || undefined,
    kind: link.kind || undefined,
  };
}

function fromIp(link: IpLink): ReturnType<typeof comparable> {
  const has = (flag: string) => link.flags.includes(flag);
  return {
    ifindex: link.ifindex,
    ifname: link.ifname,
    up: has("UP"),
    carrier: has("LOWER_UP"),
    loopback: has("LOOPBACK"),
    mtu: link.mtu,
    address: link.address ?? "",
    master: link.master,
    ifalias: link.ifalias,
    kind: link.linkinfo?.info_kind,
  };
}

describeKernel("links", () => {
  test("veth, bridge and vxlan are made as asked and listed as ip-link(8) lists them", () => {
    const { netlink, json } = testNetns();
    const bridge = netlink.addLink({ kind: "bridge", name: "br0", up: true, mtu: 1450, alias: "pods" });
    netlink.addLink({
      kind: "veth",
      name: "v0",
      mtu: 1400,
      address: mac("02:00:00:00:00:01"),
      master: bridge.index,
      peer: { name: "v1", mtu: 1410, address: mac("02:00:00:00:00:02") },
    });
    netlink.addLink({ kind: "vxlan", name: "vx4", id: 7, port: 4790, local: parseAddress("10.0.0.1"), device: 1, learning: false });
    netlink.addLink({ kind: "vxlan", name: "vx6", id: 0xfffffe, port: 4789, local: parseAddress("fd00::1"), learning: true, mtu: 1300 });
    const links = netlink.links();
    const ours = links.map(link => comparable(link, index => links.find(other => other.index === index)?.name));
    expect(ours).toEqual(json<IpLink>("link show").map(fromIp));
    expect(links.length).toBe(6);
    expect(netlink.link("br0")).toMatchObject({ up: true, mtu: 1450, alias: "pods", kind: "bridge" });
    const [v0, v1] = [netlink.link("v0"), netlink.link("v1")];
    expect(v0).toMatchObject({ mtu: 1400, master: bridge.index, peerIndex: v1?.index, peerNetnsId: -1, address: mac("02:00:00:00:00:01") });
    expect(v1).toMatchObject({ mtu: 1410, peerIndex: v0?.index, address: mac("02:00:00:00:00:02") });
    expect(netlink.link("vx4")?.vxlan).toEqual({ id: 7, port: 4790, local: parseAddress("10.0.0.1"), device: 1, learning: false });
    expect(netlink.link("vx6")?.vxlan).toEqual({ id: 0xfffffe, port: 4789, local: parseAddress("fd00::1"), device: 0, learning: true });
    expect(json<IpLink>("link show vx4")[0].linkinfo?.info_data).toMatchObject({
      id: 7,
      port: 4790,
      local: "10.0.0.1",
      link: "lo",
      learning: false,
    });
    expect(json<IpLink>("link show vx6")[0].linkinfo?.info_data).toMatchObject({ id: 0xfffffe, local6: "fd00::1", learning: true });
  });

  test("dummy", context => {
    const [missing] = checkRequirements({ links: ["dummy"] });
    context.skip(missing !== undefined, missing);
    const { netlink, json } = testNetns();
    netlink.addLink({ kind: "dummy", name: "d0", up: true });
    expect(json<IpLink>("link show d0")[0].linkinfo?.info_kind).toBe("dummy");
  });

  test("every change arrives", () => {
    const netns = testNetns();
    const { netlink, json } = netns;
    const index = addVeth(netns);
    const bridge = netlink.addLink({ kind: "bridge", name: "br0" });
    netlink.setLink(index, { up: false });
    netlink.setLink(index, {
      name: "eth0",
      mtu: 1234,
      address: mac("02:00:00:00:00:09"),
      alias: "a b",
      master: bridge.index,
      up: true,
      hairpin: true,
    });
    expect(netlink.link(index)).toMatchObject({
      name: "eth0",
      mtu: 1234,
      address: mac("02:00:00:00:00:09"),
      alias: "a b",
      master: bridge.index,
      up: true,
    });
    const [shown] = json<IpLink>("link show eth0");
    expect(fromIp(shown)).toMatchObject({ ifname: "eth0", mtu: 1234, master: "br0", ifalias: "a b", up: true });
    expect(shown.linkinfo?.info_slave_data).toMatchObject({ hairpin: true });
    netlink.setLink(index, { hairpin: false });
    expect(json<IpLink>("link show eth0")[0].linkinfo?.info_slave_data).toMatchObject({ hairpin: false });
    for (const netfilter of [true, false]) {
      netlink.setLink(bridge.index, { netfilter });
      expect(netlink.link("br0")).toMatchObject({ netfilter, up: bridge.up });
      const value = netfilter ? 1 : 0;
      expect(json<IpLink>("link show br0")[0].linkinfo?.info_data).toMatchObject({ nf_call_iptables: value, nf_call_ip6tables: value });
    }
    netlink.setLink(index, { master: 0, up: false, alias: "" });
    expect(netlink.link("eth0")).toMatchObject({ master: 0, up: false, alias: "" });
    netlink.deleteLink(index);
    expect(netlink.link(index)).toBeUndefined();
    expect(netlink.link("v1")).toBeUndefined();
  });

  test("many links are deleted at once, with their peers, while the thread goes on; others stay", async () => {
    const [host, pod] = [testNetns(), testNetns()];
    const target = openNetns(pod.path);
    try {
      const bridge = host.netlink.addLink({ kind: "bridge", name: "br0", up: true });
      const pairs = Array.from({ length: 8 }, (_, i) => {
        const peer = { name: `eth${i}`, netnsFd: target.fd };
        return host.netlink.addLink({ kind: "veth", name: `v${i}`, up: true, master: bridge.index, peer }).index;
      });
      const [kept, single, ...many] = pairs;
      host.netlink.setLink(kept, { group: 4711 });
      expect(host.json<{ group: string }>("link show v0")[0].group).toBe("4711");

      const first = host.netlink.deleteLinks([single]);
      const rest = host.netlink.deleteLinks([...many, 9999]);
      const order: string[] = [];
      const watched = [rest.gone.then(() => order.push("gone")), rest.finished.then(() => order.push("finished"))];
      await Promise.all([first.gone, rest.gone]);
      // The kernel may not yet be done with them, but the names are free.
      expect(host.netlink.links().map(link => link.name)).toEqual(["lo", "br0", "v0"]);
      expect(pod.netlink.links().map(link => link.name)).toEqual(["lo", "eth0"]);
      host.netlink.addLink({ kind: "veth", name: "v1", peer: { name: "eth1", netnsFd: target.fd } });
      await Promise.all([first.finished, ...watched]);
      expect(order).toEqual(["gone", "finished"]);
      expect(host.netlink.links().map(link => link.name)).toEqual(["lo", "br0", "v0", "v1"]);
    } finally {
      target.close();
    }
  });

  test("deleting what is gone is no error, deleting what cannot be deleted says why", async () => {
    const netns = testNetns();
    const { netlink } = netns;
    const index = addVeth(netns);
    for (const gone of [[9999], [9998, 9999], []]) {
      const deletion = netlink.deleteLinks(gone);
      await deletion.gone;
      await deletion.finished;
    }
    expect(() => netlink.deleteLinks([index, 0])).toThrow("delete links: an ifindex is greater than 0 (EINVAL)");
    await expect(netlink.deleteLinks([1]).gone).rejects.toMatchObject({ code: "EOPNOTSUPP", request: "delete link ifindex 1" });
    await expect(netlink.deleteLinks([1, index]).gone).rejects.toMatchObject({
      code: "EOPNOTSUPP",
      request: "delete 2 links, among them ifindex 1",
    });
    expect(netlink.link(index)).toBeDefined();
  });

  test("a veth peer is made in another namespace, and a link moves between namespaces with its new name", () => {
    const [host, pod] = [testNetns(), testNetns()];
    const target = openNetns(pod.path);
    try {
      const made = host.netlink.addLink({ kind: "veth", name: "pod1", up: true, peer: { name: "eth0", mtu: 1400, netnsFd: target.fd } });
      const eth0 = pod.netlink.link("eth0");
      expect(eth0).toMatchObject({ kind: "veth", mtu: 1400, peerIndex: made.index });
      expect(made.peerIndex).toBe(eth0?.index);
      expect(made.peerNetnsId).toBeGreaterThanOrEqual(0);
      expect(host.netlink.peer(made)).toEqual({ ...eth0, peerNetnsId: expect.any(Number) });
      expect(host.netlink.peer({ ...made, peerNetnsId: 4000 })).toBeUndefined();
      expect(host.netlink.peer(host.netlink.link("lo")!)).toBeUndefined();
      host.netlink.setLink(made.index, { netnsFd: target.fd, name: "eth9" });
      expect(host.netlink.link("pod1")).toBeUndefined();
      expect(pod.netlink.link("eth9")).toMatchObject({ kind: "veth", peerIndex: eth0?.index, peerNetnsId: -1 });
    } finally {
      target.close();
    }
  });

  test("a bridge's port says whether it forwards", async () => {
    const { netlink } = testNetns();
    const bridge = netlink.addLink({ kind: "bridge", name: "br0", up: true });
    const { index, forwarding } = netlink.addLink({ kind: "veth", name: "v0", peer: { name: "v1" } });
    expect(forwarding).toBeUndefined();
    netlink.setLink(index, { master: bridge.index, up: true });
    expect(netlink.link(index)?.forwarding).toBe(false);
    netlink.setLink(netlink.link("v1")!.index, { up: true });
    await vi.waitFor(() => expect(netlink.link(index)?.forwarding).toBe(true));
    expect(netlink.link("br0")?.forwarding).toBeUndefined();
  });

  test("what does not exist is undefined", () => {
    const { netlink } = testNetns();
    for (const absent of ["nolink", "", "a-name-longer-than-15", 0, 4711]) expect(netlink.link(absent)).toBeUndefined();
  });

  test("failures say what was asked, what the kernel says, and the errno", () => {
    const { netlink } = testNetns();
    netlink.addLink({ kind: "bridge", name: "br0" });
    const failure = (run: () => void) => {
      try {
        run();
      } catch (error) {
        if (error instanceof NetlinkError) return error;
      }
      throw new Error("no NetlinkError");
    };
    expect(failure(() => netlink.addLink({ kind: "bridge", name: "br0" }))).toMatchObject({
      code: "EEXIST",
      errno: 17,
      request: "add bridge link br0",
      message: "add bridge link br0: file already exists (EEXIST)",
    });
    expect(failure(() => netlink.setLink(1, { mtu: 70000 * 70000 })).message).toBe(
      "set link lo mtu 4900000000: 4900000000 is not a number of 0 to 4294967295 (EINVAL)",
    );
    const low = failure(() => netlink.setLink(2, { mtu: 2 }));
    expect(low).toMatchObject({ code: "EINVAL", detail: "mtu less than device minimum" });
    expect(low.message).toBe("set link br0 mtu 2: mtu less than device minimum (EINVAL)");
    expect(failure(() => netlink.deleteLink(999))).toMatchObject({ code: "ENODEV", request: "delete link ifindex 999" });
    expect(failure(() => netlink.deleteLink(0))).toMatchObject({ code: "EINVAL" });
    expect(failure(() => netlink.addLink({ kind: "bridge", name: "a-name-longer-than-15" })).request).toBe(
      "add bridge link a-name-longer-than-15",
    );
  });
});
