/**
 * What cni/ is told and what it shows. AttachPlan has the shape that config/compile.ts produces for a node's pods;
 * cni never imports config, the two meet in the agent.
 */
import type { Finding } from "../platform/problem.ts";

/** How this node attaches its pods. */
export interface AttachPlan {
  /** The node's pod ranges, `ADDRESS/LENGTH`. At least one per family that pods shall have; several of a family are used in order. */
  podCidrs: string[];
  mode: "bridge" | "routed";
  /** At most 15 octets. */
  bridgeName: string;
  /** Octets. "auto": that of the interface with the node's addresses. */
  mtu: number | "auto";
  /** The node's own (InternalIP): pods reach other nodes by the interfaces that have them. Absent: by the default routes. */
  nodeAddresses?: string[];
  /** Let a pod reach itself through a Service address. */
  hairpin: boolean;
}

/** Something that is configured and cannot be done, or is so only in part. */
/** `field`: the field of AttachPlan, or the file or link it is about. */
export type AttachProblem = Finding;

export interface PodName {
  namespace: string;
  name: string;
  uid?: string;
}

/** One pod interface, for people and for the local API. */
export interface AttachmentView {
  network: string;
  containerId: string;
  ifname: string;
  /** Path of the pod's network namespace, as the runtime named it. */
  netns: string;
  /** The node's end of the veth pair. */
  hostInterface: string;
  /** `ADDRESS/LENGTH`. */
  addresses: string[];
  /** "reserved": ADD was begun and never acknowledged. */
  state: "reserved" | "attached";
  /** Milliseconds since the epoch. */
  since: number;
  pod?: PodName;
}
