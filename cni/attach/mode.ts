/** What a way of attaching pods to their node has to do; the ways that there are stand in modes.ts. */
import type { Rtnetlink } from "../../kernel/types.ts";
import type { IpFamily } from "../../net/address.ts";
import type { Reservation } from "../ipam/book.ts";
import type { Pool } from "../ipam/pool.ts";
import type { AttachmentResult } from "../protocol/result.ts";
import type { AttachProblem, PodPlan } from "../types.ts";
import type { FormerSysctls } from "./former-sysctls.ts";
import type { PodEnd } from "./mtu.ts";
import type { RangeDiscards } from "./routed/range-discards.ts";

/** Everything throws CniError where a thing of the node stands in the way, NetlinkError where the kernel refuses. */
export interface AttachMode {
  /** Makes of the node's side what one pod needs. Before each ADD and CHECK, so it looks first and changes only what differs. */
  prepare(context: AttachContext): AttachPoint;
  /**
   * The node's side of all pods, as it shall be, put back wherever it differs: after each change of the plan, when kernel events may mean that somebody
   * undid something, and now and then. `active`: new pods are attached this way; else only what runs is looked after, and what nothing needs any more goes.
   * `ends`: of all pods. Returns what was put right, in words, and what could not be.
   */
  mend(context: AttachContext, ends: readonly PodEnd[], active: boolean): { mended: string[]; problems: AttachProblem[] };
  /** The links by which all that pods send and get passes the node, as iptables(8) names them: what packet filters of others must let through. */
  linkPattern(plan: PodPlan): string;
}

export interface AttachContext {
  /** Of the node's namespace. */
  netlink: Rtnetlink;
  plan: PodPlan;
  pools: readonly Pool[];
  /** For kernel parameters that outlive the links: remembers what they were. */
  sysctls: Pick<FormerSysctls, "set">;
  discards: Pick<RangeDiscards, "follow">;
}

/** Where pods are attached, ready for one. */
export interface AttachPoint {
  mode: PodPlan["mode"];
  /** Makes the interface. On failure the caller removes what is there of it. */
  attach(pod: NewPodInterface): AttachmentResult;
  /** Tells who may still know another owner of the pod's addresses. Resolves with what keeps them from hearing it, in words. */
  announce(pod: Reservation): Promise<string | undefined>;
  /** What differs between the kernel and what attach() made; empty = nothing. Things that others added are no concern of ours. */
  inspect(pod: KnownPodInterface): string[];
}

export interface PodInterface {
  netns: string;
  ifname: string;
  hostInterface: string;
  /** `ADDRESS/LENGTH`, the length being that of the range. */
  addresses: readonly string[];
}

export interface NewPodInterface extends PodInterface {
  /** Of the node's end: by it the pair is known again. */
  alias: string;
  mac?: Uint8Array;
}

export interface KnownPodInterface extends PodInterface {
  /** The families that ADD reported a default route of: not a second interface's. */
  defaultRoutes: readonly IpFamily[];
}
