/**
 * The daemon of a node: source -> compile -> speaker and pod attachment -> status. Each change of the objects or of the node's addresses
 * compiles the whole plan again; what cannot be used leaves the last good plan in force, on disk as in memory, and is a problem.
 */

import { readFile } from "node:fs/promises";
import type { Faults } from "../bgpd/faults.ts";
import { Forwarding } from "../bgpd/forwarding.ts";
import type { RoutePlaces } from "../bgpd/platform.ts";
import type { SessionCounts, SpeakerSnapshot } from "../bgpd/snapshot.ts";
import { Speaker, type SpeakerEvent } from "../bgpd/speaker.ts";
import { type LastGood, nothingGood } from "../config/compile/memory.ts";
import { compileFrom } from "../config/compile.ts";
import { type NodeFacts, type NodePlan, type Problem, underCauses } from "../config/plan.ts";
import { type AnyResource, emptyResources, type Resources } from "../config/resources/kinds.ts";
import type { ResourceSource } from "../config/sources/source.ts";
import { RTPROT_PODLANE_PODS } from "../kernel/constants.ts";
import { findLacks, type KernelAccess, type KernelEvent, RTPROT_PODLANE } from "../kernel/index.ts";
import { Overlay } from "../overlay/overlay.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Reason } from "../platform/problem.ts";
import { ApiError } from "./api/error.ts";
import type { ApiBackend } from "./api/routes.ts";
import type { EventView, PlanView, ReloadView, StatusView } from "./api/views.ts";
import { CniFiles, type CniFilesOptions } from "./cni-files.ts";
import { Departures } from "./departures.ts";
import { nodeFacts } from "./facts.ts";
import { complete, ownObjects } from "./former-objects.ts";
import { Gateways, readGateways } from "./gateways.ts";
import { bothGuards, bridgeOf } from "./guards.ts";
import type { Figures, MetricsSubject } from "./metrics/figures.ts";
import { NamedTimers } from "./named-timers.ts";
import { Netfilter } from "./netfilter.ts";
import { planView, readDirectory } from "./offline.ts";
import { PlanMemory } from "./plan-memory.ts";
import { Pods } from "./pods.ts";
import { Policies } from "./policies.ts";
import { PolicyMark } from "./policy-mark.ts";
import { ProblemLog } from "./problem-log.ts";
import { routeMemory } from "./route-memory.ts";
import type { SavedPlan } from "./saved-plan.ts";
import { Services } from "./services.ts";
import type { Serving } from "./serving.ts";
import { ServingWatch } from "./serving-watch.ts";
import type { NodeReport } from "./status/node-state.ts";
import { statusView } from "./status-view.ts";
import { Turns } from "./turns.ts";
import { version } from "./version.ts";

export interface AgentOptions {
  node: string;
  /** Where the objects come from, for people. */
  sourceName: string;
  stateDirectory: string;
  /** Where the container runtime looks for networks, where the agent is to install itself there. */
  cni?: CniFilesOptions;
  /** Packets that NetworkPolicies drop go to the kernel's log. */
  logDrops?: boolean;
}

export interface AgentParts {
  clock: Clock;
  log: Logger;
  kernel: KernelAccess;
  source: ResourceSource;
  faults: Faults;
  /** Withdraws the node's routes and ends the process. */
  leave(): void;
  /** Of what runs beside the agent. */
  moreProblems?(): Problem[];
  publish(event: EventView): void;
}

