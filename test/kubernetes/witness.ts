/** What an adversity costs: packets between pods and from a node, sessions, routes of podlane in the kernels, and what the agents say of it. */
import type { Daemon } from "../../lab/kubernetes/machine.ts";
import type { Cluster, ClusterNode } from "./cluster.ts";

/** Milliseconds between two packets of a stream. */
const INTERVAL = 50;

export interface End {
  node: ClusterNode;
  /** IPv4, IPv6. */
  addresses: string[];
  netns: string;
}

export interface Cost {
  sent: number;
  lost: number;
  /** "n1 → n2 IPv4: 12" for each stream that lost some. */
  losses: string[];
  /** Sessions that were established before and have begun anew, as "n1: n2/ipv4". */
  reset: string[];
  /** Routes of podlane that went, as "n1 10.244.1.0/24". */
  withdrawn: string[];
}

let made = 0;

export class Witness {
  readonly #cluster: Cluster;
  readonly #id = made++;
  #streams: { name: string; ping: Daemon }[] = [];
  #monitors: { node: ClusterNode; monitor: Daemon }[] = [];
  #before = new Map<string, string>();
  readonly #said = new Set<string>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** From each to each of another node, and from each node to the pod of the next. */
  async begin(ends: readonly End[]): Promise<void> {
    this.#before = await this.#sessions();
    for (const node of this.#cluster.nodes) {
      const monitor = node.start(`monitor${this.#id}`, ["ip", "-o", "monitor", "route"]);
      this.#monitors.push({ node, monitor });
    }
    for (const from of ends)
      for (const to of ends) if (from.node !== to.node) this.#ping(`${from.node.name} → ${to.node.name}`, from.node, to, from.netns);
    ends.forEach((from, at) => {
      const to = ends[(at + 1) % ends.length];
      this.#ping(`node ${from.node.name} → ${to.node.name}`, from.node, to);
    });
  }

  /** Notes what the agents say now. */
  async look(): Promise<void> {
    for (const node of this.#cluster.nodes) {
      const problems = (await node.agent("/v1/problems"))?.problems ?? [];
      for (const { severity, reason, object, message } of problems)
        this.#said.add(`${node.name} ${severity} ${reason} ${object}: ${message}`);
    }
  }

  get said(): string[] {
    return [...this.#said];
  }

  async end(): Promise<Cost> {
    const cost: Cost = { sent: 0, lost: 0, losses: [], reset: [], withdrawn: [] };
    for (const { name, ping } of this.#streams) {
      await ping.kill("SIGINT");
      const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(ping.log()) ?? [];
      cost.sent += Number(sent);
      const lost = Number(sent) - Number(received);
      cost.lost += lost;
      if (lost !== 0) cost.losses.push(`${name}: ${lost}`);
    }
    for (const { node, monitor } of this.#monitors) {
      await monitor.kill("SIGINT");
      for (const [, prefix] of monitor.log().matchAll(/^Deleted (?:blackhole )?(\S+) .*proto 201/gm))
        cost.withdrawn.push(`${node.name} ${prefix}`);
    }
    const now = await this.#sessions();
    for (const [name, since] of this.#before) if (now.get(name) !== since) cost.reset.push(name);
    return cost;
  }

  #ping(name: string, node: ClusterNode, to: End, netns?: string): void {
    to.addresses.forEach((address, at) => {
      const words = ["ping", "-n", "-q", "-i", String(INTERVAL / 1000), "-W", "1", address];
      const ping = node.start(`ping${this.#id}-${this.#streams.length}`, words, netns);
      this.#streams.push({ name: `${name} IPv${at === 0 ? 4 : 6}`, ping });
    });
  }

  async #sessions(): Promise<Map<string, string>> {
    const all = new Map<string, string>();
    for (const node of this.#cluster.nodes)
      for (const { name, state, since } of (await node.agent("/v1/peers"))?.peers ?? [])
        if (state === "Established") all.set(`${node.name}: ${name}`, since);
    return all;
  }
}
