/**
 * The only door into the BGP speaker: apply() a configuration, ask for snapshots and explanations, listen to events, close. Adding a
 * neighbour, a policy or a network never resets another session; apply() says what it did (RFC 4271; ARCHITECTURE.md, "The way of a route").
 */
import { addressToUint32, parseAddress, parsePrefix } from "../net/address.ts";
import type { Timer } from "../platform/clock.ts";
import { checkConfig, checkNetwork, globalResetReasons, resetReasons, same, withoutResets } from "./apply.ts";
import { boundedLog } from "./bounded-log.ts";
import type { NeighborConfig, NetworkConfig, SpeakerConfig } from "./config.ts";
import { speakerCounters } from "./counters.ts";
import { downProblems, isOverdue } from "./down-problems.ts";
import { explain } from "./explain.ts";
import { Faults, guardedClock, guardedKernel } from "./faults.ts";
import { createNextHopTracker } from "./fib/next-hop.ts";
import type { Fib, NextHopTracker } from "./fib/types.ts";
import { describeMove, Forwarding } from "./forwarding.ts";
import { attractsTraffic } from "./graceful-restart.ts";
import { Handover } from "./handover.ts";
import { CeaseSubcode } from "./message/notification.ts";
import { nextHopProblems } from "./next-hop-problems.ts";
import { originProblems } from "./origin-problems.ts";
import { Peer, type PeerHooks } from "./peer.ts";
import { peerProblems } from "./peer-problems.ts";
import type { Platform } from "./platform.ts";
import { Resets } from "./resets.ts";
import { Rib } from "./rib/rib.ts";
import { listRoutes, type RouteFilter, type RouteList, walkRoutes } from "./route-list.ts";
import { BgpListener, type ListenerOptions } from "./session/listener.ts";
import { createSession } from "./session/session.ts";
import { SessionTotals } from "./session/totals.ts";
import { type TransportOptions, tcpTransport } from "./session/transport.ts";
import type { SessionState } from "./session/types.ts";
import type { Transport } from "./session/wire.ts";
import type {
  ApplyReport,
  Explanation,
  NeighborSnapshot,
  RouteView,
  SessionCounts,
  SpeakerCounters,
  SpeakerProblem,
  SpeakerSnapshot,
} from "./snapshot.ts";
import { neighborSnapshot, sentRoutes, tableCounts } from "./views.ts";

export type { RouteFilter } from "./route-list.ts";

export type SpeakerEvent =
  | { type: "neighbor"; neighbor: string; state: SessionState; reason: string }
  /** A session or its tables came or went: sessions() may say something else. */
  | { type: "progress" }
  | { type: "converged"; reason: string };

export interface CloseOptions {
  /** true: every neighbour hears Cease/Administrative Shutdown and drops our routes. false: connections just end, so that neighbours in graceful restart keep them. */
  graceful: boolean;
  /** Remove our kernel routes. */
  flush: boolean;
}

/** How sessions reach the world: TCP, or in tests a wire in memory. */
export interface Doors {
  transport(options: TransportOptions): Transport;
  listener(options: ListenerOptions): Pick<BgpListener, "setNeighbors" | "start" | "listening" | "problems" | "close">;
}

const tcpDoors: Doors = { transport: tcpTransport, listener: options => new BgpListener(options) };

const problemsOf = (peer: Peer, rib: Rib) => [peerProblems, nextHopProblems, originProblems].flatMap(find => find(peer, rib));

/** Milliseconds between a change of our addresses and what sessions say of it. */
const ADDRESS_DELAY = 100;

