/** What overlay/ is told. config/compile.ts makes the plan; overlay/ never imports config. */

/** VXLAN (RFC 7348) between nodes: which next hops are reached through a tunnel is decided by them, BGP being the only control plane. */
export interface OverlayPlan {
  /** CrossSubnet: only to nodes that are not on a segment with this one. */
  mode: "CrossSubnet" | "Always";
  /** 1..16777215. */
  vni: number;
  /** UDP. */
  port: number;
  /** The node's own ends of tunnels: its InternalIP, at most one per family. */
  local: string[];
  /** The other nodes that have the overlay, by name in order, each with its ends (at most one per family). */
  nodes: { name: string; addresses: string[] }[];
}
