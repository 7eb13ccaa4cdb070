/**
 * Make before break, where the mesh is arranged anew: from a full mesh to reflectors, back, or to other reflectors. What is not wanted any more goes on
 * for a while: sessions until others carry what came by them, reflecting for clients that may not have their own sessions yet, belief in a reflector
 * until it has taken its routes back. Nodes hear of such a change one after the other, and nobody knows when the last one has. A session that ends
 * like this ends as that of a restart does (RFC 4724), so that a node which has not heard yet keeps the routes.
 */
import type { Clock, Timer } from "../platform/clock.ts";
import { sliceOf } from "../platform/clock.ts";
import type { NeighborConfig, NodeRole, SpeakerConfig } from "./config.ts";
import type { Rib } from "./rib/rib.ts";
import type { RibTable } from "./rib/table.ts";

/** Milliseconds that each stays at least: others hear of the change a little later. */
const LEAST = 5000;
/** Milliseconds between looks. */
const INTERVAL = 1000;

/** What the routes at hand need. */
interface Needs {
  /** Neighbours with routes that nobody else has. */
  only: ReadonlySet<string>;
  /** Neighbours that reflect routes. */
  reflecting: ReadonlySet<string>;
}

export interface HandoverOptions {
  clock: Clock;
  rib(): Rib;
  /** Whether there is a session with the neighbour, or routes of one that are kept. */
  isOfUse(name: string): boolean;
  /** Something has ended: the wanted configuration comes to something else now. */
  changed(): void;
}

