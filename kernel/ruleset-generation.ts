/**
 * Which generation of the nftables ruleset the kernel has (linux/netfilter/nf_tables.h, NFT_MSG_GETGEN): a number that grows by one with each transaction,
 * whoever's it is. So one small question tells whether somebody else changed anything.
 */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import * as C from "./constants.ts";
import { NetlinkError } from "./error.ts";
import * as libc from "./libc.ts";
import { forEachAttribute, MessageWriter, readU32, toBytes } from "./message.ts";
import { forEachMessage, readFailure } from "./netlinksocket.ts";
import { openNetfilterDescriptor, rulesetMessage } from "./ruleset-batch.ts";

const GETGEN = rulesetMessage(C.NFT_MSG_GETGEN);
const NEWGEN = rulesetMessage(C.NFT_MSG_NEWGEN);
const NFTA_GEN_ID = 1;
const PURPOSE = "ask for the generation of the nftables ruleset";

export interface RulesetGeneration {
  /** Throws NetlinkError, also where the kernel has no nftables. */
  read(): number;
  close(): void;
}

/** `netns`: path of the namespace; absent: that of the calling thread. Throws SystemCallError. */
export function openRulesetGeneration(netns?: string): RulesetGeneration {
  const fd = openNetfilterDescriptor(netns, PURPOSE);
  const writer = new MessageWriter(64);
  const bytes = toBytes(new Uint8Array(4096));
  let sequence = 0;
  return {
    read() {
      sequence = (sequence + 1) >>> 0;
      writer.reset();
      writer.begin(GETGEN, C.NLM_F_REQUEST, sequence);
      // struct nfgenmsg: no family, version 0.
      writer.u32(0);
      writer.finish();
      libc.send(fd, writer.buffer, writer.length, 0, PURPOSE);
      let found: number | undefined;
      let failure: number = constants.errno.EAGAIN;
      for (let received = 1; found === undefined && received > 0; ) {
        received = libc.recv(fd, bytes.u8, C.MSG_DONTWAIT);
        forEachMessage(bytes, received, message => {
          if (message.sequence !== sequence) return;
          if (message.type === C.NLMSG_ERROR) failure = readFailure(message).errno;
          if (message.type !== NEWGEN) return;
          forEachAttribute(bytes, message.start + 4, message.end, (type, from, to) => {
            if (type === NFTA_GEN_ID) found = bigEndian(readU32(bytes, from, to));
          });
        });
      }
      if (found === undefined) throw new NetlinkError(failure, PURPOSE);
      return found;
    },
    close: () => closeSync(fd),
  };
}

function bigEndian(value: number): number {
  return new DataView(Uint32Array.of(value).buffer).getUint32(0, false);
}
