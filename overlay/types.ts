/** What overlay/ is told. config/compile.ts makes the plan; overlay/ never imports config. */

/** VXLAN (RFC 7348) between nodes: which next hops are reached through a tunnel is decided by them, BGP being the only control plane. */
export interface OverlayPlan {
  /** CrossSubnet: only to nodes that are not on a segment with this one. */
  mode: "CrossSubnet" | "Always";
  /** 1..16777215. */
  vni: number;
  /** UDP. */
  port: number;
  /** Whether checksums of what enters a tunnel are left to the hardware. Auto: not by kernels that are known to break them. */
  checksumOffload: "Auto" | "On" | "Off";
  /** The node's own ends of tunnels: its InternalIP, at most one per family. */
  local: string[];
  /** What the node itself sends to pods elsewhere comes from: the first address of each of its pod subnets, which the answer finds through the tunnel. */
  sources: string[];
  /** The other nodes that have the overlay, by name in order, each with its ends (at most one per family). */
  nodes: {
    name: string;
    addresses: string[];
    /** Next hops that stand for it in a family in which it has no end: behind an end of the other one. */
    aliases?: string[];
  }[];
  /** With Always: a node on a segment with this one that sends here without a tunnel, as it has CrossSubnet. */
  plain?: string;
}

/** Octets that a tunnel adds to an inner IP packet: outer IP, UDP, VXLAN and inner Ethernet headers. */
export const Overhead = { 4: 50, 6: 70 } as const;
