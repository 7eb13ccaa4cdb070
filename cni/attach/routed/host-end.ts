/**
 * The node's end of a routed pod's link, as it shall be: up, with the gateway addresses, and with routes to the pod's addresses. Put back wherever somebody
 * undid something.
 *
 * 169.254.1.1 and fe80::1 are addresses of each end, so that whoever asks is answered by the kernel at once; the pod itself never asks, as it has permanent neighbour
 * entries. proxy_arp would answer only after a random delay of up to 0.8 s, only where the node has a route there, and for all else as well; entries
 * in the pod alone would leave a virtual machine in it without an answer. The first address of the range is there too, as on a bridge: with it the node speaks to the pod, and
 * masquerades what comes from elsewhere, whatever addresses its other links have.
 */
import { existsSync } from "node:fs";
import { RT_SCOPE_HOST, RT_SCOPE_UNIVERSE, RTPROT_PODLANE_PODS } from "../../../kernel/constants.ts";
import { NetlinkError } from "../../../kernel/index.ts";
import type { InterfaceAddress, Link, NewAddress, Rtnetlink } from "../../../kernel/types.ts";
import {
  type Address,
  contains,
  formatAddress,
  formatPrefix,
  isLinkLocal,
  maskAddress,
  type Prefix,
  parseAddress,
  parsePrefix,
  sameOctets,
} from "../../../net/address.ts";
import { addressOf } from "../../ipam/book.ts";
import { Pool } from "../../ipam/pool.ts";
import type { AttachProblem } from "../../types.ts";
import { setSysctl } from "../forwarding.ts";
import type { PodEnd } from "../mtu.ts";
import { gatewayMac, isPodLink } from "../names.ts";
import type { PodAddress } from "../pod.ts";

const GATEWAY_4 = parseAddress("169.254.1.1");
const GATEWAY_6 = parseAddress("fe80::1");
/** Better than what is learned; 0 would be 1024 in IPv6. */
const METRIC_6 = 1;

/** `ADDRESS/LENGTH` of the ledger as a routed pod has it: its address and no neighbours. */
export function routedAddress(text: string): PodAddress {
  const address = addressOf(text);
  const gateway = address.length === 4 ? GATEWAY_4 : GATEWAY_6;
  return { address, length: address.length * 8, gateway, gatewayMac: gatewayMac() };
}

/** Makes a new end as it shall be. Throws NetlinkError and errors of sysctl(8). */
export function setUpHostEnd(netlink: Rtnetlink, host: Link, addresses: readonly string[]): void {
  tune(host.name, hasIpv6(addresses));
  netlink.setLink(host.index, { up: true });
  for (const gateway of gatewaysOf(host, addresses)) netlink.addAddress(gateway);
  for (const text of addresses) leadTo(netlink, host, addressOf(text));
}

/** `present`: the addresses of the link. Says in words what was put right, and returns what could not be. */
export function mendHostEnd(
  netlink: Rtnetlink,
  host: Link,
  { addresses }: PodEnd,
  present: readonly InterfaceAddress[],
  mended: string[],
): AttachProblem[] {
  if (!sameOctets(host.address, gatewayMac())) {
    netlink.setLink(host.index, { address: gatewayMac() });
    mended.push(`gave ${host.name} its hardware address back`);
  }
  if (tune(host.name, hasIpv6(addresses))) mended.push(`set the kernel parameters of ${host.name} again`);
  if (!host.up) {
    netlink.setLink(host.index, { up: true });
    mended.push(`took ${host.name} up`);
  }
  const wanted = gatewaysOf(host, addresses);
  const isThere = (one: NewAddress) => present.some(entry => sameAddress(entry, one));
  for (const gateway of wanted.filter(one => !isThere(one))) {
    netlink.addAddress(gateway);
    mended.push(`put ${formatAddress(gateway.address)}/${gateway.prefixLength} on ${host.name}`);
  }
  for (const entry of present) {
    if (isLinkLocal(entry.address) || wanted.some(one => sameAddress(entry, one))) continue;
    netlink.deleteAddress(entry);
    mended.push(`took ${formatAddress(entry.address)}/${entry.prefixLength} off ${host.name}: it is no gateway of this pod`);
  }
  return addresses.map(addressOf).flatMap(address => mendRoute(netlink, host, address, mended));
}

/** What differs from what setUpHostEnd() made. */
export function inspectHostEnd(netlink: Rtnetlink, host: Link, addresses: readonly string[]): string[] {
  const present = netlink.addresses(host.index);
  const missing = gatewaysOf(host, addresses).filter(one => !present.some(entry => sameAddress(entry, one)));
  const astray = addresses.map(addressOf).filter(address => !isLedTo(netlink, host, address));
  return [
    ...missing.map(({ address }) => `the node's interface ${host.name} has no address ${formatAddress(address)}`),
    ...astray.map(address => `the node has no route to ${formatAddress(address)} by ${host.name}`),
  ];
}

