/** What the kinds of routers share. */

/** A session as its machine shows it. */
export interface SessionView {
  machine: string;
  /** Name of the neighbour: the machine's in the topology where known. */
  neighbor: string;
  address: string;
  asn: string;
  /** RFC 4271 name: "Established", "Active", … */
  state: string;
  received?: number;
  sent?: number;
  reason?: string;
}

/** A path in a machine's BGP table. */
export interface PathView {
  prefix: string;
  best: boolean;
  asPath: string;
  nextHops: string[];
  from: string;
}

/** A neighbour of a router, with the addresses of both ends: one session each. */
export interface RouterSession {
  name: string;
  link: string;
  asn: number;
  local: string;
  remote: string;
  family: 4 | 6;
  /** Several neighbours share the subnet: put ourselves as next hop, so that traffic really passes this router. */
  shared: boolean;
  passive: boolean;
  password?: string;
}

/** What the generators need of a router in short form. */
export interface RouterPlan {
  name: string;
  asn: number;
  routerId: string;
  holdTime: number;
  sessions: RouterSession[];
  announce: { prefix: string; family: 4 | 6 }[];
}
