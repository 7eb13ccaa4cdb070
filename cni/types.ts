/** What cni/ is told and what it shows. config/compile.ts makes the plan; cni/ never imports config. */
import type { Finding } from "../platform/problem.ts";

/** How this node attaches its pods. */
export interface PodPlan {
  /**
   * Subnets from which this node's pods get their addresses, `ADDRESS/LENGTH`; empty: no pod can be attached. At least one per family that pods shall
   * have; several of a family are used in order.
   */
  podCidrs: string[];
  /** See attach/modes.ts. */
  mode: "bridge" | "routed";
  /** At most 15 octets. In mode "routed": of the bridge of pods that are on one still. */
  bridgeName: string;
  /** Octets. "auto": that of the interface with the node's addresses. */
  mtu: number | "auto";
  /** Octets that a tunnel to another node adds to a packet. Absent: there are none. */
  encapsulation?: number;
  /** The node's own (InternalIP): pods reach other nodes by the interfaces that have them. Absent: by the default routes. */
  nodeAddresses?: string[];
  /** Let a pod reach itself through a Service address. In mode "routed" it always can. */
  hairpin: boolean;
  /** The cluster's service ranges, where known. */
  serviceCidrs?: string[];
}

/** Something that is configured and cannot be done, or is so only in part. `field`: the field of PodPlan, or the file or link it is about. */
export type AttachProblem = Finding;

/** What a pod may receive ("ingress") and send ("egress"). */
export interface Bandwidth {
  ingress?: Rate;
  egress?: Rate;
}

export interface Rate {
  /** Bits in a second. */
  rate: number;
  /** Bits that may pass at once. 0: as is usual for the rate. */
  burst: number;
}

export interface PodName {
  namespace: string;
  name: string;
  uid?: string;
}

/** A port of the node that leads to the pod (hostPort). */
export interface PortMapping {
  protocol: "tcp" | "udp" | "sctp";
  hostPort: number;
  containerPort: number;
  /** Canonical. Absent: any address of the node, of both families; 0.0.0.0 or ::, any of one. */
  hostIP?: string;
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
  /** Of the pod's end: "02:00:00:00:00:01". Absent: attached by a version that did not say. */
  mac?: string;
  /** What of the node's ports is the pod's. */
  ports?: PortMapping[];
  /** As its link says. Absent: there is none. */
  mode?: PodPlan["mode"];
  /** "reserved": ADD was begun and never acknowledged. */
  state: "reserved" | "attached";
  /** Milliseconds since the epoch. */
  since: number;
  pod?: PodName;
}

/** Who has to know of a pod's interface before the pod may use it, and when it is gone. */
export interface AttachmentGuard {
  /** The interface is not there yet. Rejects with CniError, as admit() does. */
  prepare(attachment: AttachmentView): Promise<void>;
  /** The interface is there, and ADD is not answered yet. Rejects with CniError: ADD fails with it, and everything is taken back. */
  admit(attachment: AttachmentView): Promise<void>;
  /** The interface is gone, and its addresses are free. Also of one that was never admitted. */
  released(hostInterface: string): void;
}

/** One pod range and what became of its addresses. */
export interface RangeView {
  prefix: string;
  used: number;
  /** Freed a short while ago. */
  resting: number;
  /** May be handed out now. Absent: the range is the node's no more, and pods have addresses of it still. */
  free?: number;
}
