/**
 * One neighbour as the speaker sees it: its configuration, its session, and its routes in the RIB. Turns what the session reports into
 * RIB operations, and keeps routes over a graceful restart of the neighbour (RFC 4724).
 */
import { addressToUint32, contains, formatAddress, formatPrefix, maskAddress, parseAddress, sameOctets } from "../net/address.ts";
import type { Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { isRekey, type OpenedWith, policyKey, same } from "./apply.ts";
import type { NeighborConfig, SpeakerConfig } from "./config.ts";
import { Families, type Family, type FamilyIndex, FamilyIndexes, FamilyTable, familyIndex, type PerFamily, perFamily } from "./family.ts";
import type { NextHopTracker } from "./fib/types.ts";
import {
  isComplete,
  isRestarting,
  neighborGracefulRestart,
  noRestart,
  type RestartAction,
  type RestartEvent,
  type RestartState,
  restart,
} from "./graceful-restart.ts";
import { MalformedUpdates } from "./malformed.ts";
import { CeaseSubcode, ErrorCode } from "./message/notification.ts";
import { uint32Octets } from "./message/octets.ts";
import { UpdateDecoder } from "./message/update-decoder.ts";
import { type OwnAddress, ownAddress } from "./own-address.ts";
import type { Platform } from "./platform.ts";
import { compilePolicies } from "./policy/index.ts";
import type { ExportRules } from "./rib/exporter.ts";
import { mayBeTold } from "./rib/local-routes.ts";
import type { Rib } from "./rib/rib.ts";
import type { Excess, ImportRules, Slot } from "./rib/slots.ts";
import type { GroupSink } from "./rib/update-group.ts";
import type { AcceptingSession } from "./session/session.ts";
import type { DownReason, Negotiated, SessionListener, SessionState } from "./session/types.ts";

export interface PeerHooks {
  /** Something changed that may complete the start: a session, an End-of-RIB. */
  progressed(): void;
  stateChanged(peer: Peer, state: SessionState, reason: string): void;
}

/** Seconds that a session stays down after its prefix limit unless the configuration says otherwise. */
const PREFIX_LIMIT_RESTART = 300;

/** Changed, the neighbour may try again. */
function limitOf({ families, attributeOctetsLimit }: NeighborConfig, excess: Excess): string {
  if (excess.limit === "octets") return String(attributeOctetsLimit);
  const { prefixLimit, receivedLimit, prefixLimitRestart } = families[excess.family] ?? {};
  return `${prefixLimit} ${receivedLimit} ${prefixLimitRestart}`;
}

/** What the neighbour may have at most of what it had too much of, in words. */
export function excessText(config: NeighborConfig, excess: Excess): string {
  if (excess.limit === "octets") return `more than ${config.attributeOctetsLimit} octets of path attributes`;
  const { prefixLimit, receivedLimit } = config.families[excess.family] ?? {};
  return excess.limit === "accepted"
    ? `more than ${prefixLimit} ${excess.family} prefixes accepted`
    : `more than ${receivedLimit} ${excess.family} prefixes, accepted or not`;
}

export class Peer implements SessionListener {
  config: NeighborConfig;
  /** What its OPEN says of the speaker. */
  readonly opened: OpenedWith;
  readonly index: number;
  /** Set by the speaker right after construction: session and peer know each other. */
  session!: AcceptingSession;
  /** Its session was told to start (or to stay down): happens once, after the listening sockets know it. */
  started = false;
  negotiated: Negotiated | undefined;
  /** Since when there is no session, in milliseconds since the epoch and of the monotonic clock; undefined while there is one. */
  downSince: { since: number; at: number } | undefined;
  slot: Slot | undefined;
  #restart: RestartState = noRestart;
  readonly malformed: MalformedUpdates;
  /** What ended the last session, where it was a limit. */
  overLimit: Excess | undefined;
  #global: SpeakerConfig;
  readonly #rib: Rib;
  readonly #platform: Platform;
  readonly #tracker: NextHopTracker | undefined;
  readonly #hooks: PeerHooks;
  readonly #log: Logger;
  #decoder: UpdateDecoder | undefined;
  #restartTimer: Timer | undefined;
  #writable = true;
  /** Of the interface that the session is bound to; 0 = none. */
  #ifindex = 0;
  /** That one, or else the one that has our end of the session; 0 = unknown. */
  #home = 0;
  /** Our address for NEXT_HOP in each family, or why there is none. */
  #self: PerFamily<OwnAddress> | undefined;
  #shared = "";
  /** The tracker's id for the neighbour's own address, while its session stands and falls with the link between us. */
  #link: number | undefined;

  constructor(
    config: NeighborConfig,
    index: number,
    global: SpeakerConfig,
    modules: { rib: Rib; platform: Platform; tracker?: NextHopTracker; hooks: PeerHooks },
  ) {
    this.config = config;
    this.opened = { asn: global.asn, routerId: global.routerId };
    this.index = index;
    this.#global = global;
    this.#rib = modules.rib;
    this.#platform = modules.platform;
    this.#tracker = modules.tracker;
    this.#hooks = modules.hooks;
    this.#log = modules.platform.log.child({ neighbor: config.name });
    this.malformed = new MalformedUpdates(modules.platform.clock, this.#log);
  }

  /** From now on a session is waited for. */
  waits(): void {
    const { clock } = this.#platform;
    this.downSince = { since: clock.now(), at: clock.monotonic() };
  }

  get localAsn(): number {
    return this.config.localAsn ?? this.#global.asn;
  }

  /** It restarts itself (RFC 4724). */
  get restarting(): boolean {
    return isRestarting(this.#restart);
  }

  /** End-of-RIB for those that restart themselves need not wait for it: its table is in, or it restarts as well. */
  get synchronized(): boolean {
    return this.complete || this.restarting;
  }

  /** Its initial table is in. */
  get complete(): boolean {
    if (this.config.shutdown) return true;
    return isComplete(this.#restart);
  }

  hasEndOfRib(family: Family): boolean {
    return this.#restart.families[family]?.complete === true;
  }

  /** Takes over configuration that needs no reset; returns what was done, in words. */
  reconfigure(config: NeighborConfig, global: SpeakerConfig): string[] {
    const before = this.config;
    const oldGlobal = this.#global;
    const done: string[] = [];
    const importChanged = policyKey(oldGlobal, before, "import") !== policyKey(global, config, "import");
    const keyBefore = this.negotiated ? this.#groupKeys() : [];
    this.config = config;
    this.#global = global;
    if (this.overLimit && !this.negotiated && limitOf(before, this.overLimit) !== limitOf(config, this.overLimit)) {
      this.session.reset("prefix limit changed");
      return ["prefix limit changed, connecting again"];
    }
    if (!this.slot || !this.negotiated) return same(before, config) ? [] : ["settings changed"];
    const { slot } = this;
    this.session.reconfigure(config);
    if (config.password !== undefined && isRekey(before, config)) {
      this.session.rekey(config.password);
      done.push("password changed in the running connection: the neighbour has its hold time to follow");
    }
    slot.imports = this.#importRules();
    slot.origin = config.origin;
    if (slot.client !== config.routeReflectorClient) {
      slot.client = config.routeReflectorClient;
      this.#rib.reconsiderInternal();
      done.push(config.routeReflectorClient ? "is a route reflector client now" : "is no route reflector client any more");
    }
    slot.attributeOctetsLimit = config.attributeOctetsLimit ?? 0;
    if (importChanged) {
      this.#rib.reimport(slot, () => this.#enforceLimits(slot));
      done.push("import policy applied again to the routes at hand");
    } else {
      const excess = this.#enforceLimits(slot);
      if (excess) return [`session closed: ${excessText(config, excess)}`];
    }
    for (const family of this.#moveGroups(keyBefore)) done.push(`${family}: export rules changed, routes sent again where they differ`);
    if (done.length === 0 && !same(before, config)) done.push("settings changed");
    return done;
  }

  /** Addresses of ours, or their flags, have changed: the neighbour hears of it where its next hop is another now. */
  ownAddressesChanged(): void {
    if (!this.negotiated) return;
    const subnets = this.#subnets(this.negotiated);
    if (subnets !== this.#shared) {
      this.#shared = subnets;
      // A next hop that is not ours stays as it is on a subnet that the neighbour is on as well (RFC 4271 section 5.1.3): which these are has changed.
      if (!this.negotiated.internal) this.#rib.reconsider(this.index);
    }
    const keyBefore = this.#groupKeys();
    this.#self = this.#ownAddresses(this.negotiated);
    for (const family of this.#moveGroups(keyBefore)) {
      const own = this.#self[familyIndex(family)];
      const text = "address" in own ? `is ${formatAddress(own.address.subarray(0, 16))} now` : `is none now: ${own.obstacle}`;
      this.#log.info({ family }, `our own next hop ${text}`);
    }
  }

  /** Why routes that need our own address as their next hop are not sent; undefined = there is one, or no session. */
  nextHopObstacle(family: Family): string | undefined {
    if (!this.negotiated?.families.includes(family)) return undefined;
    const own = this.#self?.[familyIndex(family)];
    return own && "obstacle" in own ? own.obstacle : undefined;
  }

  /** Our subnets that the neighbour is on, to be compared. */
  #subnets({ remoteAddress }: Negotiated): string {
    const addresses = this.#tracker?.addresses() ?? [];
    return addresses
      .filter(({ address, prefixLength }) => prefixLength < 8 * address.length)
      .map(({ address, prefixLength }) => ({ address: maskAddress(address, prefixLength), length: prefixLength }))
      .filter(subnet => contains(subnet, remoteAddress))
      .map(formatPrefix)
      .sort()
      .join(" ");
  }

  #moveGroups(keyBefore: PerFamily<string>): Family[] {
    const moved = (this.negotiated?.families ?? []).filter(family => {
      const f = familyIndex(family);
      return this.#groupKey(f) !== keyBefore[f];
    });
    for (const family of moved) {
      const f = familyIndex(family);
      this.#rib.move(f, this.#groupKey(f), () => this.#exportRules(f), this.#groupOptions(), this.#sink(), this.index);
    }
    return moved;
  }

  // SessionListener

  stateChanged(state: SessionState, reason: string): void {
    this.#hooks.stateChanged(this, state, reason);
  }

  established(negotiated: Negotiated): void {
    this.negotiated = negotiated;
    this.downSince = undefined;
    this.#writable = true;
    this.#ifindex = this.#interfaceIndex();
    this.#home = this.#ifindex || this.#interfaceOf(negotiated.localAddress);
    this.#self = this.#ownAddresses(negotiated);
    this.#shared = this.#subnets(negotiated);
    this.overLimit = undefined;
    this.#followLink(negotiated);
    this.#decoder = new UpdateDecoder({
      fourOctetAsn: negotiated.fourOctetAsn,
      internal: negotiated.internal,
      families: negotiated.families,
    });
    const former = this.slot;
    this.slot = this.#rib.slots.add({
      neighbor: this.config.name,
      neighborIndex: this.index,
      external: !negotiated.internal,
      origin: this.config.origin,
      client: this.config.routeReflectorClient,
      routerId: negotiated.remoteId,
      address: negotiated.remoteAddress,
      ifindex: this.#ifindex,
      link: this.#ifindex || this.#linkTo(negotiated.remoteAddress),
      self: { asn: this.localAsn, address: negotiated.localAddress },
      imports: this.#importRules(),
      attributeOctetsLimit: this.config.attributeOctetsLimit ?? 0,
    });
    if (former?.state === "stale" && this.#rib.slots.has(former)) this.slot.staleSlot = former.id;
    this.#restarts({ type: "Up", families: negotiated.families, offer: neighborGracefulRestart(negotiated.remoteCapabilities) });
    for (const family of negotiated.families) {
      const f = familyIndex(family);
      this.#rib.join(f, this.#groupKey(f), () => this.#exportRules(f), this.#groupOptions(), this.#sink(), true);
    }
    this.#hooks.progressed();
  }

  update(message: Uint8Array): void {
    const decoder = this.#decoder;
    const slot = this.slot;
    if (!decoder || !slot) return;
    decoder.decode(message);
    if (decoder.problems.length > 0) this.malformed.note(message, decoder);
    if (decoder.endOfRib !== undefined) {
      this.#endOfRib(FamilyTable[decoder.endOfRib].name);
      return;
    }
    const excess = this.#rib.update(slot, message, decoder);
    if (excess) this.#limitExceeded(excess);
  }

  routeRefresh(family: Family, subtype: number): void {
    // Subtypes 1 and 2 mark begin and end of a refresh (RFC 7313), which we do not announce.
    if (subtype !== 0) return;
    const f = familyIndex(family);
    this.#rib.groupOf(f, this.index)?.refresh(this.index);
  }

  down(reason: DownReason): void {
    const { slot, negotiated } = this;
    this.waits();
    for (const family of FamilyIndexes) this.#rib.leave(family, this.index);
    this.negotiated = undefined;
    this.#decoder = undefined;
    if (slot && negotiated) this.#restarts({ type: "Down", reason });
    // Routes that are kept stand and fall with the link as the session did.
    if (slot?.state !== "stale") this.#releaseLink();
    this.#hooks.progressed();
  }

  writable(): void {
    this.#writable = true;
    this.#rib.kick();
  }

  /** The neighbour is removed from the configuration: nothing of it is kept. */
  close(): void {
    this.#restartTimer?.cancel();
    this.#releaseLink();
    for (const family of FamilyIndexes) this.#rib.leave(family, this.index);
    if (this.slot && this.slot.state !== "dead") this.#rib.closeSlot(this.slot, false);
  }

  /**
   * The ways to these next hops have changed. An external neighbour on a link of ours is lost with that link, as with other routers (FRR "fast
   * external failover", BIRD "check link"). Its routes could not be used until then, but all at once when the link is back: a switch after a
   * power cut has a carrier long before it forwards. The NOTIFICATION keeps a graceful restart from saving those routes; those that one has
   * saved already go for good.
   */
  nextHopsChanged(ids: ReadonlySet<number>): void {
    if (this.#link === undefined || !ids.has(this.#link)) return;
    const resolution = this.#tracker?.resolution(this.#link);
    if (resolution?.connected) return;
    const text = resolution?.reachable ? `now only ${resolution.reason}` : resolution?.reason;
    if (!this.negotiated) {
      this.#restarts({ type: "Lost", reason: `the link to the neighbour is lost: ${text}` });
      return;
    }
    this.session.fail(`the link to the neighbour is lost: ${text}`, { code: ErrorCode.Cease, subcode: 0, data: new Uint8Array() });
  }

  #followLink({ internal, remoteAddress }: Negotiated): void {
    this.#releaseLink();
    if (internal || this.config.multihop !== undefined || !this.#tracker) return;
    const id = this.#tracker.track(remoteAddress, this.#ifindex);
    if (this.#tracker.resolution(id).connected) this.#link = id;
    else this.#tracker.release(id);
  }

  #releaseLink(): void {
    if (this.#link !== undefined) this.#tracker?.release(this.#link);
    this.#link = undefined;
  }

  #restarts(event: RestartEvent): void {
    const [next, actions] = restart(this.#restart, event);
    this.#restart = next;
    for (const action of actions) this.#doRestart(action);
  }

  #doRestart(action: RestartAction): void {
    const { slot } = this;
    switch (action.type) {
      case "End":
        if (slot) this.#rib.closeSlot(slot, action.keep);
        return;
      case "Purge": {
        // Of a session that stands they are in the slot of the one before.
        const stale = slot?.state === "live" ? this.#rib.slots.get(slot.staleSlot) : slot;
        if (stale) for (const family of action.families) this.#rib.purgeStale(stale, familyIndex(family));
        return;
      }
      case "Forget":
        this.#log.info({}, `graceful restart: ${action.reason}, its routes go`);
        this.#releaseLink();
        if (slot) this.#rib.closeSlot(slot, false);
        return;
      case "StartTimer": {
        const { seconds } = action;
        if (this.#restart.phase === "kept")
          this.#log.info({ seconds }, `graceful restart: keeping the neighbour's routes for ${seconds} s`);
        this.#restartTimer = this.#platform.clock.after(seconds * 1000, () => this.#restarts({ type: "TimerExpires" }));
        return;
      }
      case "StopTimer":
        this.#restartTimer?.cancel();
    }
  }

  #endOfRib(family: Family): void {
    this.#restarts({ type: "EndOfRib", family });
    this.#hooks.progressed();
  }

  /** Seconds; 0 = never by itself. */
  limitRestart(excess: Excess): number {
    const settings = excess.limit === "octets" ? undefined : this.config.families[excess.family];
    return settings?.prefixLimitRestart ?? PREFIX_LIMIT_RESTART;
  }

  /** A limit that was lowered, or a policy that accepts more, counts at once and not at some later UPDATE. */
  #enforceLimits(slot: Slot): Excess | undefined {
    if (slot !== this.slot || !this.negotiated) return undefined;
    const excess = this.#rib.excess(slot);
    if (excess) this.#limitExceeded(excess);
    return excess;
  }

  #limitExceeded(excess: Excess): void {
    this.overLimit = excess;
    // Without a hold-down the session would come up, exceed the limit and go down again for ever.
    const holdDown = this.limitRestart(excess) || Number.POSITIVE_INFINITY;
    this.session.fail(excessText(this.config, excess), this.#excessNotification(excess), holdDown);
  }

  /** RFC 4486 section 4: AFI, SAFI and the limit. */
  #excessNotification(excess: Excess): { code: number; subcode: number; data: Uint8Array } {
    if (excess.limit === "octets") return { code: ErrorCode.Cease, subcode: CeaseSubcode.OutOfResources, data: new Uint8Array() };
    const { prefixLimit = 0, receivedLimit = 0 } = this.config.families[excess.family] ?? {};
    const limit = excess.limit === "accepted" ? prefixLimit : receivedLimit;
    const { afi, safi } = FamilyTable[familyIndex(excess.family)];
    const data = Uint8Array.of(afi >>> 8, afi & 255, safi, ...uint32Octets(limit));
    return { code: ErrorCode.Cease, subcode: CeaseSubcode.MaximumPrefixes, data };
  }

  #importRules(): Partial<Record<Family, ImportRules>> {
    const rules: Partial<Record<Family, ImportRules>> = {};
    for (const family of Families) {
      const settings = this.config.families[family];
      if (!settings) continue;
      rules[family] = {
        policy: compilePolicies({
          names: settings.importPolicies,
          policies: this.#global.policies,
          default: this.#default(settings.importDefault),
          family,
        }),
        allowAsIn: settings.allowAsIn,
        allowAsSets: this.config.allowAsSets ?? false,
        firstAs: this.negotiated?.internal === false && this.config.enforceFirstAs !== false ? this.negotiated.remoteAsn : 0,
        prefixLimit: settings.prefixLimit,
        receivedLimit: settings.receivedLimit ?? 0,
      };
    }
    return rules;
  }

  #default(configured: "accept" | "reject" | undefined): { action: "accept" | "reject"; text: string } {
    if (configured) return { action: configured, text: `default: ${configured}` };
    return this.negotiated?.internal
      ? { action: "accept", text: "default: accept (internal neighbour)" }
      : { action: "reject", text: "default: reject, an external neighbour needs a policy (RFC 8212)" };
  }

  #exportRules(f: FamilyIndex): ExportRules {
    const family = FamilyTable[f].name;
    const settings = this.config.families[family];
    const negotiated = this.negotiated;
    if (!settings || !negotiated) throw new Error(`${this.config.name}: no session in ${family}`);
    const { hears } = this.config;
    const connected = !negotiated.internal && this.config.multihop === undefined;
    return {
      policy: compilePolicies({
        names: settings.exportPolicies,
        policies: this.#global.policies,
        default: this.#default(settings.exportDefault),
        family,
      }),
      internal: negotiated.internal,
      client: this.config.routeReflectorClient,
      localAsn: this.localAsn,
      clusterId: this.#clusterId,
      selfNextHop: this.#selfNextHop(f),
      nextHopSelf: settings.nextHopSelf,
      removePrivateAsn: settings.removePrivateAsn ?? false,
      allowAsSets: this.config.allowAsSets ?? false,
      neighbor: this.config.name,
      mayHear: path => {
        const network = this.#rib.locals[f].network(path);
        return network === undefined || mayBeTold(network, hears);
      },
      onSharedSubnet: nextHop => connected && this.#tracker?.sharesSubnet(nextHop, negotiated.remoteAddress) === true,
    };
  }

  #groupOptions() {
    const { fourOctetAsn = true, maxMessageLength = 4096 } = this.negotiated ?? {};
    return { fourOctetAsn, maxMessageLength, advertisementInterval: this.config.advertisementInterval };
  }

  #groupKeys(): PerFamily<string> {
    return perFamily(f => (this.config.families[FamilyTable[f].name] ? this.#groupKey(f) : ""));
  }

  /** Equal keys, equal output: all that exporter and writer look at. */
  #groupKey(f: FamilyIndex): string {
    const family = FamilyTable[f].name;
    const settings = this.config.families[family];
    const n = this.negotiated;
    const self = this.#selfNextHop(f);
    const uses = settings
      ? compilePolicies({
          names: settings.exportPolicies,
          policies: this.#global.policies,
          default: this.#default(settings.exportDefault),
          family,
        })
      : undefined;
    return JSON.stringify([
      n?.internal,
      this.config.routeReflectorClient,
      this.localAsn,
      self ? [...self] : [],
      // Third-party next hops depend on the shared subnet, which the local address stands for.
      n ? [...n.localAddress] : [],
      this.config.multihop ?? 0,
      settings?.nextHopSelf,
      settings?.removePrivateAsn,
      this.config.allowAsSets ?? false,
      this.#groupOptions(),
      settings?.exportDefault,
      settings?.exportPolicies.map(name => [name, this.#global.policies[name]?.rules]),
      uses?.usesNeighbor ? this.config.name : "",
      this.#clusterId,
      this.config.hears,
    ]);
  }

  get #clusterId(): number {
    return addressToUint32(parseAddress(this.#global.clusterId ?? this.#global.routerId));
  }

  #selfNextHop(f: FamilyIndex): Uint8Array | undefined {
    const own = this.#self?.[f];
    return own && "address" in own ? own.address : undefined;
  }

  #ownAddresses({ localAddress }: Negotiated): PerFamily<OwnAddress> {
    const tracker = this.#tracker;
    const addresses = tracker?.addresses();
    const ask = (family: FamilyIndex) => {
      const question = { family, local: localAddress, ifindex: this.#home, current: this.#selfNextHop(family) };
      return ownAddress(question, addresses, ifindex => tracker?.linkName(ifindex) ?? `ifindex ${ifindex}`);
    };
    return perFamily(ask);
  }

  #interfaceOf(address: Uint8Array): number {
    return this.#tracker?.addresses().find(one => sameOctets(one.address, address))?.ifindex ?? 0;
  }

  /** The one link that we share with this address; 0 = none. */
  #linkTo(address: Uint8Array): number {
    if (!this.#tracker) return 0;
    const id = this.#tracker.track(address, 0);
    const { connected, hops } = this.#tracker.resolution(id);
    this.#tracker.release(id);
    return connected && hops.length === 1 ? hops[0].ifindex : 0;
  }

  #interfaceIndex(): number {
    const { interface: name } = this.config;
    return name === undefined ? 0 : (this.#platform.kernel?.netlink.link(name)?.index ?? 0);
  }

  #sink(): GroupSink {
    const peer = this;
    return {
      neighbor: this.config.name,
      neighborIndex: this.index,
      address: this.negotiated?.remoteAddress ?? parseAddress(this.config.address),
      get writable() {
        return peer.#writable;
      },
      restarting: this.restarting,
      send(messages, updates) {
        if (!peer.session.send(messages, updates)) peer.#writable = false;
      },
    };
  }
}
