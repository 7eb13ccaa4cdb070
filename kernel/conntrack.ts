/**
 * Forgets UDP connections that the kernel tracks (linux/netfilter/nfnetlink_conntrack.h). UDP has no end: who sends on keeps the way that its first packet was
 * given, to a pod that is gone or to the node itself, as long as no 30 seconds pass in silence. What others have translated, a Service or a masquerade, is left alone.
 */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { sameOctets } from "../net/address.ts";
import * as C from "./constants.ts";
import { NetlinkError } from "./error.ts";
import * as libc from "./libc.ts";
import { type Bytes, forEachAttribute, MessageWriter, readOctets, toBytes } from "./message.ts";
import { type Failure, forEachMessage, holdNetns, readFailure } from "./netlinksocket.ts";
import { withNetnsFd } from "./netns.ts";

const NETLINK_NETFILTER = 12;
/** NFNL_SUBSYS_CTNETLINK << 8, with IPCTNL_MSG_CT_NEW, _GET and _DELETE. */
const NEW = 1 << 8;
const GET = (1 << 8) | 1;
const DELETE = (1 << 8) | 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_ID = 12;
const CTA_FILTER = 25;
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
/** CTA_IP_V4_SRC and _V6_SRC; _V4_DST and _V6_DST. */
const SourceAttributes: readonly number[] = [1, 3];
const DestinationAttributes: readonly number[] = [2, 4];
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
/** CTA_FILTER_F_CTA_PROTO_NUM, and with _DST_PORT. */
const BY_PROTOCOL = 1 << 3;
const BY_PORT = BY_PROTOCOL | (1 << 5);
const IPPROTO_UDP = 17;
/** A chunk of a dump. */
const RECEIVE_OCTETS = 1 << 16;
/** Connections that are forgotten at once: those beyond end by their silence. */
const MAXIMUM = 4096;
/** Ports that are asked for one by one: for each the kernel walks through its whole table, some milliseconds long even where it is empty. */
const FEW = 4;
const PURPOSE = "forget UDP connections to a port";
const families = [C.AF_INET, C.AF_INET6];

/**
 * Those whose first packet went to one of these ports, and which lead to one of these pods (octets of its address) or are translated by nobody. `netns` as elsewhere.
 * Throws NetlinkError, SystemCallError; without connection tracking there is nothing to forget.
 */
export function forgetUdp(ports: readonly number[], pods: readonly Uint8Array[], netns?: string): void {
  const held = holdNetns(netns);
  let fd: number;
  try {
    fd = withNetnsFd(held.fd, () => libc.socket(C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, NETLINK_NETFILTER, PURPOSE));
  } finally {
    held.close();
  }
  const socket = { fd, writer: new MessageWriter(512), bytes: toBytes(new Uint8Array(RECEIVE_OCTETS)) };
  const asked = ports.length <= FEW ? ports : [undefined];
  const wanted = { ports: new Set(ports), pods };
  try {
    for (const family of families)
      for (const port of asked) for (const connection of connectionsTo(socket, family, port, wanted)) forget(socket, family, connection);
  } finally {
    closeSync(fd);
  }
}

interface Socket {
  fd: number;
  /** For one message after the other. */
  writer: MessageWriter;
  bytes: Bytes;
}

interface Wanted {
  ports: ReadonlySet<number>;
  pods: readonly Uint8Array[];
}

interface Connection {
  /** Payloads of its attributes. */
  tuple: Uint8Array;
  id: Uint8Array;
}

