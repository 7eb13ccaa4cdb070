/** Address messages (rtnetlink(7) RTM_*ADDR, linux/if_addr.h): bytes <-> InterfaceAddress, NewAddress. Pure. */
import { sameOctets } from "../net/address.ts";
import * as C from "./constants.ts";
import { forEachAttribute, type Message, type MessageWriter, readAddress, readU32 } from "./message.ts";
import type { InterfaceAddress, NewAddress } from "./types.ts";

/** struct ifaddrmsg. */
const IFADDRMSG = 8;

/** undefined for a message of another family, or without an address. */
export function decodeAddress(message: Message): InterfaceAddress | undefined {
  const { bytes, start, end } = message;
  if (end - start < IFADDRMSG) return undefined;
  const octets = bytes.u8[start] === C.AF_INET ? 4 : bytes.u8[start] === C.AF_INET6 ? 16 : 0;
  const prefixLength = bytes.u8[start + 1];
  if (octets === 0 || prefixLength > octets * 8) return undefined;
  let flags = bytes.u8[start + 2];
  let local: Uint8Array | undefined;
  let remote: Uint8Array | undefined;
  forEachAttribute(bytes, start + IFADDRMSG, end, (type, from, to) => {
    if (type === C.IFA_LOCAL) local = readAddress(bytes, from, to);
    else if (type === C.IFA_ADDRESS) remote = readAddress(bytes, from, to);
    else if (type === C.IFA_FLAGS) flags = readU32(bytes, from, to);
  });
  const address = local ?? remote;
  if (address?.length !== octets) return undefined;
  const decoded: InterfaceAddress = {
    ifindex: bytes.view.getUint32(start + 4, true),
    address,
    prefixLength,
    scope: bytes.u8[start + 3],
    flags,
  };
  if (remote?.length === octets && !sameOctets(remote, address)) decoded.peer = remote;
  return decoded;
}

/** Body of RTM_NEWADDR and RTM_DELADDR. */
export function encodeAddress(writer: MessageWriter, address: NewAddress & Pick<InterfaceAddress, "peer">): void {
  writer.u8(address.address.length === 4 ? C.AF_INET : C.AF_INET6);
  writer.u8(address.prefixLength);
  writer.u8(0);
  writer.u8(address.scope ?? C.RT_SCOPE_UNIVERSE);
  writer.u32(address.ifindex);
  writer.attribute(C.IFA_LOCAL, address.address);
  writer.attribute(C.IFA_ADDRESS, address.peer ?? address.address);
  const flags = (address.nodad === true ? C.IFA_F_NODAD : 0) | (address.noPrefixRoute === true ? C.IFA_F_NOPREFIXROUTE : 0);
  if (flags !== 0) writer.attributeU32(C.IFA_FLAGS, flags);
}

/** Body of a filtered dump; ifindex 0 = all links. */
export function encodeAddressDump(writer: MessageWriter, family: number, ifindex: number): void {
  writer.u8(family);
  writer.u8(0);
  writer.u8(0);
  writer.u8(0);
  writer.u32(ifindex);
}
