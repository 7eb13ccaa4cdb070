/**
 * The edge of one neighbour's session: carries out what the pure machine (neighbor.ts, fsm/) decides. Timers, TCP connections and
 * messages become events; actions become timers, messages and calls of the listener. Events are worked off one after the other: one
 * that a listener causes while another is at work waits for its end.
 */
import { hexOf } from "../../net/octets.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import type { NeighborConfig } from "../config.ts";
import { Families, type Family } from "../family.ts";
import { CeaseSubcode, ErrorCode, encodeCommunication } from "../message/notification.ts";
import { keepaliveTime } from "../message/open.ts";
import { decodeRouteRefresh, encodeRouteRefresh } from "../message/route-refresh.ts";
import type { NotificationMessage } from "../message/types.ts";
import { MessageError } from "../message/types.ts";
import type { Platform } from "../platform.ts";
import { Connection, type OpenSettings } from "./connection.ts";
import type { FsmAction, FsmEvent, FsmTimer } from "./fsm/types.ts";
import {
  createNeighbor,
  type Direction,
  type Neighbor,
  type NeighborAction,
  type NeighborEvent,
  type NeighborTimer,
  step,
} from "./neighbor.ts";
import { TimerSet } from "./timers.ts";
import { newCounters, type SessionTotals } from "./totals.ts";
import type { DownReason, Negotiated, Session, SessionCounters, SessionListener, SessionSnapshot, SessionState } from "./types.ts";
import type { IncomingWire, Transport } from "./wire.ts";

export interface SessionOptions {
  config: NeighborConfig;
  /** The speaker's; config.localAsn goes before it. */
  localAsn: number;
  /** BGP Identifier, unsigned 32 bit. */
  localId: number;
  /** Announced; default: those of the configuration. */
  families?: readonly Family[];
  platform: Pick<Platform, "clock" | "log" | "faults">;
  listener: SessionListener;
  /** Where it counts what becomes of it, beside its own counters. */
  totals?: SessionTotals;
  transport: Transport;
  /** Announced to the neighbour (capability 73). */
  hostname?: string;
  /** Announced where given (RFC 4724). */
  gracefulRestart?: OpenSettings["gracefulRestart"];
  /** Uniform in 0..1, for jitter. */
  random?: () => number;
}

/** A Session that also takes connections that the neighbour opened. */
export interface AcceptingSession extends Session {
  /** Keeps or refuses the connection; takes care of it in either case. */
  accept(wire: IncomingWire): void;
}

export function createSession(options: SessionOptions): AcceptingSession {
  return new BgpSession(options);
}

/** KEEPALIVEs are never closer than this (RFC 4271 section 4.4: one second, of which clocks may round a little away). Milliseconds. */
const KEEPALIVE_SPACING = 990;

/** Seconds that a session stays down after a fault of ours. */
const FAULT_HOLD_DOWN = 60;

class BgpSession implements AcceptingSession {
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #openSettings: OpenSettings;
  readonly counters: SessionCounters = newCounters();
  readonly #timers: TimerSet<NeighborTimer>;
  readonly #sides: Record<Direction, Side>;
  readonly #closing = new Set<Promise<void>>();
  readonly #queue: NeighborEvent[] = [];
  #working = false;
  /** A fault is being dealt with. */
  #failing = false;
  /** Its machine was replaced after a fault, and is started later. */
  #anew: { timer: Timer; at: number; cause: string } | undefined;
  #neighbor: Neighbor;
  #since: number;
  #lastDown: SessionSnapshot["lastDown"];
  /** It is about the end of a session or came with a NOTIFICATION, not about an attempt that failed. */
  #lastDownTells = false;
  /** The connection an IncomingConnection event is about. */
  #arriving: IncomingWire[] = [];