/** Of this port, or of all. The kernel picks them out, from 5.8 on; an older one lists all, and they are picked out here. */
function connectionsTo(socket: Socket, family: number, port: number | undefined, { ports, pods }: Wanted): Connection[] {
  const found: Connection[] = [];
  const write = (writer: MessageWriter) => {
    const tuple = writer.open(CTA_TUPLE_ORIG);
    const protocol = writer.open(CTA_TUPLE_PROTO);
    writer.attributeU8(CTA_PROTO_NUM, IPPROTO_UDP);
    if (port !== undefined) writer.attributeU16be(CTA_PROTO_DST_PORT, port);
    writer.close(protocol);
    writer.close(tuple);
    const filter = writer.open(CTA_FILTER);
    writer.attributeU32(CTA_FILTER_ORIG_FLAGS, port === undefined ? BY_PROTOCOL : BY_PORT);
    writer.close(filter);
  };
  const failure = ask(socket, GET, C.NLM_F_DUMP, family, write, (bytes, start, end) => {
    const one: Partial<Connection> = {};
    let [asked, answered]: [Ends?, Ends?] = [];
    forEachAttribute(bytes, start, end, (type, from, to) => {
      if (type === CTA_TUPLE_ORIG && isUdpTo(bytes, from, to, ports)) one.tuple = readOctets(bytes, from, to);
      // It comes first.
      if (!one.tuple) return;
      if (type === CTA_TUPLE_ORIG) asked = endsOf(bytes, from, to);
      if (type === CTA_TUPLE_REPLY) answered = endsOf(bytes, from, to);
      if (type === CTA_ID) one.id = readOctets(bytes, from, to);
    });
    if (one.tuple && one.id && isStale(asked, answered, pods) && found.length < MAXIMUM) found.push(one as Connection);
  });
  if (failure.errno !== 0) throw new NetlinkError(failure.errno, PURPOSE, failure.detail);
  return found;
}

interface Ends {
  source?: Uint8Array;
  destination?: Uint8Array;
}

/** The addresses of a tuple. */
function endsOf(bytes: Bytes, start: number, end: number): Ends {
  const ends: Ends = {};
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type !== CTA_TUPLE_IP) return;
    forEachAttribute(bytes, from, to, (inner, at, after) => {
      if (SourceAttributes.includes(inner)) ends.source = readOctets(bytes, at, after);
      if (DestinationAttributes.includes(inner)) ends.destination = readOctets(bytes, at, after);
    });
  });
  return ends;
}

function isStale(asked: Ends | undefined, answered: Ends | undefined, pods: readonly Uint8Array[]): boolean {
  if (!asked?.source || !asked.destination || !answered?.source || !answered.destination) return false;
  const { source, destination } = answered;
  return pods.some(pod => sameOctets(pod, source)) || (sameOctets(source, asked.destination) && sameOctets(destination, asked.source));
}

function isUdpTo(bytes: Bytes, start: number, end: number, ports: ReadonlySet<number>): boolean {
  let [isUdp, isPort] = [false, false];
  forEachAttribute(bytes, start, end, (type, from, to) => {
    if (type !== CTA_TUPLE_PROTO) return;
    forEachAttribute(bytes, from, to, (inner, at) => {
      if (inner === CTA_PROTO_NUM) isUdp = bytes.u8[at] === IPPROTO_UDP;
      if (inner === CTA_PROTO_DST_PORT) isPort = ports.has(bytes.view.getUint16(at, false));
    });
  });
  return isUdp && isPort;
}

/** With its id, so that one that began anew meanwhile stays. */
function forget(socket: Socket, family: number, { tuple, id }: Connection): void {
  const failure = ask(socket, DELETE, C.NLM_F_ACK, family, writer => {
    writer.attribute(CTA_TUPLE_ORIG | C.NLA_F_NESTED, tuple);
    writer.attribute(CTA_ID, id);
  });
  // It ended by itself.
  if (failure.errno !== 0 && failure.errno !== constants.errno.ENOENT) throw new NetlinkError(failure.errno, PURPOSE, failure.detail);
}

/** One request, and all that is answered to it: the kernel has queued it, or queues the next of it, when recv(2) is called. */
function ask(
  { fd, writer, bytes }: Socket,
  type: number,
  flags: number,
  family: number,
  write: (writer: MessageWriter) => void,
  visit?: (bytes: Bytes, start: number, end: number) => void,
): Failure {
  writer.reset();
  writer.begin(type, C.NLM_F_REQUEST | flags, 1);
  // struct nfgenmsg: family, version, resource.
  writer.u32(family);
  write(writer);
  writer.finish();
  libc.send(fd, writer.buffer, writer.length, 0, PURPOSE);
  for (;;) {
    const received = libc.recv(fd, bytes.u8, C.MSG_DONTWAIT);
    if (received <= 0) return { errno: -received || constants.errno.EIO, detail: "" };
    let answer: Failure | undefined;
    forEachMessage(bytes, received, message => {
      if (message.type === C.NLMSG_DONE || message.type === C.NLMSG_ERROR) answer = readFailure(message);
      else if (message.type === NEW) visit?.(bytes, message.start + 4, message.end);
    });
    if (answer) return answer;
  }
}
