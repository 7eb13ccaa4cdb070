/** Linux, and nothing else: what the rest of podlane may use of this folder. */

export { type KernelAccess, type KernelOptions, openKernel } from "./access.ts";
export { forgetUdp } from "./conntrack.ts";
export * as constants from "./constants.ts";
export { RTPROT_PODLANE } from "./constants.ts";
export { forbidCoreDumps } from "./coredump.ts";
export { NetlinkError, SystemCallError } from "./error.ts";
export { tryLock } from "./flock.ts";
export { giveBackMemory } from "./give-back.ts";
export { bind, socket } from "./libc.ts";
export { memoryFile } from "./memory-file.ts";
export type { MessageWriter } from "./message.ts";
export { type EventTopic, type WatchOptions, watchKernel } from "./monitor.ts";
export { changeForward, type ForwardChain, forwardChains, type IptablesForward, iptablesForward, listChain } from "./netfilter.ts";
export { isNetns, netnsInode, OWN_NETNS, openNetns, withNetns } from "./netns.ts";
export { type NonBlockingOutput, nonBlockingOutput } from "./output.ts";
export { sendFrames } from "./packet.ts";
export { type DescriptorPoll, type PollInterest, pollDescriptor } from "./poll.ts";
export { makeSysctlWritable } from "./procsys.ts";
export { checkRequirements, findLacks, type Needs, READ_ONLY_REMEDY, requirements } from "./requirements.ts";
export { openRtnetlink, type RtnetlinkSocket } from "./rtnetlink.ts";
export { openRulesetSocket, RulesetBatch, type RulesetSocket } from "./ruleset-batch.ts";
export { openRulesetGeneration, type RulesetGeneration } from "./ruleset-generation.ts";
export {
  bindToDevice,
  connectSocket,
  descriptorOf,
  listenSocket,
  localPort,
  type Md5Key,
  openTcpListener,
  openTcpSocket,
  setMd5Key,
  setMinTtl,
  setTos,
  setTtl,
  setUserTimeout,
  type TcpListenerOptions,
  type TcpMd5Counters,
  type TcpOptions,
  type TcpSocketOptions,
  tcpMd5Counters,
  tcpMinTtlDrops,
} from "./socket.ts";
export { readSysctl, writeSysctl } from "./sysctl.ts";
export type * from "./types.ts";
export { uplinksOf } from "./uplinks.ts";
