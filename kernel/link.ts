/** Link messages (rtnetlink(7) RTM_*LINK, linux/if_link.h): bytes <-> Link, NewLink, LinkChange. Pure. */
import * as C from "./constants.ts";
import {
  type Bytes,
  forEachAttribute,
  type Message,
  type MessageWriter,
  readAddress,
  readI32,
  readOctets,
  readText,
  readU32,
} from "./message.ts";
import type { Link, LinkChange, NewLink } from "./types.ts";

/** struct ifinfomsg. */
const IFINFOMSG = 16;

/** undefined for what is no link message, among them the bridge's port messages (family AF_BRIDGE), whose "delete" leaves the link alive. */
export function decodeLink(message: Message): Link | undefined {
  const { bytes, start, end } = message;
  if (end - start < IFINFOMSG || bytes.u8[start] !== C.AF_UNSPEC) return undefined;
  const flags = bytes.view.getUint32(start + 8, true);
  const link: Link = {
    index: bytes.view.getInt32(start + 4, true),
    name: "",
    kind: "",
    up: (flags & C.IFF_UP) !== 0,
    carrier: (flags & C.IFF_LOWER_UP) !== 0,
    loopback: (flags & C.IFF_LOOPBACK) !== 0,
    mtu: 0,
    address: new Uint8Array(),
    master: 0,
    peerIndex: 0,
    peerNetnsId: -1,
    alias: "",
  };
  forEachAttribute(bytes, start + IFINFOMSG, end, (type, from, to) => {
    decodeLinkAttribute(link, bytes, type, from, to);
  });
  return link;
}

function decodeLinkAttribute(link: Link, bytes: Bytes, type: number, from: number, to: number): void {
  if (type === C.IFLA_IFNAME) link.name = readText(bytes, from, to);
  else if (type === C.IFLA_MTU) link.mtu = readU32(bytes, from, to);
  else if (type === C.IFLA_ADDRESS) link.address = readOctets(bytes, from, to);
  else if (type === C.IFLA_MASTER) link.master = readU32(bytes, from, to);
  else if (type === C.IFLA_LINK) link.peerIndex = readU32(bytes, from, to);
  else if (type === C.IFLA_LINK_NETNSID) link.peerNetnsId = readI32(bytes, from, to);
  else if (type === C.IFLA_IFALIAS) link.alias = readText(bytes, from, to);
  else if (type === C.IFLA_LINKINFO) decodeLinkInfo(link, bytes, from, to);
}

function decodeLinkInfo(link: Link, bytes: Bytes, start: number, end: number): void {
  let masterKind = "";
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type === C.IFLA_INFO_KIND) link.kind = readText(bytes, from, to);
    // The kernel writes the kind before its data.
    else if (type === C.IFLA_INFO_DATA && link.kind === "vxlan") link.vxlan = decodeVxlan(bytes, from, to);
    else if (type === C.IFLA_INFO_DATA && link.kind === "bridge") link.netfilter = decodeNetfilter(bytes, from, to);
    else if (type === C.IFLA_INFO_SLAVE_KIND) masterKind = readText(bytes, from, to);
    else if (type === C.IFLA_INFO_SLAVE_DATA && masterKind === "bridge") link.forwarding = decodeForwarding(bytes, from, to);
  });
}

function decodeForwarding(bytes: Bytes, start: number, end: number): boolean | undefined {
  let forwarding: boolean | undefined;
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type === C.IFLA_BRPORT_STATE && to > from) forwarding = bytes.u8[from] === C.BR_STATE_FORWARDING;
  });
  return forwarding;
}

/** undefined: the kernel was built without it. */
function decodeNetfilter(bytes: Bytes, start: number, end: number): boolean | undefined {
  let shown = 0;
  let on = 0;
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type !== C.IFLA_BR_NF_CALL_IPTABLES && type !== C.IFLA_BR_NF_CALL_IP6TABLES) return;
    shown++;
    if (to > from && bytes.u8[from] !== 0) on++;
  });
  return shown === 0 ? undefined : on === shown;
}

function decodeVxlan(bytes: Bytes, start: number, end: number): NonNullable<Link["vxlan"]> {
  const vxlan: NonNullable<Link["vxlan"]> = { id: 0, port: 0, device: 0, learning: false };
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type === C.IFLA_VXLAN_ID) vxlan.id = readU32(bytes, from, to);
    else if (type === C.IFLA_VXLAN_LINK) vxlan.device = readU32(bytes, from, to);
    else if (type === C.IFLA_VXLAN_LEARNING) vxlan.learning = to > from && bytes.u8[from] !== 0;
    else if (type === C.IFLA_VXLAN_PORT && to - from >= 2) vxlan.port = bytes.view.getUint16(from, false);
    else if (type === C.IFLA_VXLAN_LOCAL || type === C.IFLA_VXLAN_LOCAL6) vxlan.local = given(readAddress(bytes, from, to));
    else if (type === C.IFLA_VXLAN_GROUP || type === C.IFLA_VXLAN_GROUP6) vxlan.group = given(readAddress(bytes, from, to));
  });
  return vxlan;
}

/** The kernel writes an unset address as zeros. */
function given(address: Uint8Array | undefined): Uint8Array | undefined {
  return address?.some(octet => octet !== 0) ? address : undefined;
}

