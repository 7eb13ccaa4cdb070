/** What a kind of routers has to do, and what all share; the kinds that there are stand in router-kinds.ts. */

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

/** One daemon or a few that make a router. All files are in the router's folder. */
export interface RouterKind {
  /** For people: "FRR". */
  title: string;
  /** What runs while the router does. */
  programs: readonly string[];
  /** The daemon's configuration from the short form of a topology. */
  config(router: RouterPlan): string;
  /** Writes `config` and starts the programs; `start` begins one, `answers` waits for the one that it names, or for the last. */
  start(
    router: { name: string; folder: string; config: string },
    start: (program: string, command: string, args: string[]) => void,
    answers: (program: string) => Promise<void>,
  ): Promise<void>;
  /** Rejects while the program's control socket does not answer. */
  ask(folder: string, program: string): Promise<unknown>;
  /** Neighbours by the daemon's own names where it does not show an address. */
  sessions(folder: string): Promise<Omit<SessionView, "machine">[]>;
  /** `nameOf`: the machine that has an address. */
  paths(folder: string, router: RouterPlan, nameOf: (address: string) => string | undefined): Promise<PathView[]>;
  /** The command of the daemon's own, in the router's namespace under its own name. */
  tool?(folder: string): { name: string; command: string };
  /** To be tried by hand. */
  example: string;
}
