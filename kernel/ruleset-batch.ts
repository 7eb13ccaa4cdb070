/**
 * Transactions of nftables by netlink (linux/netfilter/nfnetlink.h, nf_tables.h): several messages between a begin and an end, which the kernel carries out all
 * or none. Sent on another thread, since the kernel makes who sends wait while it carries out a transaction of somebody else.
 */
import { closeSync, statSync } from "node:fs";
import { constants } from "node:os";
import * as C from "./constants.ts";
import { NetlinkError } from "./error.ts";
import * as libc from "./libc.ts";
import { MessageWriter, toBytes } from "./message.ts";
import { type Failure, forEachMessage, holdNetns, readFailure } from "./netlinksocket.ts";
import { OWN_NETNS, withNetnsFd } from "./netns.ts";

const PURPOSE = "change the nftables ruleset";
const RECEIVE_OCTETS = 1 << 16;
/** SO_SNDBUF, which bounds a batch; the kernel doubles it. */
const SEND_OCTETS = 1 << 20;

/** nlmsg_type of a message of nftables. */
export function rulesetMessage(type: number): number {
  return (C.NFNL_SUBSYS_NFTABLES << 8) | type;
}

/** Of the namespace at the path; absent: that of the calling thread. Throws SystemCallError. */
export function openNetfilterDescriptor(netns: string | undefined, purpose: string): number {
  const held = holdNetns(netns);
  try {
    const open = () => libc.socket(C.AF_NETLINK, C.SOCK_RAW | C.SOCK_CLOEXEC, C.NETLINK_NETFILTER, purpose);
    return statSync(OWN_NETNS).ino === held.inode ? open() : withNetnsFd(held.fd, open);
  } finally {
    held.close();
  }
}

/** One transaction, message by message. */
export class RulesetBatch {
  readonly #writer = new MessageWriter(4096);
  /** What each message is about, by its sequence number; 0: all of it. */
  readonly #labels: string[] = ["nftables"];

  constructor() {
    this.#edge(C.NFNL_MSG_BATCH_BEGIN);
  }

  /** Octets so far. */
  get length(): number {
    return this.#writer.length;
  }

  /** `type`: NFT_MSG_…; `family`: NFPROTO_…; `label`: what it is about, for errors. `encode` writes the attributes. */
  add(type: number, flags: number, family: number, label: string, encode: (writer: MessageWriter) => void): void {
    this.#begin(rulesetMessage(type), C.NLM_F_REQUEST | flags, this.#labels.push(label) - 1, family, 0);
    encode(this.#writer);
    this.#writer.finish();
  }

  /** What is to be sent; nothing can be added after it. */
  finish(): Uint8Array {
    // Failures are told anyhow, and success of the last one that changes something. Older kernels do not acknowledge the end.
    this.#writer.addFlags(C.NLM_F_ACK);
    this.#edge(C.NFNL_MSG_BATCH_END);
    return this.#writer.octets;
  }

  label(sequence: number): string {
    return this.#labels[sequence] ?? this.#labels[0];
  }

  #edge(type: number): void {
    this.#begin(type, C.NLM_F_REQUEST, 0, C.NFPROTO_UNSPEC, C.NFNL_SUBSYS_NFTABLES);
    this.#writer.finish();
  }

  /** With struct nfgenmsg. */
  #begin(type: number, flags: number, sequence: number, family: number, resource: number): void {
    this.#writer.begin(type, flags, sequence);
    this.#writer.u8(family);
    this.#writer.u8(0);
    this.#writer.u8(resource >> 8);
    this.#writer.u8(resource);
  }
}

export interface RulesetSocket {
  /** Resolves when all of it is in force. Rejects with NetlinkError or SystemCallError: then none of it is, or it is not known. One at a time. */
  commit(batch: RulesetBatch): Promise<void>;
  close(): void;
}

/** `netns`: path of the namespace; absent: that of the calling thread. Throws SystemCallError. */
export function openRulesetSocket(netns?: string): RulesetSocket {
  const fd = openNetfilterDescriptor(netns, PURPOSE);
  try {
    setSendBuffer(fd);
    for (const option of [C.NETLINK_EXT_ACK, C.NETLINK_CAP_ACK]) libc.setsockopt(fd, C.SOL_NETLINK, option, 1, PURPOSE);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const bytes = toBytes(new Uint8Array(RECEIVE_OCTETS));
  /** All that the kernel has answered: it has done so when send(2) returns. */
  const drain = (take: (sequence: number, failure: Failure) => void): void => {
    for (let received = 1; received > 0; ) {
      received = libc.recv(fd, bytes.u8, C.MSG_DONTWAIT);
      forEachMessage(bytes, received, message => {
        if (message.type === C.NLMSG_ERROR) take(message.sequence, readFailure(message));
      });
      if (received < 0 && received !== -constants.errno.EAGAIN) take(0, { errno: -received, detail: "" });
    }
  };
  return {
    async commit(batch) {
      drain(() => {});
      await libc.sendAsync(fd, batch.finish(), PURPOSE);
      let first: NetlinkError | undefined;
      let answers = 0;
      drain((sequence, { errno, detail }) => {
        answers++;
        if (errno !== 0) first ??= new NetlinkError(errno, batch.label(sequence), detail);
      });
      if (first) throw first;
      if (answers === 0) throw new NetlinkError(constants.errno.EAGAIN, PURPOSE, "the kernel gave no answer");
    },
    close: () => closeSync(fd),
  };
}

/** FORCE goes beyond net.core.wmem_max, and is for the machine's administrator alone; that of a user namespace, who may change its ruleset, sends smaller batches. */
function setSendBuffer(fd: number): void {
  try {
    libc.setsockopt(fd, C.SOL_SOCKET, C.SO_SNDBUFFORCE, SEND_OCTETS, PURPOSE);
  } catch {
    libc.setsockopt(fd, C.SOL_SOCKET, C.SO_SNDBUF, SEND_OCTETS, PURPOSE);
  }
}
