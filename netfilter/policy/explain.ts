/** Which rule of which policy lets a connection pass, or drops it. Pure. */
import type { PolicyProtocol } from "./types.ts";

/** Pods by NAMESPACE/NAME, anybody by address. */
export interface Connection {
  from: string;
  to: string;
  protocol: PolicyProtocol;
  /** Destination port behind all translation: the pod's own, not the Service's. */
  port: number;
}

export interface Verdict {
  allowed: boolean;
  /**
   * "rule": of a policy. "isolated": policies isolate the pod, and none of their rules matches. "unknown": the pod of an attachment is not known, and policies
   * might select it. The others say that nothing is asked: "not-isolated", "not-a-pod", "host-network", "self", "own-node".
   */
  by: "rule" | "isolated" | "unknown" | "not-isolated" | "not-a-pod" | "host-network" | "self" | "own-node";
  /** Of by "rule": NAMESPACE/NAME, or KIND/NAME. */
  policy?: string;
  tier?: "Admin" | "NetworkPolicy" | "Baseline";
  /** Of by "rule": from 1, in its direction. */
  rule?: number;
  ruleName?: string;
  /** Of by "isolated": all that isolate it. */
  isolatedBy?: readonly string[];
}

export interface Explanation {
  /** At the node of the source. */
  egress: Verdict;
  /** At the node of the destination. */
  ingress: Verdict;
  /** Both do. */
  allowed: boolean;
}