  constructor(options: SessionOptions) {
    const { config, platform, localId } = options;
    const localAsn = config.localAsn ?? options.localAsn;
    this.#options = options;
    this.#clock = platform.clock;
    this.#log = platform.log.child({ neighbor: config.name });
    this.#openSettings = {
      localAsn,
      localId,
      remoteAsn: config.remoteAsn,
      holdTime: config.holdTime,
      keepaliveTime: config.keepaliveTime,
      families: options.families ?? Families.filter(family => config.families[family]),
      hostname: options.hostname,
      gracefulRestart: options.gracefulRestart,
    };
    const random = options.random ?? Math.random;
    this.#timers = new TimerSet(this.#clock, random, timer => this.#dispatch({ type: "TimerExpires", timer }));
    const newSide = (direction: Direction): Side => {
      const expired = (timer: FsmTimer) => this.#connectionEvent(side.direction, { type: timerEvents[timer] });
      const side: Side = { direction, connection: undefined, lastKeepalive: -Infinity, timers: new TimerSet(this.#clock, random, expired) };
      return side;
    };
    this.#sides = { outgoing: newSide("outgoing"), incoming: newSide("incoming") };
    this.#neighbor = this.#newNeighbor();
    this.#since = this.#clock.now();
  }

  start(): void {
    this.#endAnew();
    const { shutdown } = this.#options.config;
    if (shutdown) void this.stop({ subcode: CeaseSubcode.AdministrativeShutdown, ...shutdown });
    else this.#dispatch({ type: "Start" });
  }

  async stop(notification?: { subcode: number; message?: string }): Promise<void> {
    this.#endAnew();
    const { subcode = CeaseSubcode.AdministrativeShutdown, message } = notification ?? {};
    const what = subcode === CeaseSubcode.AdministrativeShutdown ? "administratively shut down" : "stopped";
    this.#dispatch({ type: "Stop", reason: message ? `${what}: "${message}"` : what, notification: cease(subcode, message) });
    await Promise.all(this.#closing);
  }

  async abandon(): Promise<void> {
    this.#endAnew();
    this.#timers.stopAll();
    for (const side of Object.values(this.#sides)) {
      side.timers.stopAll();
      this.#track(side.connection?.close());
      side.connection = undefined;
    }
    await Promise.all(this.#closing);
  }

  reset(reason: string): void {
    if (this.#anew) this.start();
    else this.#dispatch({ type: "Reset", reason: `reset: ${reason}`, notification: cease(CeaseSubcode.AdministrativeReset, reason) });
  }

  /**
   * The neighbour's segments are dropped until it has the key, too, and ours by it: TCP sends them again, so that nothing is lost when both change within
   * the hold time.
   */
  rekey(password: string): void {
    this.#options.transport.rekey?.(password);
    try {
      for (const { connection } of Object.values(this.#sides)) connection?.rekey(password);
    } catch (error) {
      this.reset(`the TCP MD5 key cannot be changed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  reconfigure({ passive, connectRetryTime, keepaliveTime: wanted, remoteAsn }: NeighborConfig): void {
    Object.assign(this.#openSettings, { keepaliveTime: wanted, remoteAsn });
    this.#dispatch({ type: "Reconfigure", passive, connectRetryTime, keepaliveTime: holdTime => keepaliveTime(holdTime, wanted) });
    const negotiated = this.#established()?.negotiated;
    if (negotiated) negotiated.keepaliveTime = keepaliveTime(negotiated.holdTime, wanted);
  }

  fail(reason: string, notification: NotificationMessage, holdDown?: number): void {
    this.#dispatch({ type: "Fail", reason, notification, holdDown });
  }

  accept(wire: IncomingWire): void {
    this.#arriving.push(wire);
    this.#dispatch({ type: "IncomingConnection" });
  }

  send(messages: Uint8Array, updates: number): boolean {
    const connection = this.#established();
    if (!connection) return false;
    this.counters.messagesOut.update += updates;
    return connection.write(messages);
  }

  sendRouteRefresh(family: Family): void {
    const connection = this.#established();
    if (!connection?.negotiated?.routeRefresh) return;
    this.counters.messagesOut.routeRefresh++;
    connection.write(encodeRouteRefresh(family));
  }

  snapshot(): SessionSnapshot {
    const { state } = this.#neighbor;
    const wait = this.#wait();
    const reason = this.#reason(wait);
    const hint = this.#options.transport.drops?.hint(state);
    const { messagesIn, messagesOut, ...rest } = this.counters;
    return {
      state,
      reason: hint ? `${reason}; ${hint}` : reason,
      since: this.#since,
      ...(wait !== undefined && { nextAttempt: this.#clock.now() + wait * 1000 }),
      negotiated: this.#established()?.negotiated,
      lastDown: this.#lastDown,
      counters: { messagesIn: { ...messagesIn }, messagesOut: { ...messagesOut }, ...rest },
    };
  }

  get state(): SessionState {
    return this.#neighbor.state;
  }

  /** Seconds until the next attempt, where one is planned. */
  #wait(): number | undefined {
    if (this.#anew) return Math.max(0, (this.#anew.at - this.#clock.monotonic()) / 1000);
    if (this.#neighbor.idleHold) return this.#timers.remaining("idleHold");
    return this.#neighbor.outgoing.state === "Active" ? this.#sides.outgoing.timers.remaining("connectRetry") : undefined;
  }

  /** A hold-down counts down. */
  #reason(wait: number | undefined): string {
    const cause = this.#anew?.cause ?? this.#neighbor.idleHold?.cause;
    if (cause === undefined) return this.#neighbor.reason;
    return `${cause}; held idle ${wait === undefined ? "until it is reset or started again" : `for another ${Math.ceil(wait)} s`}`;
  }

  #established(): Connection | undefined {
    const { outgoing, incoming } = this.#neighbor;
    if (outgoing.state === "Established") return this.#sides.outgoing.connection;
    return incoming?.state === "Established" ? this.#sides.incoming.connection : undefined;
  }

  #connectionEvent(direction: Direction, event: FsmEvent): void {
    this.#dispatch({ type: "Connection", direction, event });
  }

  #dispatch(event: NeighborEvent): void {
    this.#queue.push(this.#working ? lasting(event) : event);
    if (this.#working) return;
    this.#working = true;
    try {
      for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
        this.#work(next);
      }
    } finally {
      this.#working = false;
    }
  }

  #work(event: NeighborEvent): void {
    try {
      const [neighbor, actions] = step(this.#neighbor, event);
      this.#neighbor = neighbor;
      for (const action of actions) this.#perform(action);
      if (event.type === "Fail") this.#failing = false;
    } catch (error) {
      this.#defect(`handling ${event.type}`, error);
    }
  }

  #perform(action: NeighborAction): void {
    switch (action.type) {
      case "Connection":
        this.#performOn(action.direction, action.action);
        return;
      case "Promote":
        this.#promote();
        return;
      case "Accept":
        this.#attach(this.#arriving.shift()!);
        return;
      case "Refuse":
        this.#refuse(this.#arriving.shift()!, action.notification, action.reason);
        return;
      case "StartTimer":
        this.#timers.start(action.timer, action.seconds, action.jitter);
        return;
      case "StopTimer":
        this.#timers.stop(action.timer);
        return;
      case "StateChanged":
        this.#since = this.#clock.now();
        if (this.#options.totals) this.#options.totals.entered[action.state]++;
        // What was dropped before the handshake says nothing about why no OPEN comes.
        if (action.state === "OpenSent") this.#options.transport.drops?.mark();
        this.#log.info({ state: action.state }, `${action.state}: ${action.reason}`);
        this.#tell("stateChanged", () => this.#options.listener.stateChanged(action.state, action.reason));
    }
  }

  #performOn(direction: Direction, action: FsmAction): void {
    const side = this.#sides[direction];
    switch (action.type) {
      case "StartTimer":
        side.timers.start(action.timer, action.seconds, action.jitter);
        return;
      case "StopTimer":
        side.timers.stop(action.timer);
        return;
      case "Connect":
        this.#connect();
        return;
      case "Disconnect":
        this.#track(side.connection?.close(action.notification));
        side.connection = undefined;
        return;
      case "SendOpen":
        side.connection?.sendOpen();
        return;
      case "SendKeepalive":
        this.#sendKeepalive(side);
        return;
      case "Established":
        this.counters.establishedCount++;
        this.#tell("established", () => this.#options.listener.established(side.connection!.negotiated!));
        return;
      case "DeliverUpdate":
        this.#deliver(side, action.message, message => this.#options.listener.update(message));
        return;
      case "DeliverRouteRefresh":
        this.#deliver(side, action.message, message => this.#routeRefresh(message, side.connection?.negotiated));
        return;
      case "Down":
        this.#down(action);
    }
  }

  /** The sides change places, with their connections and timers; events that wait are about the same connections as before. */
  #promote(): void {
    const { outgoing, incoming } = this.#sides;
    Object.assign(this.#sides, { outgoing: incoming, incoming: outgoing });
    incoming.direction = "outgoing";
    outgoing.direction = "incoming";
    for (const event of this.#queue) {
      if (event.type === "Connection") event.direction = event.direction === "outgoing" ? "incoming" : "outgoing";
    }
  }

  #newConnection(direction: Direction): Connection {
    const side = this.#sides[direction];
    const owner = {
      counters: this.counters,
      event: (event: FsmEvent) => this.#connectionEvent(side.direction, event),
      fault: (error: unknown, octets: Uint8Array) => this.#defect("a message", error, octets),
      writable: () => {
        if (this.#established() === connection) this.#tell("writable", () => this.#options.listener.writable());
      },
    };
    const connection = new Connection(this.#openSettings, owner);
    side.connection = connection;
    side.lastKeepalive = -Infinity;
    return connection;
  }

  #connect(): void {
    this.counters.connectAttempts++;
    const connection = this.#newConnection("outgoing");
    try {
      connection.use(this.#options.transport.connect(connection));
    } catch (error) {
      connection.closed(error instanceof Error ? error.message : String(error));
    }
  }

  #attach(wire: IncomingWire): void {
    const connection = this.#newConnection("incoming");
    connection.use(wire.attach(connection));
  }

  #refuse(wire: IncomingWire, { code, subcode, data }: NotificationMessage, reason: string): void {
    this.#log.info({ port: wire.remote.port }, `connection from the neighbour refused: ${reason}`);
    const refused = new Connection(this.#openSettings, { counters: this.counters, event: () => {}, fault: () => {}, writable: () => {} });
    refused.use(wire.attach(refused));
    this.#track(refused.close({ code, subcode, data }));
  }

  #sendKeepalive(side: Side): void {
    const { connection } = side;
    const wait = side.lastKeepalive + KEEPALIVE_SPACING - this.#clock.monotonic();
    if (wait > 0) {
      // Not lost: it may be the one that finds out whether the neighbour is still there (a second connection came in).
      if (side.lateKeepalive === connection) return;
      side.lateKeepalive = connection;
      this.#clock.after(wait, () => {
        if (side.lateKeepalive === connection) side.lateKeepalive = undefined;
        if (connection && side.connection === connection) this.#sendKeepalive(side);
      });
      return;
    }
    side.lastKeepalive = this.#clock.monotonic();
    connection?.sendKeepalive();
  }

  #deliver(side: Side, message: Uint8Array, deliver: (message: Uint8Array) => void): void {
    try {
      deliver(message);
    } catch (error) {
      if (error instanceof MessageError) {
        this.#connectionEvent(side.direction, { type: "UpdateMsgErr", error, offending: message.slice(0, 4096) });
      } else {
        this.#defect("a message", error, message);
      }
    }
  }

  /** A refresh for a family that is not of this session is ignored (RFC 2918 section 4). */
  #routeRefresh(message: Uint8Array, negotiated: Negotiated | undefined): void {
    const { family, subtype } = decodeRouteRefresh(message);
    if (family && negotiated?.families.includes(family)) this.#options.listener.routeRefresh(family, subtype);
  }

  #down({ cause, reason, wasEstablished }: Extract<FsmAction, { type: "Down" }>): void {
    const expected = cause === "stop" || cause === "collision";
    const { offending, notification, text } = reason;
    this.#options.totals?.ended(wasEstablished ? "session" : "attempt", cause, notification);
    const fields = { ...(offending && { offending: hexOf(offending) }), ...(notification && withHex(notification)) };
    if (wasEstablished) this.#log.warn(fields, `session down: ${text}`);
    else this.#log[expected ? "debug" : "info"](fields, `attempt failed: ${text}`);
    // A connection beside the session that is there tells nothing about it.
    if (!wasEstablished && this.#established()) return;
    // "Connection refused" of the next attempt says less than why the session ended; snapshot().reason has the attempt.
    const telling = wasEstablished || reason.notification !== undefined;
    if (telling ? wasEstablished || !expected : !expected && !this.#lastDownTells) {
      this.#lastDown = { ...reason, at: this.#clock.now() };
      this.#lastDownTells = telling;
    }
    if (wasEstablished) this.#options.transport.drops?.mark();
    if (wasEstablished) this.#tell("down", () => this.#options.listener.down(reason satisfies DownReason));
  }

  /** A listener that throws has a defect of its own; it must not take the session machine with it. */
  #tell(what: string, call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#defect(`${what}()`, error);
    }
  }

  /**
   * A fault of ours ends the session, and only this one. It stays down for a while: the neighbour would send the same again. Where even ending it in
   * order throws, its connections are cut.
   */
  #defect(what: string, error: unknown, octets?: Uint8Array): void {
    const { platform, config } = this.#options;
    const text = error instanceof Error ? error.message : String(error);
    const stack = error instanceof Error ? error.stack : undefined;
    if (platform.faults) platform.faults.note("session", error, { about: `${config.name}, ${what}`, octets });
    else this.#log.error({ stack }, `fault of podlane: ${what}: ${text}`);
    if (this.#failing) this.#startAnew(text);
    else {
      this.#failing = true;
      this.fail(`internal error: ${text}`, cease(CeaseSubcode.OutOfResources), FAULT_HOLD_DOWN);
    }
  }

  /** Ending the session in order threw as well: its connections are cut, its machine is replaced, and it is tried again later. */
  #startAnew(text: string): void {
    this.#failing = false;
    this.#queue.length = 0;
    const wasEstablished = this.#established() !== undefined;
    void this.abandon();
    this.#neighbor = this.#newNeighbor();
    this.#since = this.#clock.now();
    const timer = this.#clock.after(FAULT_HOLD_DOWN * 1000, () => this.start());
    this.#anew = { timer, at: this.#clock.monotonic() + FAULT_HOLD_DOWN * 1000, cause: `internal error: ${text}` };
    if (!wasEstablished) return;
    try {
      this.#options.listener.down({ text: `internal error: ${text}` });
    } catch (error) {
      this.#options.platform.faults?.note("session", error, { about: this.#options.config.name });
    }
  }

  #endAnew(): void {
    this.#anew?.timer.cancel();
    this.#anew = undefined;
  }

  #newNeighbor(): Neighbor {
    const { config, localId } = this.#options;
    const { passive, connectRetryTime } = config;
    const shutdown = cease(CeaseSubcode.AdministrativeShutdown, config.shutdown?.message);
    return createNeighbor({ passive, connectRetryTime, localAsn: this.#openSettings.localAsn, localId, shutdown });
  }

  #track(closing: Promise<void> | undefined): void {
    if (!closing) return;
    this.#closing.add(closing);
    void closing.finally(() => this.#closing.delete(closing));
  }
}

/** What belongs to one of the two connections. */
interface Side {
  /** Which of the two it is now. */
  direction: Direction;
  connection: Connection | undefined;
  /** Monotonic milliseconds. */
  lastKeepalive: number;
  /** The connection for which a KEEPALIVE waits until it may be sent. */
  lateKeepalive?: Connection;
  readonly timers: TimerSet<FsmTimer>;
}

const timerEvents = {
  connectRetry: "ConnectRetryTimerExpires",
  hold: "HoldTimerExpires",
  keepalive: "KeepaliveTimerExpires",
  sendHold: "SendHoldTimerExpires",
} as const satisfies Record<FsmTimer, FsmEvent["type"]>;

/** An event that waits must not refer to octets that are only lent. */
function lasting(event: NeighborEvent): NeighborEvent {
  if (event.type !== "Connection" || !("message" in event.event)) return event;
  return { ...event, event: { ...event.event, message: event.event.message.slice() } };
}

function cease(subcode: number, message?: string): NotificationMessage {
  return { code: ErrorCode.Cease, subcode, data: message ? encodeCommunication(message) : new Uint8Array() };
}

function withHex({ code, subcode, data, direction }: NotificationMessage & { direction: string }): object {
  return { notification: { code, subcode, direction, data: hexOf(data) } };
}