/** Body of RTM_NEWLINK with NLM_F_CREATE. Not part of it are an alias and a bridge's MTU: they hold only when set on a link that exists. */
export function encodeNewLink(writer: MessageWriter, link: NewLink): void {
  encodeHeader(writer, 0, link.up === true ? C.IFF_UP : 0, link.up === true ? C.IFF_UP : 0);
  encodeCommon(writer, link.kind === "bridge" ? { ...link, mtu: undefined } : link);
  const info = writer.open(C.IFLA_LINKINFO);
  writer.attributeText(C.IFLA_INFO_KIND, link.kind);
  if (link.kind === "veth") encodeVethPeer(writer, link.peer);
  if (link.kind === "vxlan") encodeVxlan(writer, link);
  writer.close(info);
}

function encodeVethPeer(writer: MessageWriter, peer: Extract<NewLink, { kind: "veth" }>["peer"]): void {
  const data = writer.open(C.IFLA_INFO_DATA);
  const attribute = writer.open(C.VETH_INFO_PEER);
  encodeHeader(writer, 0, 0, 0);
  encodeCommon(writer, peer);
  writer.close(attribute);
  writer.close(data);
}

function encodeVxlan(writer: MessageWriter, link: Extract<NewLink, { kind: "vxlan" }>): void {
  const data = writer.open(C.IFLA_INFO_DATA);
  writer.attributeU32(C.IFLA_VXLAN_ID, link.id);
  writer.attributeU16be(C.IFLA_VXLAN_PORT, link.port);
  writer.attributeU8(C.IFLA_VXLAN_LEARNING, link.learning ? 1 : 0);
  if (link.local !== undefined) writer.attribute(link.local.length === 4 ? C.IFLA_VXLAN_LOCAL : C.IFLA_VXLAN_LOCAL6, link.local);
  if (link.device !== undefined) writer.attributeU32(C.IFLA_VXLAN_LINK, link.device);
  writer.close(data);
}

/** Body of RTM_NEWLINK for an existing link: everything but `hairpin`, which has a message of its own. */
export function encodeLinkChange(writer: MessageWriter, index: number, change: LinkChange): void {
  encodeHeader(writer, index, change.up === true ? C.IFF_UP : 0, change.up === undefined ? 0 : C.IFF_UP);
  encodeCommon(writer, change);
  if (change.alias !== undefined) writer.attributeText(C.IFLA_IFALIAS, change.alias);
  if (change.group !== undefined) writer.attributeU32(C.IFLA_GROUP, change.group);
  if (change.netfilter !== undefined) encodeNetfilter(writer, change.netfilter);
}

function encodeNetfilter(writer: MessageWriter, on: boolean): void {
  const info = writer.open(C.IFLA_LINKINFO);
  writer.attributeText(C.IFLA_INFO_KIND, "bridge");
  const data = writer.open(C.IFLA_INFO_DATA);
  for (const type of [C.IFLA_BR_NF_CALL_IPTABLES, C.IFLA_BR_NF_CALL_IP6TABLES]) writer.attributeU8(type, on ? 1 : 0);
  writer.close(data);
  writer.close(info);
}

/** Body of RTM_SETLINK in family AF_BRIDGE: a port's hairpin mode. */
export function encodeHairpin(writer: MessageWriter, index: number, hairpin: boolean): void {
  encodeHeader(writer, index, 0, 0, C.AF_BRIDGE);
  const info = writer.open(C.IFLA_PROTINFO);
  writer.attributeU8(C.IFLA_BRPORT_MODE, hairpin ? 1 : 0);
  writer.close(info);
}

/** Body of RTM_GETLINK and RTM_DELLINK: by index, by name, or (index 0) for a dump. */
export function encodeLinkSelector(writer: MessageWriter, nameOrIndex: string | number): void {
  encodeHeader(writer, typeof nameOrIndex === "number" ? nameOrIndex : 0, 0, 0);
  if (typeof nameOrIndex === "string") writer.attributeText(C.IFLA_IFNAME, nameOrIndex);
}

/** Body of RTM_DELLINK: all links of a group, which is not 0. */
export function encodeGroupSelector(writer: MessageWriter, group: number): void {
  encodeHeader(writer, 0, 0, 0);
  writer.attributeU32(C.IFLA_GROUP, group);
}

function encodeHeader(writer: MessageWriter, index: number, flags: number, change: number, family = C.AF_UNSPEC): void {
  writer.u8(family);
  writer.u8(0);
  writer.u16(0);
  writer.u32(index);
  writer.u32(flags);
  writer.u32(change);
}

type CommonFields = Pick<LinkChange, "name" | "mtu" | "address" | "master" | "netnsFd">;

function encodeCommon(writer: MessageWriter, link: CommonFields): void {
  if (link.name !== undefined) writer.attributeText(C.IFLA_IFNAME, link.name);
  if (link.mtu !== undefined) writer.attributeU32(C.IFLA_MTU, link.mtu);
  if (link.address !== undefined) writer.attribute(C.IFLA_ADDRESS, link.address);
  if (link.master !== undefined) writer.attributeU32(C.IFLA_MASTER, link.master);
  if (link.netnsFd !== undefined) writer.attributeU32(C.IFLA_NET_NS_FD, link.netnsFd);
}
