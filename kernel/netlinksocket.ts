/**
 * One NETLINK_ROUTE socket (netlink(7)): requests with acknowledgement, dumps chunk by chunk, batches of many messages per sendmsg(2).
 * Synchronous: the kernel has queued its answer when send(2) returns, so recv(2) never waits.
 */
import { closeSync, statSync } from "node:fs";
import { constants } from "node:os";
import * as C from "./constants.ts";
import { NetlinkError, SystemCallError } from "./error.ts";
import * as libc from "./libc.ts";
import { align, type Bytes, forEachAttribute, type Message, MessageWriter, readI32, readMessage, readText, toBytes } from "./message.ts";
import { OWN_NETNS, openNetns, withNetnsFd } from "./netns.ts";

const { EAGAIN, EBUSY, EINTR, EINVAL, EMSGSIZE } = constants.errno;

/** The kernel's dump chunks have at most 32 KiB; a single answer (a multipath route) may be larger. */
const RECEIVE_OCTETS = 1 << 18;
/** Room for the error answers of a whole batch, and for bursts of events. */
const SOCKET_BUFFER = 8 << 20;
/** A dump that a change interrupted is begun anew, this often. */
const DUMP_ATTEMPTS = 32;

/** A held namespace: sockets can be opened in it after its path is gone. */
export interface HeldNetns {
  fd: number;
  inode: number;
  close(): void;
}

/** Without a path: the namespace the calling thread is in now. */
export function holdNetns(path = OWN_NETNS): HeldNetns {
  const { fd, close } = openNetns(path);
  return { fd, close, inode: statSync(`/proc/self/fd/${fd}`).ino };
}

export interface DescriptorOptions {
  /** SO_RCVBUF, octets; the kernel doubles it. */
  bufferSize?: number;
  /** A classic BPF program (see filter.ts) that sees every message before it is queued. */
  filter?: Uint8Array;
}

/** Opens a bound NETLINK_ROUTE descriptor there. Needs CAP_SYS_ADMIN only when that is another namespace. */
export function openNetlinkDescriptor(netns: HeldNetns, groups: number, options: DescriptorOptions = {}): number {
  const here = statSync(OWN_NETNS).ino === netns.inode;
  return here ? openDescriptor(groups, options) : withNetnsFd(netns.fd, () => openDescriptor(groups, options));
}

