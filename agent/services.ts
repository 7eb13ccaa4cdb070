/**
 * Services on this node: the plan's rules, the Services that the source knows, and the state of the data path -> networks that come and go at the
 * speaker. Beside compile(): one endpoint costs one Service. What was announced is kept on disk, and used while the source has not said anything yet.
 */
import type { NetworkConfig } from "../bgpd/config.ts";
import type { Faults } from "../bgpd/faults.ts";
import type { Speaker } from "../bgpd/speaker.ts";
import { type AddressState, ServiceAnnouncer } from "../config/services/announcer.ts";
import type { ServiceIndex } from "../config/services/service-index.ts";
import type { ServiceRoute, ServiceRouteChanges, ServicesPlan } from "../config/services/types.ts";
import type { Gates } from "../config/services/verdicts.ts";
import { type Clock, sliceOf } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";
import { NamedTimers } from "./named-timers.ts";
import { type Ask, askNode, freeAddresses } from "./services/ask.ts";
import { type CheckSubject, EndpointChecks } from "./services/endpoint-checks.ts";
import { HeldPrefixes } from "./services/held-prefixes.ts";
import { type SavedServices, ServiceMemory } from "./services/memory.ts";
import { type ProxyState, ProxyWatch } from "./services/proxy-watch.ts";
import { type QueryParts, type ServicesSubject, serviceQueries } from "./services/queries.ts";
import type { Serving } from "./serving.ts";

export interface ServicesOptions {
  node: string;
  stateDirectory: string;
}

export interface ServicesParts {
  clock: Clock;
  log: Logger;
  faults: Pick<Faults, "guard">;
  /** Absent: the source has no Services. */
  index: ServiceIndex | undefined;
  /** undefined: the node has no part in BGP. */
  speaker(): Pick<Speaker, "changeNetworks"> | undefined;
  serving(): Serving;
  /** Absent: by HTTP. */
  ask?: Ask;
  memory?: ServiceMemory;
}

/** Of figures and metrics. */
export interface ServiceFigures {
  addresses: Partial<Record<AddressState, number>>;
  proxy: ProxyState;
}

/** Milliseconds between writings of what is announced, and where something was taken back: the next agent must not announce that again. */
const SAVE_INTERVAL = 10_000;
const SAVE_WITHDRAWN = 1_000;
/** Milliseconds that a source may take until it is told that what it said before is used. */
const PATIENCE = 10_000;
/** Milliseconds, at least, that a new agent has to come to serve until it takes back what the one before announced. */
const FOLLOWING = 30_000;
/** Aggregates that are told one by one. */
const TOLD = 16;

export class Services {
  readonly #node: string;
  readonly #parts: ServicesParts;
  readonly #timers: NamedTimers;
  readonly #announcer: ServiceAnnouncer | undefined;
  readonly #proxy: ProxyWatch;
  readonly #checks: EndpointChecks;
  readonly #memory: ServiceMemory;
  readonly #startedAt: number;
  #plan: ServicesPlan | undefined;
  /** Of the run before, until the source has told all. */
  #saved: SavedServices | undefined;
  #speaker: ReturnType<ServicesParts["speaker"]>;
  /** What the speaker was told, by prefix. */
  readonly #told = new Map<string, ServiceRoute>();
  /** The source has told all, and that was judged. */
  #begun = false;
  /** Prefixes that were announced when it was seen that labels of namespaces are not known. */
  #held: HeldPrefixes | undefined;
  /** Services to be judged again. */
  readonly #due = new Set<string>();
  /** There is something of the run before, and the machine was not started since. */
  readonly #wasCurrent: boolean = false;
  /** The node has served since the start. */
  #served = false;
  #unsaved = false;
  #saveFailed: string | undefined;
  #closed = false;

