/** What netfilter/ is told. config/compile.ts makes the plan; netfilter/ never imports config. */
import type { RulesetObject } from "./ruleset.ts";

/** Source NAT of what pods send out of the cluster. Prefixes are `ADDRESS/LENGTH`, in order. */
export interface MasqueradePlan {
  /** This node's pod subnets: what others send through the node is theirs. */
  sources: string[];
  /** Pod subnets and addresses of all nodes, and the exceptions of the PodNetwork: what goes there keeps its source. */
  exempt: string[];
}

/** Tunnels to this node (VXLAN), and from which addresses packets may come in by them. Of overlay/types.ts what concerns packet filters. */
export interface TunnelPlan {
  vni: number;
  /** UDP. */
  port: number;
  nodes: readonly { addresses: readonly string[] }[];
}

/** One object as it shall be from now on; undefined: it shall be gone. */
export type RulesetChange = { key: string; object: RulesetObject | undefined };

/** The one place that runs nft. */
export interface RulesetWriter {
  /**
   * Puts changes into the kernel, all or none, in one transaction with what others asked for meanwhile. Resolves when they are in force. Rejects with an
   * Error that says what nft refused; then what was there before is there still, and it is tried again with the next change of the same objects and now
   * and then.
   */
  change(changes: readonly RulesetChange[]): Promise<void>;
  /**
   * Whoever uses names with this beginning has asked for all that shall be there: what a former agent left under such names, and nobody asked for, goes.
   * Until then it stays in force.
   */
  complete(prefix: string): Promise<void>;
}