export class Handover {
  readonly #options: HandoverOptions;
  /** Neighbours that are wanted no more. */
  readonly #leaving = new Map<string, NeighborConfig>();
  /** Neighbours that are still clients of ours. */
  readonly #clients = new Set<string>();
  /** Neighbours that are still believed as reflectors. */
  readonly #roles = new Map<string, NodeRole>();
  /** The cluster is another one: until all have it, each reflector is one by itself, as members of a cluster do not hear each other's routes. */
  #isBetweenClusters = false;
  /** What was in force when it began: policies and nodes that the former neighbours refer to. */
  #former: SpeakerConfig | undefined;
  /** Of the monotonic clock, and how long it may take. Milliseconds. */
  #begun = 0;
  #most = 0;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: HandoverOptions) {
    this.#options = options;
  }

  isLeaving(name: string): boolean {
    return this.#leaving.has(name);
  }

  /** `before`: what is in force. Returns what goes on that is not wanted, in words by neighbour. */
  begin(before: SpeakerConfig | undefined, wanted: SpeakerConfig): Map<string, string> {
    const neighbors = new Map(wanted.neighbors.map(neighbor => [neighbor.name, neighbor]));
    this.#forget(neighbors);
    if (!before || !isArrangedAnew(before, wanted)) return new Map();
    this.#former = before;
    this.#begun = this.#options.clock.monotonic();
    this.#most = wanted.startupWait * 1000;
    this.#isBetweenClusters ||= before.clusterId !== wanted.clusterId;
    const kept = new Map<string, string>();
    for (const former of before.neighbors) {
      const { name } = former;
      if (!former.mesh || !this.#options.isOfUse(name)) continue;
      const next = neighbors.get(name);
      if (!next) {
        this.#leaving.set(name, former);
        kept.set(name, `is wanted no more: the session stays until others carry its routes, at most ${wanted.startupWait} s`);
        continue;
      }
      if (former.routeReflectorClient && !next.routeReflectorClient) {
        this.#clients.add(name);
        kept.set(name, `stays a client for ${wanted.startupWait} s, until it has sessions of its own`);
      }
      const role = reflectingRole(former);
      if (role && !reflectingRole(next)) this.#roles.set(name, role);
    }
    this.#watch();
    return kept;
  }

  /** The wanted configuration, and what goes on. */
  extend(wanted: SpeakerConfig): SpeakerConfig {
    const former = this.#former;
    if (!former || this.#isDone) return wanted;
    const neighbors = wanted.neighbors.map(neighbor => {
      const role = this.#roles.get(neighbor.name);
      const stays = this.#clients.has(neighbor.name);
      return role || stays ? { ...neighbor, ...(role && { origin: role }), ...(stays && { routeReflectorClient: true }) } : neighbor;
    });
    const { origins } = wanted;
    const known = new Set(origins?.nodes.map(({ name }) => name));
    const taken = new Set(origins?.nodes.flatMap(({ ranges }) => ranges));
    const nodes = [...this.#leaving.values()].flatMap(({ origin }) => {
      const node = origin === undefined || origin === "outside" || known.has(origin.node) ? undefined : origin.node;
      const view = node === undefined ? undefined : former.origins?.nodes.find(({ name }) => name === node);
      if (node !== undefined) known.add(node);
      return view ? [{ ...view, ranges: view.ranges.filter(range => !taken.has(range)) }] : [];
    });
    const { clusterId, ...rest } = wanted;
    return {
      ...rest,
      ...(clusterId !== undefined && !this.#isBetweenClusters && { clusterId }),
      neighbors: [...neighbors, ...this.#leaving.values()],
      policies: { ...former.policies, ...wanted.policies },
      ...(origins &&
        nodes.length > 0 && { origins: { nodes: [...origins.nodes, ...nodes], lists: { ...former.origins?.lists, ...origins.lists } } }),
    };
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  get #isDone(): boolean {
    return this.#leaving.size + this.#clients.size + this.#roles.size === 0 && !this.#isBetweenClusters;
  }

  /** What is wanted again, or has left altogether. */
  #forget(wanted: ReadonlyMap<string, NeighborConfig>): void {
    for (const name of this.#leaving.keys()) if (wanted.has(name)) this.#leaving.delete(name);
    for (const name of this.#clients) if (wanted.get(name)?.routeReflectorClient !== false) this.#clients.delete(name);
    for (const name of this.#roles.keys()) {
      const next = wanted.get(name);
      if (!next || reflectingRole(next)) this.#roles.delete(name);
    }
  }

  #watch(): void {
    if (this.#isDone || this.#closed) return;
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(INTERVAL, () => void this.#look());
  }

  async #look(): Promise<void> {
    const begun = this.#begun;
    const needs = await this.#needs();
    // A change in the meantime has its own look.
    if (this.#closed || begun !== this.#begun) return;
    if (this.#release(needs, this.#options.clock.monotonic() - begun)) this.#options.changed();
    this.#watch();
  }

  #release({ only, reflecting }: Needs, elapsed: number): boolean {
    const [isEarly, isLate] = [elapsed < LEAST, elapsed >= this.#most];
    const ended = [...this.#leaving.keys()].filter(name => isLate || !this.#options.isOfUse(name) || !(isEarly || only.has(name)));
    for (const name of ended) this.#leaving.delete(name);
    // Nothing that comes from a client says whether it has sessions of its own.
    const clients = isLate ? this.#clients.size : 0;
    if (isLate) this.#clients.clear();
    // A reflector that has gone on as long as it may takes its routes back later than that.
    const roles = [...this.#roles.keys()].filter(name => elapsed >= 2 * this.#most || !(isEarly || reflecting.has(name)));
    for (const name of roles) this.#roles.delete(name);
    const settles = this.#isBetweenClusters && isLate && this.#roles.size === 0;
    if (settles) this.#isBetweenClusters = false;
    return ended.length + clients + roles.length > 0 || settles;
  }

  /** In slices: the table may be large. */
  async #needs(): Promise<Needs> {
    const { clock } = this.#options;
    const rib = this.#options.rib();
    const needs = { only: new Set<string>(), reflecting: new Set<string>() };
    for (const table of rib.tables) {
      for (let from = 1; from !== 0 && !this.#closed; ) {
        from = table.eachPath(from, sliceOf(clock), path => this.#note(rib, table, path, needs));
        if (from !== 0) await new Promise(resolve => setImmediate(resolve));
      }
    }
    return needs;
  }

  #note({ slots, attributes }: Rib, table: RibTable, path: number, needs: { only: Set<string>; reflecting: Set<string> }): void {
    const slot = slots.get(table.pathSlot[path]);
    if (!slot) return;
    const raw = table.pathRaw[path];
    const isReflected = attributes.hasOriginator[raw] === 1 && attributes.originatorId[raw] !== slot.routerId;
    if (isReflected && this.#roles.has(slot.neighbor)) needs.reflecting.add(slot.neighbor);
    if (!this.#leaving.has(slot.neighbor) || needs.only.has(slot.neighbor) || !table.isEligible(path)) return;
    for (let other = table.head[table.pathPrefix[path]]; other !== 0; other = table.pathNext[other]) {
      if (table.isEligible(other) && !this.#leaving.has(slots.get(table.pathSlot[other])?.neighbor ?? "")) return;
    }
    needs.only.add(slot.neighbor);
  }
}

/** Another AS or router id ends every session anyway. */
function isArrangedAnew(before: SpeakerConfig, wanted: SpeakerConfig): boolean {
  return before.arrangement !== wanted.arrangement && before.asn === wanted.asn && before.routerId === wanted.routerId;
}

function reflectingRole({ origin }: NeighborConfig): NodeRole | undefined {
  return origin !== undefined && origin !== "outside" && origin.reflects ? origin : undefined;
}