function openDescriptor(groups: number, { bufferSize = SOCKET_BUFFER, filter }: DescriptorOptions): number {
  const purpose = "open an rtnetlink socket";
  const fd = libc.socket(C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, C.NETLINK_ROUTE, purpose);
  try {
    setReceiveBuffer(fd, bufferSize, purpose);
    // Before the socket is in a group, so that nothing slips past.
    if (filter !== undefined) libc.attachFilter(fd, filter, purpose);
    for (const option of [C.NETLINK_EXT_ACK, C.NETLINK_CAP_ACK, C.NETLINK_GET_STRICT_CHK]) {
      libc.setsockopt(fd, C.SOL_NETLINK, option, 1, purpose);
    }
    // struct sockaddr_nl: port 0 lets the kernel choose.
    const address = new Uint8Array(12);
    const view = new DataView(address.buffer);
    view.setUint16(0, C.AF_NETLINK, true);
    view.setUint32(8, groups, true);
    libc.bind(fd, address, purpose);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** FORCE goes beyond net.core.rmem_max and needs CAP_NET_ADMIN; a reader without it does with less. */
function setReceiveBuffer(fd: number, octets: number, purpose: string): void {
  try {
    libc.setsockopt(fd, C.SOL_SOCKET, C.SO_RCVBUFFORCE, octets, purpose);
  } catch {
    libc.setsockopt(fd, C.SOL_SOCKET, C.SO_RCVBUF, octets, purpose);
  }
}

/** Says in words what was asked; called only when it failed. */
export type Describe = () => string;
/** Writes the body of a message. */
export type Encode = (writer: MessageWriter) => void;
/** errno 0 = success. */
export type Failure = { errno: number; detail: string };

export class NetlinkSocket {
  /** For batch(): what it is to send. */
  readonly writer = new MessageWriter();
  readonly #netns: HeldNetns;
  readonly #buffer: Bytes = toBytes(new Uint8Array(RECEIVE_OCTETS));
  #fd: number;
  #sequence = 1;

  /** Owns neither `netns` nor what it points to. */
  constructor(netns: HeldNetns) {
    this.#netns = netns;
    this.#fd = openNetlinkDescriptor(netns, 0);
  }

  /** nlmsg_pid of this socket's requests: notifications carry it. */
  get port(): number {
    const address = libc.getsockname(this.#fd, "read the netlink port");
    return new DataView(address.buffer, address.byteOffset).getUint32(4, true);
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  /** A number for the next message; never 0, which notifications have. */
  nextSequence(): number {
    this.#sequence = this.#sequence >= 0xffff_ffff ? 1 : this.#sequence + 1;
    return this.#sequence;
  }

  /** Sends one message, whose body `encode` writes, and hands the answers but the acknowledgement to `visit`. */
  request(type: number, flags: number, encode: Encode, describe: Describe, visit?: (message: Message) => void): void {
    const sequence = this.nextSequence();
    this.#encode(type, C.NLM_F_ACK | flags, sequence, encode, describe);
    this.#send(describe);
    let answer: Failure | undefined;
    while (answer === undefined) {
      this.#receive(describe, message => {
        if (message.sequence !== sequence) return;
        if (message.type === C.NLMSG_ERROR) answer = readFailure(message);
        else visit?.(message);
      });
    }
    throwFailure(answer, describe);
  }

  /**
   * Sends all messages in `writer`, of which the last has the sequence number `last`. Each failure is handed to `failed` with the sequence
   * number of its message.
   */
  batch(last: number, describe: Describe, failed: (sequence: number, failure: Failure) => void): void {
    // The kernel reports each failure by itself, and success for the last message only.
    this.writer.addFlags(C.NLM_F_ACK);
    this.#send(describe);
    for (let done = false; !done; ) {
      this.#receive(describe, message => {
        if (message.type !== C.NLMSG_ERROR) return;
        const failure = readFailure(message);
        if (failure.errno !== 0) failed(message.sequence, failure);
        if (message.sequence === last) done = true;
      });
    }
  }

  /** A whole dump, begun anew while the kernel says that it is inconsistent. */
  dump<T>(type: number, encode: Encode, describe: Describe, decode: (message: Message) => T | undefined): T[] {
    for (let attempt = 1; attempt <= DUMP_ATTEMPTS; attempt++) {
      const found: T[] = [];
      this.beginDump(type, encode, describe);
      for (let more = true; more; ) {
        more = this.dumpChunk(describe, message => {
          const item = decode(message);
          if (item !== undefined) found.push(item);
        });
      }
      if (!this.#interrupted) return found;
    }
    throw new NetlinkError(EBUSY, describe(), `changed faster than it can be read, ${DUMP_ATTEMPTS} times over`);
  }

  #dumpSequence = 0;
  #interrupted = false;

  /** Whether the kernel marked the last dump as inconsistent (NLM_F_DUMP_INTR). */
  get interrupted(): boolean {
    return this.#interrupted;
  }

  beginDump(type: number, encode: Encode, describe: Describe): void {
    this.#interrupted = false;
    this.#dumpSequence = this.nextSequence();
    this.#encode(type, C.NLM_F_DUMP, this.#dumpSequence, encode, describe);
    this.#send(describe);
  }

  /** One recv(2). False when the dump is complete. */
  dumpChunk(describe: Describe, visit: (message: Message) => void): boolean {
    let answer: Failure | undefined;
    this.#receive(describe, message => {
      if (message.sequence !== this.#dumpSequence) return;
      if ((message.flags & C.NLM_F_DUMP_INTR) !== 0) this.#interrupted = true;
      if (message.type === C.NLMSG_DONE || message.type === C.NLMSG_ERROR) answer = readFailure(message);
      else visit(message);
    });
    if (answer !== undefined) throwFailure(answer, describe);
    return answer === undefined;
  }

  #encode(type: number, flags: number, sequence: number, encode: Encode, describe: Describe): void {
    this.writer.reset();
    this.writer.begin(type, C.NLM_F_REQUEST | flags, sequence);
    try {
      encode(this.writer);
    } catch (error) {
      throw new NetlinkError(EINVAL, describe(), (error as Error).message);
    }
    this.writer.finish();
  }

  #send(describe: Describe): void {
    try {
      libc.send(this.#fd, this.writer.buffer, this.writer.length, 0, "rtnetlink");
    } catch (error) {
      if (error instanceof SystemCallError) throw new NetlinkError(error.errno, describe(), `send: ${error.message}`);
      throw error;
    }
  }

  /** All messages of one recv(2). `visit` may throw: the whole datagram is consumed by then. */
  #receive(describe: Describe, visit: (message: Message) => void): void {
    let received = libc.recv(this.#fd, this.#buffer.u8, C.MSG_DONTWAIT | C.MSG_TRUNC);
    while (received === -EINTR) received = libc.recv(this.#fd, this.#buffer.u8, C.MSG_DONTWAIT | C.MSG_TRUNC);
    if (received < 0 || received > this.#buffer.u8.length) {
      this.#reopen();
      if (received === -EAGAIN) throw new NetlinkError(EAGAIN, describe(), "the kernel gave no answer");
      throw new NetlinkError(received < 0 ? -received : EMSGSIZE, describe(), received < 0 ? "" : `an answer of ${received} octets`);
    }
    forEachMessage(this.#buffer, received, visit);
  }

  /** What was lost or left over must not answer the next request. */
  #reopen(): void {
    const fd = openNetlinkDescriptor(this.#netns, 0);
    this.close();
    this.#fd = fd;
  }
}

/** Every whole message in the first `length` octets. */
export function forEachMessage(bytes: Bytes, length: number, visit: (message: Message) => void): void {
  for (let message = readMessage(bytes, 0, length); message !== undefined; message = readMessage(bytes, align(message.end), length))
    visit(message);
}

function throwFailure({ errno, detail }: Failure, describe: Describe): void {
  if (errno !== 0) throw new NetlinkError(errno, describe(), detail);
}

/** errno (0 = none) and the extended text of NLMSG_ERROR or NLMSG_DONE. */
export function readFailure(message: Message): Failure {
  const { bytes, start, end, flags, type } = message;
  const errno = Math.max(0, -readI32(bytes, start, end));
  if (errno === 0 || (flags & C.NLM_F_ACK_TLVS) === 0) return { errno, detail: "" };
  let at = start + 4;
  if (type === C.NLMSG_ERROR) {
    // The request's header follows, and its body where the kernel did not cap it.
    const request = readMessage(bytes, at, end);
    at += (flags & C.NLM_F_CAPPED) === 0 && request !== undefined ? align(request.end - at) : 16;
  }
  let detail = "";
  forEachAttribute(bytes, at, end, (kind, from, to) => {
    if (kind === C.NLMSGERR_ATTR_MSG) detail = readText(bytes, from, to);
  });
  return { errno, detail };
}
