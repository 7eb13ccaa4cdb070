import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "../net/address.ts";
import { IFA_F_NODAD, IFA_F_NOPREFIXROUTE, IFA_F_PERMANENT, IFA_F_TENTATIVE, RT_SCOPE_HOST, RT_SCOPE_LINK } from "./constants.ts";
import { addVeth, describeKernel, testNetns } from "./testnetns.ts";
import type { InterfaceAddress } from "./types.ts";

interface IpAddress {
  ifindex: number;
  addr_info: { local: string; prefixlen: number; address?: string; scope: string; noprefixroute?: boolean; nodad?: boolean }[];
}

const scopes: Record<number, string> = { 0: "global", 253: "link", 254: "host" };

function comparable(address: InterfaceAddress): string {
  const peer = address.peer === undefined ? "" : ` peer ${formatAddress(address.peer)}`;
  const flags = address.flags & IFA_F_NOPREFIXROUTE ? " noprefixroute" : "";
  return `${address.ifindex} ${formatAddress(address.address)}${peer}/${address.prefixLength} ${scopes[address.scope]}${flags}`;
}

function fromIp(links: IpAddress[]): string[] {
  return links.flatMap(link =>
    link.addr_info.map(info => {
      const peer = info.address === undefined ? "" : ` peer ${info.address}`;
      return `${link.ifindex} ${info.local}${peer}/${info.prefixlen} ${info.scope}${info.noprefixroute ? " noprefixroute" : ""}`;
    }),
  );
}

describeKernel("addresses", () => {
  test("every kind is added as asked and listed as ip-address(8) lists it", () => {
    const netns = testNetns();
    const { netlink, ip, json } = netns;
    const ifindex = addVeth(netns);
    netlink.addAddress({ ifindex, address: parseAddress("10.9.0.1"), prefixLength: 32, scope: RT_SCOPE_LINK });
    netlink.addAddress({ ifindex, address: parseAddress("10.8.0.1"), prefixLength: 24, noPrefixRoute: true });
    netlink.addAddress({ ifindex, address: parseAddress("fd00:8::1"), prefixLength: 64, nodad: true, noPrefixRoute: true });
    netlink.addAddress({ ifindex, address: parseAddress("fd00:9::1"), prefixLength: 128 });
    netlink.addAddress({ ifindex: 1, address: parseAddress("10.7.7.7"), prefixLength: 32, scope: RT_SCOPE_HOST });
    ip("addr add 10.6.0.1 peer 10.6.0.2/32 dev v0");
    ip("addr add fd00:6::1 peer fd00:6::2/128 dev v0 nodad");
    const all = netlink.addresses();
    expect(all.map(comparable).sort()).toEqual(fromIp(json<IpAddress>("addr show")).sort());
    expect(netlink.addresses(ifindex).map(comparable).sort()).toEqual(fromIp(json<IpAddress>("addr show dev v0")).sort());
    expect(all.find(entry => formatAddress(entry.address) === "10.6.0.1")?.peer).toEqual(parseAddress("10.6.0.2"));
    const usable = all.find(entry => formatAddress(entry.address) === "fd00:8::1");
    expect(usable?.flags).toBe(IFA_F_PERMANENT | IFA_F_NODAD | IFA_F_NOPREFIXROUTE);
    expect((usable?.flags ?? 0) & IFA_F_TENTATIVE).toBe(0);
    const connected = json<{ dst: string }>("route show").map(route => route.dst);
    expect(connected).toContain("10.1.1.0/24");
    expect(connected).not.toContain("10.8.0.0/24");
  });

  test("adding again is no error, deleting removes exactly one", () => {
    const netns = testNetns();
    const { netlink, json } = netns;
    const ifindex = addVeth(netns);
    const entry = { ifindex, address: parseAddress("10.9.0.1"), prefixLength: 24 };
    netlink.addAddress(entry);
    netlink.addAddress(entry);
    netlink.addAddress({ ...entry, address: parseAddress("fd00:9::1"), prefixLength: 64, nodad: true });
    netlink.addAddress({ ...entry, address: parseAddress("fd00:9::1"), prefixLength: 64, nodad: true });
    const before = fromIp(json<IpAddress>("addr show dev v0"));
    netlink.deleteAddress(entry);
    netlink.deleteAddress({ ...entry, address: parseAddress("fd00:9::1"), prefixLength: 64 });
    const after = fromIp(json<IpAddress>("addr show dev v0"));
    expect(before.filter(line => !after.includes(line)).map(line => line.split(" ")[1])).toEqual(["10.9.0.1/24", "fd00:9::1/64"]);
  });

  test("a point-to-point address is deleted by what the list says of it", () => {
    const netns = testNetns();
    const { netlink, ip } = netns;
    const ifindex = addVeth(netns);
    ip("addr add 10.6.0.1 peer 10.6.0.2/32 dev v0");
    const isPointToPoint = (entry: InterfaceAddress) => entry.peer !== undefined;
    const entry = netlink.addresses(ifindex).find(isPointToPoint);
    if (entry === undefined) throw new Error("the address is not listed");
    netlink.deleteAddress(entry);
    expect(netlink.addresses(ifindex).some(isPointToPoint)).toBe(false);
  });

  test("failures name address and link; a link that does not exist has no addresses", () => {
    const netns = testNetns();
    const { netlink } = netns;
    const ifindex = addVeth(netns);
    const entry = { ifindex, address: parseAddress("10.99.0.1"), prefixLength: 24 };
    expect(() => netlink.deleteAddress(entry)).toThrow(/^delete address 10\.99\.0\.1\/24 dev v0: .*\(EADDRNOTAVAIL\)$/);
    expect(() => netlink.addAddress({ ...entry, prefixLength: 33 })).toThrow(/^add address 10\.99\.0\.1\/33 dev v0: .*\(EINVAL\)$/);
    expect(() => netlink.addAddress({ ...entry, ifindex: 999 })).toThrow(/dev ifindex 999: .*\(ENODEV\)$/);
    expect(netlink.addresses(999)).toEqual([]);
  });
});