export class Speaker {
  readonly #platform: Platform;
  readonly #faults: Faults;
  readonly #doors: Doors;
  /** In force: what is wanted, and what goes on until others take over. */
  #config: SpeakerConfig | undefined;
  #wanted: SpeakerConfig | undefined;
  readonly #handover: Handover;
  /** Networks beside a configuration that has not come yet. */
  #early = new Map<string, NetworkConfig>();
  #rib: Rib;
  #forwarding: Forwarding | undefined;
  #fib: Fib | undefined;
  #tracker: NextHopTracker | undefined;
  #stopTunnels: (() => void) | undefined;
  #listener: ReturnType<Doors["listener"]> | undefined;
  readonly #peers = new Map<string, Peer>();
  readonly #totals = new SessionTotals();
  readonly #listeners = new Set<(event: SpeakerEvent) => void>();
  /** Stable indexes of neighbours; those of removed ones are used again. */
  #nextIndex = 0;
  readonly #freeIndexes: number[] = [];
  #converged = false;
  /**
   * Whether this start is a restart. Set when that is known, which takes a look at the kernel's routes: no session starts before, as its OPEN
   * says so (RFC 4724 section 4.1).
   */
  #opening: { restarting: boolean } | undefined;
  readonly #resets: Resets;
  #listens: SpeakerConfig["listen"] | undefined;
  #startTimer: Timer | undefined;
  #addressTimer: Timer | undefined;
  #closed = false;

