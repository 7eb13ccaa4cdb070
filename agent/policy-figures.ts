/** How policies are carried out here, for status and metrics. */
export interface PolicyFigures {
  /** Objects of all kinds of policies that are known. */
  policies: number;
  /** Attachments that a policy selects. */
  isolated: number;
  /** All was heard once, and what follows from it is in force. */
  inForce: boolean;
  /** Packets by policy that selects pods here, as of the last look(). */
  dropped: { policy: string; ingress: number; egress: number }[];
}
