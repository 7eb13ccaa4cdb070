/** Neighbour and bridge forwarding (FDB) messages (rtnetlink(7) RTM_*NEIGH, linux/neighbour.h): bytes <-> Neighbour. Pure. */
import type { IpFamily } from "../net/address.ts";
import * as C from "./constants.ts";
import { forEachAttribute, type Message, type MessageWriter, readAddress, readOctets } from "./message.ts";
import type { Neighbour } from "./types.ts";

/** struct ndmsg. */
const NDMSG = 12;

const families: Record<number, Neighbour["family"]> = { [C.AF_INET]: 4, [C.AF_INET6]: 6, [C.AF_BRIDGE]: "bridge" };

/** undefined for a message of another family. */
export function decodeNeighbour(message: Message): Neighbour | undefined {
  const { bytes, start, end } = message;
  if (end - start < NDMSG) return undefined;
  const family = families[bytes.u8[start]];
  if (family === undefined) return undefined;
  const neighbour: Neighbour = {
    ifindex: bytes.view.getUint32(start + 4, true),
    state: bytes.view.getUint16(start + 8, true),
    flags: bytes.u8[start + 10],
    family,
  };
  forEachAttribute(bytes, start + NDMSG, end, (type, from, to) => {
    if (type === C.NDA_LLADDR) neighbour.linkAddress = readOctets(bytes, from, to);
    else if (type === C.NDA_DST) {
      const address = readAddress(bytes, from, to);
      if (family === "bridge") neighbour.destination = address;
      else if (address?.length === (family === 4 ? 4 : 16)) neighbour.address = address;
    }
  });
  return neighbour;
}

/** Body of RTM_NEWNEIGH and RTM_DELNEIGH. An FDB entry with a destination belongs to the tunnel device itself (NTF_SELF). */
export function encodeNeighbour(writer: MessageWriter, neighbour: Neighbour): void {
  const self = neighbour.destination !== undefined && (neighbour.flags & (C.NTF_SELF | C.NTF_MASTER)) === 0 ? C.NTF_SELF : 0;
  encodeHeader(writer, neighbour.family, neighbour.ifindex, neighbour.state, neighbour.flags | self);
  const destination = neighbour.family === "bridge" ? neighbour.destination : neighbour.address;
  if (destination !== undefined) writer.attribute(C.NDA_DST, destination);
  if (neighbour.linkAddress !== undefined) writer.attribute(C.NDA_LLADDR, neighbour.linkAddress);
}

/** Body of a filtered dump; ifindex 0 = all links. `flags`: NTF_PROXY for the addresses that the node answers for in place of their owners. */
export function encodeNeighbourDump(writer: MessageWriter, family: IpFamily | "bridge", ifindex: number, flags = 0): void {
  encodeHeader(writer, family, 0, 0, flags);
  if (ifindex !== 0) writer.attributeU32(C.NDA_IFINDEX, ifindex);
}

function encodeHeader(writer: MessageWriter, family: Neighbour["family"], ifindex: number, state: number, flags: number): void {
  writer.u8(family === "bridge" ? C.AF_BRIDGE : family === 4 ? C.AF_INET : C.AF_INET6);
  writer.u8(0);
  writer.u16(0);
  writer.u32(ifindex);
  writer.u16(state);
  writer.u8(flags);
  writer.u8(0);
}