/** Milliseconds between attempts to read a source that could not be read at all. */
const SOURCE_RETRY = 10_000;
/** Milliseconds of quiet after a change of addresses: a link that comes up brings several. */
const FACTS_DELAY = 250;
/** Milliseconds from an event to a look at the node's side of the pods: what pods bring comes in bursts. */
const PODS_DELAY = 500;
/** What can touch the node's side of pods, or the node's own addresses. */
const nodeTopics = ["link", "address", "configuration", "route"] as const;
/** Milliseconds from the end of a pod whose address was announced by itself: many pods may go at once. */
const HELD_DELAY = 100;
/** Milliseconds from news of sessions to a look at whether the node serves pods: sessions come many at a time. */
const SERVING_DELAY = 50;
/** Milliseconds until a node that is not in a good list of nodes is believed to be deleted. */
const ABSENCE_CONFIRMED = 10_000;
/** Milliseconds between sweeps for attachments whose pod is gone. */
const SWEEP_INTERVAL = 60_000;
/** The connections that the kernel knows. Absent where it is built without CONFIG_NF_CONNTRACK_PROCFS. */
const CONNTRACK = "/proc/net/nf_conntrack";
/** Milliseconds of a turn of the event loop from which on it is told. */
const STANDSTILL = 1000;

export class Agent {
  readonly #options: AgentOptions;
  readonly #parts: AgentParts;
  readonly #policies: Policies;
  readonly #pods: Pods;
  readonly #overlay: Overlay;
  readonly #netfilter: Netfilter;
  readonly #gateways: Gateways;
  /** A first look at the gateways, before which there is no plan. */
  #looking: Promise<void> | undefined;
  readonly #serving: ServingWatch;
  readonly #services: Services;
  readonly #cniFiles: CniFiles | undefined;
  readonly #problemLog: ProblemLog;
  readonly #startedAt: number;
  readonly #timers: NamedTimers;
  #stopWatching: () => void = () => {};
  readonly #places: RoutePlaces;
  readonly #memory: PlanMemory;
  #leftRoutes: Forwarding | undefined;
  #speaker: Speaker | undefined;
  /** One that still says goodbye to its neighbours; until it has, its port is taken. */
  #leaving: Promise<void> | undefined;
  #resources: Resources = emptyResources();
  /** The source was read at least once. */
  #hasResources = false;
  /** Those of ours that are in force, and their JSON. */
  #objects: AnyResource[] | undefined;
  #objectsInForce = "";
  /** See complete(). */
  #lacking = false;
  #facts: NodeFacts;
  #plan: NodePlan | undefined;
  /** What objects that cannot be used fall back to. Read from the disk before the first compile. */
  #lastGood: LastGood | undefined;
  /** It is not as on the disk. */
  #unsaved = false;
  #inUse: StatusView["config"]["inUse"] = "none";
  /** RFC 3339; set while a plan from the disk is in use. */
  #savedAt: string | undefined;
  #appliedAt: number | undefined;
  #sourceProblems: Problem[] = [];
  #agentProblems: Problem[] = [];
  #compileProblems: Problem[] = [];
  /** What was done during each reload() that is under way. */
  readonly #reloads = new Set<string[]>();
  /** Clock.monotonic() since when the list of nodes is good and this node is not in it. */
  #absentSince: number | undefined;
  readonly #departures = new Departures(ABSENCE_CONFIRMED);
  #closed = false;
  readonly #turns: Turns;