  constructor(platform: Platform, doors = tcpDoors) {
    const faults = platform.faults ?? new Faults(platform.clock, platform.log);
    this.#faults = faults;
    this.#platform = {
      ...platform,
      faults,
      clock: guardedClock(platform.clock, faults),
      log: boundedLog(platform.log, platform.clock),
      ...(platform.kernel && { kernel: guardedKernel(platform.kernel, faults) }),
    };
    this.#doors = doors;
    this.#rib = new Rib({ clock: this.#platform.clock, random: platform.random, faults });
    this.#resets = new Resets(this.#platform.clock, name => this.#reset(name));
    this.#handover = new Handover({
      clock: this.#platform.clock,
      rib: () => this.#rib,
      isOfUse: name => this.#hasRoutes(name),
      changed: () => this.#handedOver(),
    });
  }

  /**
   * Brings the speaker to this configuration by the least action for each session. Throws PolicyError or AddressError for a configuration
   * that compile() would not make; then nothing has changed.
   */
  apply(config: SpeakerConfig): ApplyReport {
    checkConfig(config);
    this.#wanted = config;
    const kept = this.#handover.begin(this.#config, config);
    const report = this.#bringTo(this.#handover.extend(config));
    for (const [neighbor, text] of kept) report.actions.push({ neighbor, action: "change", text });
    return report;
  }

  /**
   * Networks that come and go beside SpeakerConfig.networks, by prefix; undefined: no more. Each costs what it costs alone, and one that is as it was
   * costs nothing. apply() leaves them as they are; where it has the prefix as well, its own network is in force. Throws AddressError, and then nothing
   * has changed.
   */
  changeNetworks(changes: ReadonlyMap<string, NetworkConfig | undefined>): void {
    for (const [prefix, network] of changes) checkNetwork({ ...network, prefix });
    const named = new Map([...changes].map(([prefix, network]) => [prefix, network && { ...network, prefix }]));
    if (this.#config) this.#rib.changeNetworks(named);
    else
      for (const [prefix, network] of named) {
        if (network) this.#early.set(prefix, network);
        else this.#early.delete(prefix);
      }
  }

  /** Something that went on ends, as others have taken over. */
  #handedOver(): void {
    if (this.#closed || !this.#wanted) return;
    for (const { neighbor, text } of this.#bringTo(this.#handover.extend(this.#wanted), true).actions)
      this.#platform.log.info({ neighbor }, `the mesh is arranged anew: ${text}`);
  }

  /** There is a session with it, or routes of the last one are kept. */
  #hasRoutes(name: string): boolean {
    const peer = this.#peers.get(name);
    return peer?.negotiated !== undefined || peer?.slot?.state === "stale";
  }

  /** `gently`: sessions that end do so without a word, as those of a restart. */
  #bringTo(config: SpeakerConfig, gently = false): ApplyReport {
    const before = this.#config;
    const report: ApplyReport = { actions: [] };
    if (!before) this.#start(config);
    this.#config = config;
    if (before) this.#moveRoutes(before, config, report);
    this.#rib.configure({
      asn: config.asn,
      routerId: addressToUint32(parseAddress(config.routerId)),
      clusterId: addressToUint32(parseAddress(config.clusterId ?? config.routerId)),
      decision: config.decision,
      multipath: config.multipath,
      protectedPrefixes: config.protectedPrefixes.map(guard => ({ ...guard, prefix: parsePrefix(guard.prefix) })),
      origins: config.origins,
    });
    const resets = this.#endSessions(config, report, gently);
    this.#rib.setNetworks(config.networks);
    if (!before) this.#rib.changeNetworks(this.#early);
    this.#early.clear();
    for (const neighbor of config.neighbors) this.#applyNeighbor(neighbor, config, report);
    this.#startSessions();
    const now = new Set(this.#resets.start([...resets.keys()], this.#peers.size));
    for (const [neighbor, reasons] of resets) {
      const when = now.has(neighbor) ? "session reset" : "session is reset when others are back";
      report.actions.push({ neighbor, action: "reset", text: `${when}: ${reasons.join(", ")}` });
    }
    return report;
  }

  /** Ends those that are wanted no more, or that nothing is lost with; returns which others must be reset, and why. */
  #endSessions(config: SpeakerConfig, report: ApplyReport, gently: boolean): Map<string, string[]> {
    const resets = new Map<string, string[]>();
    const wanted = new Map(config.neighbors.map(neighbor => [neighbor.name, neighbor]));
    for (const [name, peer] of this.#peers) {
      const next = wanted.get(name);
      const reasons = next ? [...globalResetReasons(peer.opened, config), ...resetReasons(peer.config, next, peer.negotiated)] : [];
      if (next && reasons.length === 0) continue;
      if (next && peer.negotiated && !next.shutdown) {
        resets.set(name, reasons);
        continue;
      }
      this.#removePeer(peer, gently);
      report.actions.push({
        neighbor: name,
        action: next ? "reset" : "remove",
        text: next ? `session reset: ${reasons.join(", ")}` : "removed",
      });
    }
    return resets;
  }

  /** With the configuration in force. */
  #reset(name: string): void {
    const peer = this.#peers.get(name);
    const config = this.#config;
    const neighbor = config?.neighbors.find(one => one.name === name);
    if (!peer || !config || !neighbor || this.#closed) return;
    this.#removePeer(peer);
    this.#addPeer(neighbor, config);
    this.#startSessions();
  }

  /** What apply() would do to sessions, before anything is done: which would end, be reset or begin, and why. Throws like apply(). */
  preview(config: SpeakerConfig): ApplyReport["actions"] {
    checkConfig(config);
    const wanted = new Map(config.neighbors.map(neighbor => [neighbor.name, neighbor]));
    const actions: ApplyReport["actions"] = [];
    for (const [neighbor, peer] of this.#peers) {
      const next = wanted.get(neighbor);
      const reasons = next ? [...globalResetReasons(peer.opened, config), ...resetReasons(peer.config, next, peer.negotiated)] : [];
      if (!next) actions.push({ neighbor, action: "remove", text: "the session ends: the neighbour is not in it" });
      else if (next.shutdown && !peer.config.shutdown)
        actions.push({ neighbor, action: "change", text: "the session ends: it is shut down" });
      else if (reasons.length > 0) actions.push({ neighbor, action: "reset", text: `the session is reset: ${reasons.join(", ")}` });
    }
    for (const name of wanted.keys())
      if (!this.#peers.has(name)) actions.push({ neighbor: name, action: "add", text: "a session is added" });
    return actions;
  }

  snapshot(): SpeakerSnapshot {
    return { ...this.overview(), neighbors: [...this.neighbors()] };
  }

  /** One after the other, for whoever wants to do something else in between. */
  *neighbors(): Generator<NeighborSnapshot> {
    for (const peer of this.#peers.values()) {
      const leaving = this.#handover.isLeaving(peer.config.name);
      const overdue = !leaving && isOverdue(peer, this.#platform.clock.monotonic());
      yield { ...neighborSnapshot(peer, this.#rib), ...(leaving && { leaving }), ...(overdue && { overdue }) };
    }
  }

  overview(): Omit<SpeakerSnapshot, "neighbors"> {
    const config = this.#config;
    return {
      asn: config?.asn ?? 0,
      routerId: config?.routerId ?? "0.0.0.0",
      listening: this.#listener?.listening ?? [],
      tables: tableCounts(this.#rib),
      attributeSets: this.#rib.attributes.size,
      updateGroups: this.#rib.groups.reduce((sum, groups) => sum + groups.size, 0),
      fib: this.#fib?.counters(),
      converged: this.#converged,
      faults: this.#faults.snapshot(),
    };
  }

  counters(): SpeakerCounters {
    return speakerCounters([...this.#peers.values()], this.#rib, this.#totals);
  }

  sessions(): SessionCounts {
    const wanted = [...this.#peers.values()].filter(({ config }) => !config.shutdown && !this.#handover.isLeaving(config.name));
    const established = wanted.filter(({ negotiated }) => negotiated);
    const complete = established.filter(peer => peer.complete);
    const adopted = this.#fib !== undefined && this.#opening?.restarting === true;
    return { wanted: wanted.length, established: established.length, complete: complete.length, adopted };
  }

  /** What is wrong right now: listening sockets, neighbours' prefix limits and faults, routes the kernel does not take. */
  problems(): SpeakerProblem[] {
    return [...this.findProblems()].flat();
  }

  /** One after the other, for whoever wants to do something else in between. */
  *findProblems(): Generator<SpeakerProblem[]> {
    for (const message of this.#listener?.problems() ?? []) {
      yield [
        {
          severity: "error",
          reason: "ListenFailed",
          object: "speaker",
          field: "listen",
          message,
          remedy: "neighbours cannot connect to us until then",
        },
      ];
    }
    for (const { prefix, used, ignored } of this.#rib.locals.flatMap(({ duplicates }) => duplicates)) {
      yield [
        {
          severity: "warning",
          reason: "DuplicateNetwork",
          object: ignored,
          field: "prefix",
          message: `${prefix} is announced by ${used} already: what this one says of it has no effect`,
          remedy: `take ${prefix} out of one of them${used === ignored ? "" : ", and put the attributes and neighbours that are wanted into the other"}`,
        },
      ];
    }
    for (const peer of this.#peers.values()) yield problemsOf(peer, this.#rib);
    const staying = [...this.#peers.values()].filter(({ config }) => !this.#handover.isLeaving(config.name));
    yield downProblems(staying, this.#platform.clock.monotonic());
    const faults = this.#faults.snapshot();
    if (faults) {
      const { place, text, about, at } = faults.last;
      yield [
        {
          severity: "error",
          reason: "InternalError",
          object: "speaker",
          field: "faults",
          message: `${faults.count} faults of podlane since the start; the last at ${at}: ${place}${about === undefined ? "" : ` of ${about}`}: ${text}`,
          remedy:
            "what it was about was given up and all else goes on; please report it with the stack and the octets from the agent's log",
        },
      ];
    }
    const { failed = 0, lastError } = this.#fib?.counters() ?? {};
    if (!this.#opening && lastError !== undefined) {
      yield [
        {
          severity: "error",
          reason: "KernelUnreadable",
          object: "speaker",
          field: "fib",
          message: `no session starts yet: the kernel's routes cannot be read: ${lastError}`,
          remedy: `it is tried again; after ${this.#config?.startupWait} s sessions start all the same`,
        },
      ];
    }
    if (failed > 0) {
      const message = `${failed} routes are not in the kernel; the last error: ${lastError}`;
      yield [
        {
          severity: "error",
          reason: "KernelRoutesMissing",
          object: "speaker",
          field: "fib",
          message,
          remedy:
            "they are tried again; podlane explain PREFIX shows one. Where another owner's route is in the way, remove it or choose another metric",
        },
      ];
    }
  }

  /** A page of the routes that match. Rejects with AddressError. */
  routes(filter: RouteFilter = {}): Promise<RouteList> {
    return listRoutes(this.#rib, filter, this.#platform.clock);
  }

  /** The same at once: for tables that are known to be small. Throws AddressError. */
  routesNow(filter: RouteFilter = {}): RouteList {
    const walk = walkRoutes(this.#rib, filter);
    for (;;) {
      const step = walk.next();
      if (step.done) return step.value;
    }
  }

  /** For a prefix, or the longest match of an address. Throws AddressError. */
  explain(prefix: string): Explanation {
    return explain(
      {
        rib: this.#rib,
        peers: [...this.#peers.values()],
        fib: this.#fib,
        netlink: this.#platform.kernel?.netlink,
        tracker: this.#tracker,
        place: this.#config && this.#forwarding && { table: this.#config.fib.table, protocols: this.#forwarding.protocols },
        tunnels: this.#platform.tunnels,
        linkName: ifindex => this.#platform.kernel?.netlink.link(ifindex)?.name,
      },
      prefix,
    );
  }

  /** What a neighbour has from us. */
  adjRibOut(neighbor: string, limit = 1000): { routes: { prefix: string; attributes: RouteView["attributes"] }[]; total: number } {
    const peer = this.#peers.get(neighbor);
    return peer ? sentRoutes(peer, this.#rib, limit) : { routes: [], total: 0 };
  }

  /** "in": asks the neighbour for its routes again (RFC 2918); "out": sends ours again. False: no such Established neighbour. */
  refresh(neighbor: string, direction: "in" | "out"): boolean {
    const peer = this.#peers.get(neighbor);
    if (!peer?.negotiated) return false;
    for (const family of peer.negotiated.families) {
      if (direction === "in") peer.session.sendRouteRefresh(family);
      else peer.routeRefresh(family, 0);
    }
    return true;
  }

  reset(neighbor: string, reason: string): boolean {
    const peer = this.#peers.get(neighbor);
    if (peer?.started) peer.session.reset(reason);
    return peer !== undefined;
  }

  /** Returns how to stop listening. */
  on(listener: (event: SpeakerEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when all that arrived so far has been decided, sent, and written to the kernel. */
  async settled(): Promise<void> {
    await this.#routesSettled();
    await this.#fib?.settled();
  }

  /** All is decided, next hops that depend on what was decided included. */
  async #routesSettled(): Promise<void> {
    do await this.#rib.settled();
    while (this.#tracker?.busy && !this.#closed);
  }

  async close(options: CloseOptions): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#resets.close();
    this.#handover.close();
    this.#startTimer?.cancel();
    this.#addressTimer?.cancel();
    this.#stopTunnels?.();
    this.#rib.close();
    await this.#listener?.close();
    await Promise.all([...this.#peers.values()].map(peer => (options.graceful ? peer.session.stop() : peer.session.abandon())));
    for (const peer of this.#peers.values()) peer.close();
    this.#tracker?.close();
    await this.#forwarding?.close({ flush: options.flush });
  }

  #start(config: SpeakerConfig): void {
    const { kernel, clock, log, tunnels } = this.#platform;
    const faults = this.#faults;
    if (kernel) {
      const common = { kernel, clock, log, faults };
      this.#forwarding = new Forwarding({ ...common, memory: this.#platform.places, moved: () => this.#followKernel() });
      this.#fib = this.#forwarding.use(config.fib);
      this.#tracker = createNextHopTracker({ ...common, ...config.fib, protocols: this.#forwarding.protocols, tunnels });
    }
    this.#rib = new Rib({ clock, random: this.#platform.random, tracker: this.#tracker, tunnels, fib: this.#fib, faults });
    // After the RIB, which asks for each of these ids: a session that ends gives its own back.
    this.#tracker?.onChange(ids => {
      const changed = new Set(ids);
      for (const peer of this.#peers.values()) peer.nextHopsChanged(changed);
    });
    this.#tracker?.onAddressChange(() => this.#addressesChanged());
    this.#stopTunnels = tunnels?.onChange(ends => {
      this.#tracker?.tunnelsChanged(ends);
      this.#rib.tunnelsChanged(ends);
    });
    this.#startTimer = clock.after(config.startupWait * 1000, () => {
      this.#open(true);
      this.#converge(`waited ${config.startupWait} s for all neighbours`);
    });
    this.#awaitOpening(config);
  }

  #awaitOpening(config: SpeakerConfig): void {
    // Routes of ours in the kernel: forwarding outlived a former agent (RFC 4724 section 4.1). Without any, nothing tells a restart from a
    // first start, and every start is taken for a restart: it costs no more than a later End-of-RIB.
    if (this.#fib) void this.#fib.outlived.then(outlived => this.#open(outlived));
    else this.#open(!config.fib.enabled);
  }

  /** Routes go to another place in the kernel: first they are written there, then they go from where they were. */
  #moveRoutes(before: SpeakerConfig, config: SpeakerConfig, report: ApplyReport): void {
    if (!this.#forwarding || same(before.fib, config.fib)) return;
    this.#fib = this.#forwarding.use(config.fib);
    this.#followKernel();
    this.#rib.setFib(this.#fib);
    this.#awaitOpening(config);
    if (this.#converged) void this.#routesSettled().then(() => this.#forwarding?.sweep());
    report.actions.push({ action: "change", text: describeMove(before.fib, config.fib) });
  }

  #followKernel(): void {
    if (this.#config && this.#forwarding) this.#tracker?.follow({ ...this.#config.fib, protocols: this.#forwarding.protocols });
  }

  /** From now on sessions may start. */
  #open(restarting: boolean): void {
    if (this.#opening || this.#closed) return;
    this.#opening = { restarting };
    this.#rib.endOfRibTo = restarting ? "nobody" : "all";
    this.#startSessions();
    this.#emit({ type: "progress" });
  }

  #startSessions(): void {
    if (!this.#opening || !this.#config) return;
    this.#listen(this.#config);
    for (const peer of this.#peers.values()) if (!peer.started) this.#startPeer(peer);
    this.#checkConverged();
  }

  /** Keys of all neighbours are on the listening sockets before anybody connects, in either direction. */
  #listen(config: SpeakerConfig): void {
    const neighbors = [...this.#peers.values()].map(peer => ({ config: peer.config, localAsn: peer.localAsn, session: peer.session }));
    if (same(this.#listens, config.listen)) {
      this.#listener?.setNeighbors(neighbors);
      return;
    }
    this.#listens = config.listen;
    void this.#listener?.close();
    const { port, addresses } = config.listen;
    this.#listener = port === 0 ? undefined : this.#doors.listener({ port, addresses, platform: this.#platform });
    this.#listener?.setNeighbors(neighbors);
    this.#listener?.start();
  }

  #startPeer(peer: Peer): void {
    peer.started = true;
    peer.waits();
    peer.session.start();
  }

  #applyNeighbor(neighbor: NeighborConfig, config: SpeakerConfig, report: ApplyReport): void {
    const known = this.#peers.get(neighbor.name);
    if (!known) {
      this.#addPeer(neighbor, config);
      if (!report.actions.some(action => action.neighbor === neighbor.name)) {
        report.actions.push({ neighbor: neighbor.name, action: "add", text: "added" });
      }
      return;
    }
    if (known.config.shutdown && !neighbor.shutdown) {
      this.#removePeer(known);
      this.#addPeer(neighbor, config);
      report.actions.push({ neighbor: neighbor.name, action: "change", text: "no longer shut down" });
      return;
    }
    if (neighbor.shutdown && !same(known.config.shutdown, neighbor.shutdown)) {
      known.reconfigure(neighbor, config);
      void known.session.stop({ subcode: CeaseSubcode.AdministrativeShutdown, message: neighbor.shutdown.message });
      report.actions.push({ neighbor: neighbor.name, action: "change", text: "shut down" });
      return;
    }
    // One that waits for its reset takes what it can.
    const usable = withoutResets(known.config, neighbor);
    const settings = resetReasons(known.config, neighbor, known.negotiated).length > 0 ? usable : neighbor;
    for (const text of known.reconfigure(settings, { ...config, ...known.opened }))
      report.actions.push({ neighbor: neighbor.name, action: "change", text });
  }

  #addPeer(neighbor: NeighborConfig, config: SpeakerConfig): void {
    const platform = this.#platform;
    const hooks: PeerHooks = {
      progressed: () => {
        this.#checkConverged();
        this.#emit({ type: "progress" });
      },
      stateChanged: (peer, state, reason) => {
        const { name } = peer.config;
        this.#emit({ type: "neighbor", neighbor: name, state, reason });
        if (state === "Established") this.#resets.up(name);
        else this.#resets.down(name);
      },
    };
    const peer = new Peer(neighbor, this.#freeIndexes.shift() ?? this.#nextIndex++, config, {
      rib: this.#rib,
      platform,
      tracker: this.#tracker,
      hooks,
    });
    peer.session = createSession({
      config: neighbor,
      localAsn: config.asn,
      localId: addressToUint32(parseAddress(config.routerId)),
      platform,
      random: platform.random,
      listener: peer,
      totals: this.#totals,
      transport: this.#doors.transport({
        config: neighbor,
        localAsn: neighbor.localAsn ?? config.asn,
        clock: platform.clock,
        suspects: () => [...this.#peers.values()].flatMap(other => (other.negotiated ? [] : [other.config])),
      }),
      gracefulRestart: () => ({
        restarted: this.#opening?.restarting === true && !this.#converged,
        // RFC 4724 suggests at most the hold time; a neighbour that stays away is then gone as soon as a silent one.
        restartTime: peer.config.restartTime ?? Math.min(peer.config.holdTime, 4095),
        forwarding: this.#converged || this.#forwardingSurvived(neighbor),
      }),
    });
    this.#peers.set(neighbor.name, peer);
  }

  /** What we say before our start is complete: whether what forwards the routes that the neighbour has from us is still there. */
  #forwardingSurvived(neighbor: NeighborConfig): boolean {
    const config = this.#config;
    if (!config || config.fib.enabled) return this.#opening?.restarting === true;
    return !attractsTraffic(config, neighbor);
  }

  #removePeer(peer: Peer, gently = false): void {
    this.#peers.delete(peer.config.name);
    const ended = gently ? peer.session.abandon() : peer.session.stop({ subcode: CeaseSubcode.PeerDeconfigured });
    this.#totals.keep(peer.session.counters);
    void ended.finally(() => {
      peer.close();
      this.#freeIndexes.push(peer.index);
    });
  }

  /**
   * The start is complete when all neighbours have sent their tables: then our End-of-RIB leaves, and what is stale in the kernel goes.
   * Neighbours that restart as well hear it when the others have: both would wait for each other otherwise.
   */
  #checkConverged(): void {
    if (this.#converged || this.#closed || !this.#opening) return;
    // A restarted agent without neighbours yet must not sweep what the former one left: it waits for the time limit.
    if (this.#peers.size === 0 && this.#opening.restarting) return;
    const peers = [...this.#peers.values()];
    if (peers.every(peer => peer.complete)) this.#converge("all neighbours have sent their tables");
    else if (this.#rib.endOfRibTo === "nobody" && peers.every(peer => peer.synchronized)) {
      void this.#rib.settled().then(() => {
        if (this.#closed || this.#rib.endOfRibTo === "all") return;
        this.#rib.endOfRibTo = "restarting";
        this.#rib.kick();
      });
    }
  }

  #converge(reason: string): void {
    if (this.#converged || this.#closed) return;
    this.#converged = true;
    this.#startTimer?.cancel();
    void this.#routesSettled().then(() => {
      if (this.#closed) return;
      this.#forwarding?.sweep();
      this.#rib.endOfRibTo = "all";
      this.#rib.kick();
      this.#emit({ type: "converged", reason });
      this.#platform.log.info({ reason }, `start complete: ${reason}`);
    });
  }

  /** A renumbering takes one address away before it adds the next, and a link that comes up brings several. */
  #addressesChanged(): void {
    this.#addressTimer ??= this.#platform.clock.after(ADDRESS_DELAY, () => {
      this.#addressTimer = undefined;
      for (const peer of this.#peers.values()) peer.ownAddressesChanged();
    });
  }

  #emit(event: SpeakerEvent): void {
    for (const listener of this.#listeners) this.#faults.guard("event listener", () => listener(event));
  }
}