  constructor(options: ServicesOptions, parts: ServicesParts) {
    this.#node = options.node;
    this.#parts = parts;
    const { clock, index, ask = askNode(clock, freeAddresses(clock, index)) } = parts;
    this.#timers = new NamedTimers(clock);
    this.#announcer = index && new ServiceAnnouncer(index);
    this.#proxy = new ProxyWatch({ clock, ask, changed: () => this.look() });
    this.#checks = new EndpointChecks({
      clock,
      ask,
      confirmed: service => this.#judgeNext(service),
      subject: service => this.#checkSubject(service),
    });
    this.#memory = parts.memory ?? new ServiceMemory(options);
    this.#startedAt = clock.monotonic();
    if (!index) return;
    this.#saved = this.#memory.load();
    this.#wasCurrent = this.#saved?.current === true;
    if (this.#wasCurrent) {
      this.#proxy.assume();
      this.#checks.assume(this.#saved?.confirmed ?? [], "said");
      this.#checks.assume(this.#saved?.assumed ?? [], "assumed");
    }
    index.listen(changed => parts.faults.guard("services", () => this.#hear(changed)));
  }

  /** With the plan that the speaker has just got. */
  apply(plan: ServicesPlan | undefined): void {
    if (this.#closed) return;
    const same = JSON.stringify(plan) === JSON.stringify(this.#plan);
    this.#plan = plan;
    this.#proxy.follow(plan);
    const speaker = this.#parts.speaker();
    if (speaker !== this.#speaker) {
      this.#speaker = speaker;
      speaker?.changeNetworks(new Map([...this.#told].map(([prefix, route]) => [prefix, networkOf(route)])));
    }
    if (!same) this.#announceAll();
  }

  /** The node's readiness or the proxy's may be another one. */
  look(): void {
    if (this.#closed) return;
    if (this.#parts.serving().ready) this.#served = true;
    if (this.#isKnown()) this.#judgeSoon(this.#announcer?.open(this.#gates()) ?? []);
    else this.#announceSaved();
  }

  problems(): Problem[] {
    if (!this.#plan) return [];
    return [
      ...this.#proxy.problems(),
      ...this.#checks.problems(),
      ...this.#heldProblems(),
      ...this.#rangeProblems(),
      ...this.#saveProblems(),
    ];
  }

  figures(): ServiceFigures | undefined {
    if (!this.#plan || !this.#announcer) return undefined;
    return { addresses: Object.fromEntries(this.#announcer.counts()), proxy: this.#proxy.state };
  }

  /** Prefixes that are originated for Services. */
  get announced(): number {
    return this.#told.size;
  }

  get subject(): ServicesSubject | undefined {
    const { index } = this.#parts;
    if (!index || !this.#announcer) return undefined;
    const known = this.#isKnown() ? "source" : this.#saved ? "saved" : "none";
    // Without rules the source is not asked for Services.
    return { announcer: this.#announcer, index, known: this.#plan ? known : "none" };
  }

  /** What the local API answers. */
  queries(speaker: QueryParts["speaker"], resources: QueryParts["resources"]) {
    return serviceQueries({ node: this.#node, services: this, speaker, resources });
  }

  /** What is announced stays: who ends the sessions says what becomes of it. */
  close(): void {
    this.#closed = true;
    this.#timers.close();
    this.#proxy.close();
    this.#checks.close();
    this.#save();
  }

  #isKnown(): boolean {
    return this.#parts.index?.complete === true;
  }

  #hear(changed: ReadonlySet<string>): void {
    if (this.#closed) return;
    if (!this.#isKnown()) {
      // The source has let go of them: what is announced stays until the plan that needs them goes as well.
      this.#begun = false;
      return;
    }
    // The first time all that there is: it replaces what the former agent left.
    if (this.#begun) this.#judgeSoon(changed);
    else this.#announceAll();
  }

  #gates(): Gates {
    const { ready, reason } = this.#parts.serving();
    const isOpen = ready || this.#isFollowing();
    return {
      ...(isOpen ? {} : { node: reason }),
      ...this.#proxy.gates,
      confirmed: (service, family) => this.#checks.has(service, family),
      held: address => this.#held?.has(address) === true,
    };
  }

  /**
   * A new agent on a machine that forwards: what the one before announced goes on while this one's sessions come up, since a neighbour takes what it does
   * not hear again by End-of-RIB as withdrawn (RFC 4724 section 4.2).
   */
  #isFollowing(): boolean {
    if (this.#served || !this.#wasCurrent) return false;
    const left = this.#startedAt + Math.max(FOLLOWING, (this.#plan?.timeout ?? 0) * 1000) - this.#parts.clock.monotonic();
    if (left > 0) this.#timers.soon("following", left, () => this.look());
    return left > 0;
  }

  /** Everything anew and at once, in step with the policies that the speaker has just got. */
  #announceAll(): void {
    if (!this.#announcer) return;
    if (!this.#isKnown()) {
      this.#announceSaved();
      return;
    }
    this.#hold();
    this.#saved = undefined;
    this.#begun = true;
    this.#due.clear();
    // They may have gone before this agent came.
    for (const service of this.#checks.services()) this.#forgetEnded(service);
    this.#announcer.use(this.#plan, this.#gates());
    this.#become(this.#announcer.routes());
    this.#checks.want(this.#announcer.waiting(), this.#plan?.timeout ?? 0);
  }

  /** Where the data path lets it: all of it, or nothing. */
  #announceSaved(): void {
    const { node, proxy } = this.#gates();
    const isOpen = this.#plan !== undefined && node === undefined && proxy === undefined;
    if (isOpen === this.#told.size > 0) return;
    this.#become(new Map(isOpen ? this.#saved?.routes.map(route => [route.prefix, route]) : []));
  }

  /** Before anything is judged without labels of namespaces. */
  #hold(): void {
    if (this.#parts.index?.namespacesKnown !== false) this.#held = undefined;
    else this.#held ??= new HeldPrefixes([...this.#told.keys(), ...(this.#saved?.routes.map(({ prefix }) => prefix) ?? [])]);
  }

  #become(routes: ReadonlyMap<string, ServiceRoute>): void {
    const gone = [...this.#told.keys()].filter(prefix => !routes.has(prefix));
    this.#tell(new Map([...gone.map(prefix => [prefix, undefined] as const), ...routes]));
  }

  #judgeSoon(services: Iterable<string>): void {
    for (const service of services) this.#due.add(service);
    if (this.#due.size > 0) this.#judge();
  }

  #judgeNext(service: string): void {
    this.#due.add(service);
    this.#timers.soon("judge", 0, () => this.#judge());
  }

  /** Some at a time: sessions must not wait for ten thousand Services. */
  #judge(): void {
    const announcer = this.#announcer;
    if (this.#closed || !announcer || !this.#plan || !this.#isKnown()) return;
    this.#hold();
    const isOver = sliceOf(this.#parts.clock);
    const changes = new Map<string, ServiceRoute | undefined>();
    for (const service of this.#due) {
      this.#due.delete(service);
      this.#forgetEnded(service);
      for (const [prefix, route] of announcer.change([service])) changes.set(prefix, route);
      if (isOver()) break;
    }
    this.#tell(changes);
    this.#checks.want(announcer.waiting(), this.#plan.timeout);
    if (this.#due.size > 0) this.#timers.soon("judge", 0, () => this.#judge());
  }

  /** Endpoints that come later are others: whether the proxy has taken them over is asked anew. */
  #forgetEnded(service: string): void {
    // Nor may the next agent believe it.
    if (this.#checks.review(service)) this.#saveSoon(true);
  }

  #checkSubject(service: string): CheckSubject | undefined {
    const { index } = this.#parts;
    const { healthCheckNodePort: port, uid = "" } = index?.service(service) ?? {};
    if (!index || port === undefined) return undefined;
    const endpoints = index.endpoints(service);
    return { uid, port, families: ([4, 6] as const).filter(family => endpoints[family].localServing > 0) };
  }

  #tell(changes: ServiceRouteChanges): void {
    const networks = new Map<string, NetworkConfig | undefined>();
    for (const [prefix, route] of changes) {
      const before = this.#told.get(prefix);
      if (before === route || JSON.stringify(before) === JSON.stringify(route)) continue;
      networks.set(prefix, route && networkOf(route));
      if (route) this.#told.set(prefix, route);
      else this.#told.delete(prefix);
    }
    if (networks.size === 0) return;
    this.#speaker?.changeNetworks(networks);
    this.#saveSoon([...networks.values()].includes(undefined));
  }

  #saveSoon(withdrawn: boolean): void {
    this.#unsaved = true;
    if (withdrawn) this.#timers.soon("save withdrawn", SAVE_WITHDRAWN, () => this.#save());
    else this.#timers.soon("save", SAVE_INTERVAL, () => this.#save());
  }

  /** Only what is known to be so: what a former agent left is on the disk already. */
  #save(): void {
    if (!this.#unsaved || !this.#isKnown()) return;
    try {
      const confirmed = this.#proxy.good ? this.#checks.confirmed("said") : [];
      const checks = { confirmed, assumed: this.#checks.confirmed("assumed") };
      this.#memory.save(this.#told.values(), checks, this.#parts.clock.now());
      this.#unsaved = false;
      this.#saveFailed = undefined;
    } catch (error) {
      this.#saveFailed = (error as Error).message;
      this.#parts.log.error({}, `what is announced for Services cannot be saved: ${this.#saveFailed}`);
      this.#timers.soon("save", SAVE_INTERVAL, () => this.#save());
    }
  }

  #heldProblems(): Problem[] {
    const isLate = this.#parts.clock.monotonic() - this.#startedAt >= PATIENCE;
    if (!this.#saved || this.#isKnown() || this.#told.size === 0 || !isLate) return [];
    const message = `which Services there are has not been read since the start: ${this.#told.size} prefixes are announced for them as at ${this.#saved.savedAt}`;
    return [warning("ServicesHeld", message, "see why the source of the objects does not answer; what it says is then used at once")];
  }

  #rangeProblems(): Problem[] {
    const all = this.#announcer?.attachedAggregates() ?? [];
    return all.slice(0, TOLD).map(({ prefix, sources }) => ({
      ...warning(
        "AttachedRange",
        `${prefix} is announced, and this node is attached to a network of it: it does not discard packets to addresses of it that nobody has`,
        "announce a range for Services that no node is attached to, or set a longer length",
      ),
      object: sources[0],
      field: "spec.aggregation",
    }));
  }

  #saveProblems(): Problem[] {
    if (this.#saveFailed === undefined) return [];
    const message = `what is announced for Services cannot be saved: ${this.#saveFailed}`;
    return [warning("ServicesUnsaved", message, "make room in the state directory; it is tried again")];
  }
}

function warning(reason: Problem["reason"], message: string, remedy: string): Problem {
  return { severity: "warning", reason, object: "services", field: "", message, remedy };
}

function networkOf({ prefix, kind, sources, attributes, weight, discard }: ServiceRoute): NetworkConfig {
  const own = { ...attributes, ...(weight === undefined ? {} : { linkBandwidth: weight }) };
  return {
    prefix,
    kind,
    source: sources[0],
    sources: [...sources],
    restricted: true,
    discard: discard && "transit",
    ...(Object.keys(own).length > 0 ? { attributes: own } : {}),
  };
}