  constructor(options: AgentOptions, parts: AgentParts) {
    this.#options = options;
    this.#parts = parts;
    this.#timers = new NamedTimers(parts.clock);
    this.#problemLog = new ProblemLog(parts.log, (text, problem) => this.#publish("problem", text, problem));
    this.#startedAt = parts.clock.now();
    this.#turns = new Turns(this.#startedAt);
    const mended = (texts: string[]) => this.#publish("mended", texts.join("; "));
    this.#netfilter = new Netfilter({ ...parts, mended, attachments: () => this.#pods.knownAttachments() });
    this.#policies = new Policies({
      ...parts,
      feed: parts.source.policies,
      logDrops: options.logDrops,
      writer: this.#netfilter.writer,
      attachments: () => this.#pods.knownAttachments(),
      mark: new PolicyMark(options.stateDirectory, parts.log),
      bridgeLack: () => (findLacks({ bridgeNetfilter: true }).length > 0 ? "the kernel's module br_netfilter is not loaded" : undefined),
      counters: () => this.#netfilter.counters(),
      bridgeOf: link => bridgeOf(parts.kernel.netlink, link),
    });
    this.#pods = new Pods(options.stateDirectory, {
      ...parts,
      mended,
      guard: bothGuards(this.#netfilter, this.#policies),
      serving: () => this.#serving.look(),
      heldChanged: () => this.#timers.soon("held", HELD_DELAY, () => this.#heldChanged()),
    });
    this.#overlay = new Overlay({ ...parts, mended: texts => this.#publish("mended", texts.join("; ")) });
    this.#serving = new ServingWatch({
      clock: parts.clock,
      see: () => this.#plan && { policy: this.#plan.readiness, sessions: this.#speaker?.sessions() ?? noSessions },
      obstacle: () => this.#pods.obstacle(),
      changed: serving => this.#servingChanged(serving),
    });
    const { clock, log } = parts;
    this.#services = new Services(options, {
      ...parts,
      index: parts.source.services,
      speaker: () => this.#speaker,
      serving: () => this.#serving.serving,
    });
    const cni = { clock, log, ready: () => this.#serving.serving.ready, mended: (text: string) => this.#publish("mended", text) };
    this.#cniFiles = options.cni && new CniFiles(options.cni, cni);
    this.#places = routeMemory(options, parts.log);
    this.#memory = new PlanMemory(options, parts.log);
    this.#gateways = new Gateways({ ...parts, ours: () => this.#protocols(), changed: () => this.#factsChanged() });
    this.#facts = this.#readFacts();
  }

  /** Applies what the source says, or, where it says nothing of use, the last good plan. Does not reject for a bad configuration. */
  async start(): Promise<void> {
    this.#stopWatching = this.#parts.kernel.watch(events => {
      if (events.some(event => event.type === "address" || event.type === "overrun"))
        this.#timers.later("facts", FACTS_DELAY, () => this.#factsChanged());
      // Who flushes addresses, reloads sysctls or takes links down means no harm, and pods are cut off all the same.
      if (events.some(mayTouchPods)) this.#timers.soon("pods", PODS_DELAY, () => this.#lookAtPods());
    }, nodeTopics);
    await this.#startSource();
    await this.#looking;
    this.#cniFiles?.look();
    this.#timers.later("sweep", SWEEP_INTERVAL, () => this.#sweep());
    this.#nextTurns();
  }

  /** Reads the source again, applies what changed, and says what it did. */
  async reload(): Promise<ReloadView> {
    const actions: string[] = [];
    this.#reloads.add(actions);
    try {
      await this.#readAgain();
    } finally {
      this.#reloads.delete(actions);
    }
    this.#pods.retry();
    const problems = this.problems();
    const text = actions.length > 0 ? `reloaded: ${actions.join("; ")}` : "reloaded: nothing changed";
    this.#parts.log.info({ problems: problems.length }, text);
    this.#publish("reload", text);
    return { actions, problems };
  }

  async #readAgain(): Promise<void> {
    if (this.#hasResources) await this.#parts.source.reload();
    else await this.#startSource();
    await this.#looking;
  }

  /** `graceful`: neighbours hear Cease and drop our routes at once; else those in graceful restart keep them. Kernel routes stay. */
  async close(graceful: boolean): Promise<void> {
    this.#closed = true;
    this.#turns.close();
    this.#serving.close();
    this.#services.close();
    this.#cniFiles?.close();
    this.#timers.close();
    this.#stopWatching();
    this.#gateways.close();
    await this.#parts.source.close();
    await this.#leaving;
    await this.#leftRoutes?.close({ flush: false });
    await this.#speaker?.close({ graceful, flush: false });
    this.#overlay.close();
    this.#policies.close();
    this.#pods.close();
    await this.#netfilter.close();
  }

  /** The node leaves for good: what was added to packet filters of others is removed. */
  takeBack(): Promise<void> {
    return this.#pods.takeBack();
  }

  /** Whether this node can serve pods. Each change is an event "serving". */
  serving(): Serving {
    return this.#serving.serving;
  }

  /** What the cluster is told. */
  report(): NodeReport {
    const snapshot = this.#speaker?.snapshot();
    const problems = this.problems();
    return { status: this.#status(snapshot, problems), neighbors: snapshot?.neighbors ?? [], problems, plan: this.#plan };
  }

  status(): StatusView {
    return this.#status(this.#speaker?.snapshot(), this.problems());
  }

  #status(snapshot: SpeakerSnapshot | undefined, problems: readonly Problem[]): StatusView {
    const { ready, reason } = this.serving();
    const appliedAt = this.#appliedAt === undefined ? {} : { appliedAt: new Date(this.#appliedAt).toISOString() };
    const found = {
      node: this.#options.node,
      turns: this.#turns.view(this.#parts.clock.now()),
      startedAt: new Date(this.#startedAt).toISOString(),
      config: { source: this.#options.sourceName, inUse: this.#inUse, ...appliedAt },
      attachments: this.#pods.attachments().length,
      policies: this.#policies.summary(),
      services: this.#services.announced,
      serving: { ready, reason },
    };
    return statusView(found, snapshot, problems);
  }

  problems(): Problem[] {
    return [...this.#findProblems()].flat();
  }

  *#findProblems(): Generator<Problem[]> {
    yield this.#agentProblems;
    yield underCauses(this.#sourceProblems, this.#compileProblems);
    yield this.#parts.moreProblems?.() ?? [];
    yield this.#pods.problems();
    yield this.#overlay.problems().map(finding => ({ ...finding, object: "overlay" }));
    yield this.#netfilter.problems();
    yield this.#policies.problems();
    yield this.#serving.problems();
    yield this.#services.problems();
    yield this.#cniFiles?.problems() ?? [];
    if (this.#speaker) yield* this.#speaker.findProblems();
  }

  /** What metrics are made of. */
  subject(): MetricsSubject {
    return {
      ready: () => (this.serving().ready ? undefined : this.serving().reason),
      figures: () => this.#figures(),
      neighbors: () => this.#speaker?.neighbors() ?? [],
      findProblems: () => this.#findProblems(),
    };
  }

  #figures(): Figures {
    const now = this.#parts.clock.now();
    const plannedAt = this.#savedAt === undefined ? this.#appliedAt : Date.parse(this.#savedAt);
    const sourceAge = this.#parts.source.age?.();
    return {
      version,
      startedAt: this.#startedAt / 1000,
      ready: this.serving().ready,
      plan: { inUse: this.#inUse, age: plannedAt === undefined ? undefined : Math.max(0, now - plannedAt) / 1000 },
      sourceAge: sourceAge === undefined ? undefined : sourceAge / 1000,
      faults: this.#parts.faults.snapshot(),
      turns: this.#turns.view(now),
      lateness: this.#turns.lateness(),
      speaker: this.#speaker && { ...this.#speaker.overview(), ...this.#speaker.counters() },
      calls: { underway: this.#pods.calls.underway, verbs: this.#pods.calls.view() },
      services: this.#services.figures(),
      policies: this.#policies.figures(),
      spoofed: this.#netfilter.spoofed,
      attachments: this.#pods.attachments(),
      ranges: this.#pods.ranges(),
    };
  }

  /** What the local API may ask of the agent. */
  backend(): ApiBackend {
    return {
      status: () => this.status(),
      peers: () => this.#speaker?.snapshot().neighbors ?? [],
      routes: filter => this.#requireSpeaker().routes(filter),
      ...this.#services.queries(
        () => this.#requireSpeaker(),
        () => this.#resources,
      ),
      connection: connection => this.#policies.explain(connection),
      policies: () => this.#policies.view(),
      problems: () => this.problems(),
      plan: () => planView({ ...this.#requirePlan(), problems: this.problems() }),
      preview: directory => this.#preview(directory),
      attachments: () => this.#pods.attachments(),
      cni: request => this.#pods.handle(request),
      reload: () => this.reload(),
      leave: () => this.#parts.leave(),
      refresh: (neighbor, direction) => {
        if (!this.#requireSpeaker().refresh(neighbor, direction))
          throw new ApiError(409, `no session with ${neighbor} is established`, "wait until it is");
      },
      reset: (neighbor, reason) => void this.#requireSpeaker().reset(neighbor, reason),
    };
  }

  async #startSource(): Promise<void> {
    try {
      const { faults } = this.#parts;
      await this.#parts.source.start((resources, problems) => faults.guard("configuration", () => this.#take(resources, problems)));
    } catch (error) {
      const message = (error as Error).message;
      this.#sourceProblems = [
        agentProblem("ConfigurationUnreadable", "configuration", message, `it is tried again every ${SOURCE_RETRY / 1000} s`),
      ];
      if (!this.#plan) this.#useSavedPlan("the configuration cannot be read");
      this.#problemLog.see(this.problems());
      this.#timers.later("source", SOURCE_RETRY, () => void this.#startSource());
    }
  }

  #take(given: Resources, found: Problem[]): void {
    if (this.#closed) return;
    const { resources, problems, lacking } = complete(given, found, this.#objects ?? this.#memory.objects());
    this.#resources = resources;
    this.#lacking = lacking;
    this.#hasResources = true;
    this.#sourceProblems = problems;
    this.#timers.cancel("source");
    if (!namesGateways(resources)) this.#gateways.close();
    else if (!this.#gateways.known) {
      const { faults } = this.#parts;
      this.#looking ??= this.#gateways.follow().then(() => {
        this.#looking = undefined;
        this.#facts = this.#readFacts();
        faults.guard("configuration", () => this.#recompute());
      });
      return;
    }
    this.#recompute();
  }

  /** Of our own routes, now and as any agent before this one may have left them. */
  #protocols(): Set<number> {
    const configured = [...this.#resources.fabrics.values()].map(({ spec }) => spec.forwarding.protocol);
    const left = this.#places.read().map(({ protocol }) => protocol);
    return new Set([RTPROT_PODLANE, ...configured, ...left]);
  }

  #recompute(): void {
    const obstacle = this.#obstacle();
    if (obstacle !== undefined && this.#keepLastGood(obstacle)) {
      this.#problemLog.see(this.problems());
      return;
    }
    this.#lastGood ??= this.#memory.lastGood();
    const facts = { ...this.#facts, rangesBefore: this.#memory.rangesBefore(this.#plan) };
    const { plan, lastGood } = compileFrom(this.#withDeparting(), facts, {
      lastGood: this.#lastGood,
      unread: unreadObjects(this.#sourceProblems),
    });
    this.#objects = ownObjects(this.#resources);
    const objects = JSON.stringify(this.#objects);
    this.#unsaved ||= JSON.stringify(lastGood) !== JSON.stringify(this.#lastGood) || objects !== this.#objectsInForce;
    this.#objectsInForce = objects;
    this.#lastGood = lastGood;
    this.#agentProblems = [];
    this.#compileProblems = plan.problems;
    this.#apply(plan, "source");
    // Which addresses pods hold beside the ranges is known once these are applied.
    if (this.#heldChanged()) return;
    this.#problemLog.see(this.problems());
  }

  #withDeparting(): Resources {
    const { resources, wait } = this.#departures.keep(this.#resources, this.#options.node, this.#parts.clock.monotonic());
    if (wait !== undefined) this.#timers.later("departures", wait, () => this.#recompute());
    return resources;
  }

  /** What the objects of a directory would come to, here and now: with the node's facts, and what it falls back to. Nothing is done. */
  async #preview(directory: string): Promise<PlanView> {
    const { resources, problems, policies } = await readDirectory(directory).catch((error: Error) => {
      throw new ApiError(400, error.message, "name a directory that the agent can read");
    });
    const past = { lastGood: this.#lastGood ?? this.#memory.lastGood(), unread: unreadObjects(problems) };
    const gateways = namesGateways(resources) ? await this.#gatewaysNow() : undefined;
    const { plan } = compileFrom(resources, { ...this.#facts, gateways, rangesBefore: this.#memory.rangesBefore(this.#plan) }, past);
    const changes = this.#speaker && plan.speaker ? this.#speaker.preview(plan.speaker) : undefined;
    const connections = await this.#policies.preview(policies, await readFile(CONNTRACK, "utf8").catch(() => undefined));
    return { ...planView({ ...plan, problems: underCauses(problems, plan.problems) }), changes, ...(connections && { connections }) };
  }

  /** undefined: the kernel does not tell. */
  async #gatewaysNow(): Promise<NodeFacts["gateways"]> {
    const read = () => readGateways({ ...this.#parts, ours: () => this.#protocols() });
    return this.#gateways.known ?? (await read().catch(() => undefined));
  }

  /** True: all was compiled again. */
  #heldChanged(): boolean {
    const held = this.#pods.held();
    if (JSON.stringify(held) === JSON.stringify(this.#facts.held ?? [])) return false;
    this.#facts = { ...this.#facts, held: held.length > 0 ? held : undefined };
    if (this.#hasResources) this.#recompute();
    return this.#hasResources;
  }

  /** False: there is nothing to keep. */
  #keepLastGood(obstacle: string): boolean {
    if (!this.#plan) return this.#useSavedPlan(obstacle);
    const which = this.#savedAt === undefined ? "the last good plan stays in force" : `using the last good plan, of ${this.#savedAt}`;
    this.#agentProblems = [
      agentProblem("ConfigurationHeld", "configuration", `${obstacle}: ${which}`, "correct the configuration; it is then used at once"),
    ];
    return true;
  }

  /** Why what the source says must not replace what runs; undefined = it may. */
  #obstacle(): string | undefined {
    const { node } = this.#options;
    const running = this.#plan !== undefined;
    if (this.#resources.nodes.has(node)) this.#absentSince = undefined;
    else if (!running || this.#plan?.speaker) {
      const absent = this.#absence();
      if (absent !== undefined) return absent;
    }
    // A running agent has the last good version of every object; one that starts must not drop what it does not know.
    if (this.#lacking && this.#inUse !== "source") return "some objects cannot be read";
    return undefined;
  }

  /**
   * A mount that went away, a broken file, or a typing error in a file name looks like an absent node. A list of other nodes that was read without a fault and
   * names this one no more is none of these: the node was deleted, and another one gets its range. It is believed after a while.
   */
  #absence(): string | undefined {
    const { node } = this.#options;
    const { clock } = this.#parts;
    const text = `there is no Node object "${node}" any more`;
    const others = this.#resources.nodes.size > 0 || this.#parts.source.authoritative === true;
    const clean = others && !this.#sourceProblems.some(one => one.severity === "error");
    if (!clean) {
      this.#absentSince = undefined;
      return text;
    }
    // One that never had a part in BGP has nothing to take back from anybody.
    if (!this.#plan && !this.#memory.hadPart()) return undefined;
    this.#absentSince ??= clock.monotonic();
    const left = this.#absentSince + ABSENCE_CONFIRMED - clock.monotonic();
    if (left <= 0) return undefined;
    this.#timers.later("absence", left, () => this.#recompute());
    const sure = this.#parts.source.authoritative ? "" : ", though other nodes are there";
    return `${text}${sure}: its routes are withdrawn in ${Math.ceil(left / 1000)} s unless it comes back`;
  }

  /** False: there is none. */
  #useSavedPlan(reason: string): boolean {
    let saved: SavedPlan | undefined;
    try {
      saved = this.#memory.load();
    } catch (error) {
      const message = (error as Error).message;
      this.#agentProblems = [
        agentProblem("SavedPlanUnusable", "last good plan", message, "it is written anew as soon as the configuration can be used"),
      ];
    }
    if (!saved) return false;
    this.#apply(saved.plan, "saved");
    if (this.#plan !== saved.plan) return false;
    this.#savedAt = saved.savedAt;
    return this.#keepLastGood(reason);
  }

  #apply(plan: NodePlan, from: "source" | "saved"): void {
    const same = this.#plan !== undefined && JSON.stringify(withoutProblems(plan)) === JSON.stringify(withoutProblems(this.#plan));
    if (!same) {
      try {
        // Before the speaker asks it for tunnels.
        this.#overlay.apply(plan.overlay);
        this.#applySpeaker(plan);
        this.#services.apply(plan.services);
        this.#pods.apply(plan.pods);
        this.#netfilter.apply(plan, this.#pods.knownAttachments());
        this.#policies.apply(plan.networkPolicy === true);
      } catch (error) {
        this.#parts.log.error({ err: error }, "the plan could not be applied");
        const message = `the plan could not be applied: ${(error as Error).message}`;
        this.#agentProblems = [
          agentProblem("InternalError", "plan", message, "this is a fault of podlane; see the agent's log for the stack"),
        ];
        return;
      }
    }
    this.#plan = plan;
    this.#inUse = from;
    if (from === "source") this.#savedAt = undefined;
    if (!same) this.#appliedAt = this.#parts.clock.now();
    this.#timers.soon("serving", SERVING_DELAY, () => this.#serving.look());
    // The bridge's own address is left out of the facts, and the plan says which bridge that is.
    this.#timers.later("facts", FACTS_DELAY, () => this.#factsChanged());
    if (from === "source" && (!same || this.#unsaved)) this.#save(plan);
  }

  #applySpeaker(plan: NodePlan): void {
    if (!plan.speaker) {
      const old = this.#speaker;
      if (!old) {
        this.#removeLeftRoutes();
        return;
      }
      this.#speaker = undefined;
      this.#done("BGP stopped: the node has no part in it any more");
      this.#leaving = old
        .close({ graceful: true, flush: true })
        .catch(error => this.#parts.log.error({ err: error }, "the speaker could not be closed cleanly"))
        .finally(() => this.#left());
      return;
    }
    if (this.#leaving) return;
    const { clock, log, kernel, faults } = this.#parts;
    if (!this.#speaker) {
      void this.#leftRoutes?.close({ flush: false });
      this.#speaker = new Speaker({ clock, log, kernel, faults, places: this.#places, tunnels: this.#overlay });
      this.#speaker.on(event => this.#speakerEvent(event));
    }
    for (const { neighbor, text } of this.#speaker.apply(plan.speaker).actions) this.#done(neighbor ? `${neighbor}: ${text}` : text);
  }

  /** Of a former agent, from when the node had a part in BGP. */
  #removeLeftRoutes(): void {
    if (this.#leftRoutes || this.#leaving) return;
    const { clock, log, kernel, faults } = this.#parts;
    this.#leftRoutes = new Forwarding({ clock, log, kernel, faults, memory: this.#places, moved: () => {} });
    this.#leftRoutes.use(undefined);
    this.#leftRoutes.sweep();
  }

  /** What was asked for in the meantime is done now. */
  #left(): void {
    this.#leaving = undefined;
    if (this.#closed || !this.#plan?.speaker || this.#speaker) return;
    this.#applySpeaker(this.#plan);
    this.#services.apply(this.#plan.services);
  }

  #done(text: string): void {
    for (const actions of this.#reloads) actions.push(text);
    this.#parts.log.info({}, text);
    this.#publish("plan", text);
  }

  #save(plan: NodePlan): void {
    try {
      const saved = { plan, lastGood: this.#lastGood ?? nothingGood(), objects: this.#objects };
      this.#memory.save(saved, this.#parts.clock.now());
    } catch (error) {
      const message = `the last good plan cannot be saved: ${(error as Error).message}`;
      this.#parts.log.error({}, message);
      this.#agentProblems = [agentProblem("SavedPlanUnusable", "last good plan", message, `make room in ${this.#options.stateDirectory}`)];
    }
  }

  #readFacts(): NodeFacts {
    const bridge = this.#plan?.pods.bridgeName ?? "";
    const held = this.#pods.held();
    const gateways = this.#gateways.known;
    const facts = nodeFacts(this.#options.node, this.#parts.kernel.netlink, bridge);
    return { ...facts, ...(gateways && { gateways }), ...(held.length > 0 && { held }) };
  }

  #factsChanged(): void {
    const facts = this.#readFacts();
    if (JSON.stringify(facts) === JSON.stringify(this.#facts)) return;
    this.#facts = facts;
    if (!this.#hasResources) return;
    const addresses = facts.addresses.map(one => `${one.address}/${one.prefixLength}`);
    const gateways = facts.gateways?.map(one => one.address);
    this.#parts.log.info({ addresses, gateways }, "the node's addresses or gateways changed");
    this.#recompute();
  }

  #nextTurns(): void {
    this.#timers.later("turns", SWEEP_INTERVAL, () => {
      const longest = this.#turns.next(this.#parts.clock.now());
      const text = `the event loop stood still for ${longest} ms: no session was served meanwhile`;
      if (longest >= STANDSTILL) this.#parts.log.warn({ longest }, text);
      this.#nextTurns();
    });
  }

  #sweep(): void {
    this.#lookAtPods();
    this.#overlay.look();
    this.#cniFiles?.look();
    // Some problems come with time, such as a session that stays down.
    this.#problemLog.see(this.problems());
    this.#netfilter.look(this.#pods.knownAttachments());
    this.#policies.look();
    void this.#pods.sweep().finally(() => this.#timers.later("sweep", SWEEP_INTERVAL, () => this.#sweep()));
  }

  #speakerEvent(event: SpeakerEvent): void {
    if (event.type === "neighbor") {
      const { type, neighbor, state, reason } = event;
      this.#publish(type, `${neighbor}: ${state} (${reason})`, { neighbor, state, reason });
    } else if (event.type === "converged") this.#publish(event.type, event.reason);
    this.#timers.soon("serving", SERVING_DELAY, () => this.#serving.look());
  }

  #lookAtPods(): void {
    this.#pods.look();
    this.#netfilter.guardTunnels();
    this.#serving.look();
  }

  #servingChanged({ ready, reason, limited }: Serving): void {
    const text = ready ? `this node serves pods: ${reason}` : `this node does not serve pods: ${reason}`;
    this.#parts.log[ready ? "info" : "warn"]({ ready }, text);
    this.#publish("serving", text, { ready, reason, limited });
    this.#services.look();
    this.#cniFiles?.look();
  }

  #publish(type: string, text: string, fields: object = {}): void {
    this.#parts.publish({ at: new Date(this.#parts.clock.now()).toISOString(), type, text, ...fields });
  }

  #requireSpeaker(): Speaker {
    if (this.#speaker) return this.#speaker;
    throw new ApiError(409, "this node takes no part in BGP", "podlane problems says why");
  }

  #requirePlan(): NodePlan {
    if (this.#plan) return this.#plan;
    throw new ApiError(409, "there is no plan yet", "podlane problems says why");
  }
}

function namesGateways({ peers }: Resources): boolean {
  return [...peers.values()].some(({ spec }) => spec.gateway !== undefined);
}

/** Of routes only those to pods, gone: others come by the million. */
function mayTouchPods(event: KernelEvent): boolean {
  return event.type !== "route" || (event.action === "delete" && event.route.protocol === RTPROT_PODLANE_PODS);
}

const noSessions: SessionCounts = { wanted: 0, established: 0, complete: 0, adopted: false };

/** Those that are there and cannot be read, as "Peer/tor-a". */
function unreadObjects(problems: readonly Problem[]): Set<string> {
  return new Set(problems.filter(({ severity, object }) => severity === "error" && object.includes("/")).map(one => one.object));
}

function agentProblem(reason: Reason, object: string, message: string, remedy: string): Problem {
  return { severity: "error", reason, object, field: "", message, remedy };
}

function withoutProblems({ problems: _, ...plan }: NodePlan): Omit<NodePlan, "problems"> {
  return plan;
}