/** Networks of the node that hold the pods' gateway, which is an address of the node as soon as there are pods: that of a router, say, on a link of two. */
export function gatewayConflicts(links: readonly Link[], addresses: readonly InterfaceAddress[]): AttachProblem[] {
  const others = new Map(links.filter(link => !isPodLink(link)).map(link => [link.index, link.name]));
  return addresses.flatMap(({ ifindex, address, peer, prefixLength }): AttachProblem[] => {
    const name = others.get(ifindex);
    const network: Prefix = { family: 4, address: maskAddress(peer ?? address, prefixLength), length: prefixLength };
    if (name === undefined || address.length !== 4 || !contains(network, GATEWAY_4)) return [];
    const text = formatPrefix(network);
    const message = `the link ${name} is on the network ${text}, whose 169.254.1.1 is the gateway of pods in mode Routed: the node takes it for its own and does not reach who has it there`;
    const remedy = "give that network other addresses, or set mode: Bridge in the PodNetwork before the node has pods";
    return [{ severity: "warning", reason: "AddressConflict", field: name, message, remedy }];
  });
}

/** Whether something was otherwise. */
function tune(name: string, ipv6: boolean): boolean {
  const set = (family: string, key: string, value: string) => setSysctl(["net", family, "conf", name, key], value);
  // Strict (RFC 3704): what claims the address of somebody else ends here. Where net.ipv4.conf.all says 2, the kernel takes the larger one.
  const four = [set("ipv4", "rp_filter", "1"), set("ipv4", "forwarding", "1")];
  if (!existsSync(`/proc/sys/net/ipv6/conf/${name}`)) return four.includes(true);
  if (!ipv6) return [...four, set("ipv6", "disable_ipv6", "1")].includes(true);
  const six = [
    set("ipv6", "disable_ipv6", "0"),
    // None but fe80::1, which all ends have: so none has to be looked for twice.
    set("ipv6", "addr_gen_mode", "1"),
    set("ipv6", "accept_dad", "0"),
    // A pod must not be able to give the node routes.
    set("ipv6", "accept_ra", "0"),
    set("ipv6", "accept_redirects", "0"),
    set("ipv6", "forwarding", "1"),
  ];
  return [...four, ...six].includes(true);
}

function hasIpv6(addresses: readonly string[]): boolean {
  return addresses.some(text => addressOf(text).length === 16);
}

function gatewaysOf({ index: ifindex }: Link, addresses: readonly string[]): NewAddress[] {
  return addresses.flatMap((text): NewAddress[] => {
    const { gateway, family } = new Pool(parsePrefix(text, "clear"));
    return family === 4
      ? [
          // Of scope host, so that nothing is sent from it.
          { ifindex, address: GATEWAY_4, prefixLength: 32, scope: RT_SCOPE_HOST },
          { ifindex, address: gateway, prefixLength: 32, scope: RT_SCOPE_UNIVERSE },
        ]
      : [
          { ifindex, address: GATEWAY_6, prefixLength: 64, nodad: true },
          { ifindex, address: gateway, prefixLength: 128, nodad: true },
        ];
  });
}

function sameAddress(a: InterfaceAddress, b: NewAddress): boolean {
  return a.prefixLength === b.prefixLength && sameOctets(a.address, b.address);
}

/** Whatever stood there goes: what is learned may name the address as well, while its pod was elsewhere. */
function leadTo(netlink: Rtnetlink, host: Link, address: Address): void {
  const family = address.length === 4 ? 4 : 6;
  const metric = family === 6 ? METRIC_6 : 0;
  const nextHops = [{ ifindex: host.index }];
  netlink.replaceRoute({ family, destination: address, length: address.length * 8, metric, protocol: RTPROT_PODLANE_PODS, nextHops });
}

function isLedTo(netlink: Rtnetlink, host: Link, address: Address): boolean {
  const { route } = netlink.match(address);
  return route?.length === address.length * 8 && route.nextHops.length === 1 && route.nextHops[0].ifindex === host.index;
}

function mendRoute(netlink: Rtnetlink, host: Link, address: Address, mended: string[]): AttachProblem[] {
  if (isLedTo(netlink, host, address)) return [];
  leadTo(netlink, host, address);
  const text = formatAddress(address);
  if (isLedTo(netlink, host, address)) {
    mended.push(`put the route to ${text} by ${host.name} back`);
    return [];
  }
  const message = `packets for the pod with ${text} do not go to its link ${host.name}: another route, rule or address of the node comes first`;
  const remedy = `see where they go (ip route get ${text}), and remove what leads there`;
  return [{ severity: "error", reason: "RouteConflict", field: host.name, message, remedy }];
}

/** Runs `work` unless the link is gone by then. */
export function whileThere(netlink: Rtnetlink, { index }: Link, work: () => void): void {
  try {
    work();
  } catch (error) {
    const code = error instanceof NetlinkError ? error.code : (error as NodeJS.ErrnoException).code;
    if (code === undefined || netlink.link(index)) throw error;
  }
}
