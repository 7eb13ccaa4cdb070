/**
 * One neighbour as a pure machine over its two connections: the one we open (`outgoing`, which also stands for listening) and the one
 * we accepted (`incoming`), each with a state machine of its own. Here are decided: which of two connections is kept (RFC 4271 section
 * 6.8, RFC 6286), when the next attempt is made, and how long a neighbour with protocol errors must wait (section 8.1.1,
 * DampPeerOscillations). `(neighbour, event) -> [neighbour, actions]`; no clock, no socket, never throws.
 */
import { CeaseSubcode, ErrorCode } from "../message/notification.ts";
import type { NotificationMessage } from "../message/types.ts";
import { createFsm, transition } from "./fsm/fsm.ts";
import type { Fsm, FsmAction, FsmEvent, FsmSettings } from "./fsm/types.ts";
import type { SessionState } from "./types.ts";

export type Direction = "outgoing" | "incoming";

export interface NeighborSettings extends FsmSettings {
  /** What we are towards this neighbour, for the choice between two connections (RFC 6286 section 2.3). */
  localAsn: number;
  /** Unsigned 32 bit. */
  localId: number;
  /** What a connection gets before the first start. */
  shutdown: NotificationMessage;
}

/** Seconds. The first wait of the idle hold timer; each further protocol error doubles it. */
const IDLE_HOLD_INITIAL = 1;
const IDLE_HOLD_MAX = 60;
/** Seconds until the first new attempt after a loss; doubles up to the ConnectRetryTime. */
const RETRY_INITIAL = 1;
/**
 * After a collision that cost both connections (the sides saw the messages in different orders) the side that yields waits this much
 * longer: without it two sides with equal delays would collide again and again.
 */
const YIELD_FACTOR = 3;
/** Seconds in Established after which earlier trouble is forgotten. */
const STABILITY_TIME = 60;

export interface Neighbor {
  readonly settings: NeighborSettings;
  readonly started: boolean;
  /** What every connection gets while it is stopped: the last stop's NOTIFICATION with its text (RFC 9003). */
  readonly shutdown: NotificationMessage;
  readonly outgoing: Fsm;
  readonly incoming: Fsm | undefined;
  /** No attempt is made and none is accepted until the idle hold timer expires. */
  readonly idleHold: { cause: string; text: string } | undefined;
  /** Since the last stable session. */
  readonly protocolErrors: number;
  /** Attempts that failed or sessions lost, since the last stable session. */
  readonly failures: number;
  /** Established for STABILITY_TIME: no connection can still be under way from when this one was made. */
  readonly stable: boolean;
  /** What the neighbour said of itself in the OPEN of the session that is there, or was there last. */
  readonly remote: Remote | undefined;
  /** By the last OPEN, the neighbour is the side whose connection is kept. */
  readonly yields: boolean;
  /** Most advanced of both connections. */
  readonly state: SessionState;
  readonly reason: string;
}

/** Who a neighbour is by its OPEN, and whether it takes part in graceful restart (RFC 4724). */
interface Remote {
  id: number;
  asn: number;
  gracefulRestart: boolean;
}

export type NeighborTimer = "idleHold" | "stability";

export type NeighborEvent =
  | { type: "Start" }
  | { type: "Stop"; reason: string; notification: NotificationMessage }
  /** Ends what is there and connects again. */
  | { type: "Reset"; reason: string; notification: NotificationMessage }
  /** From now on; what is under way goes on. `keepaliveTime`: seconds for a hold time. */
  | { type: "Reconfigure"; passive: boolean; connectRetryTime: number; keepaliveTime(holdTime: number): number }
  /** `holdDown`: seconds without an attempt; Infinity = until started again; absent = as the NOTIFICATION's kind demands. */
  | { type: "Fail"; reason: string; notification: NotificationMessage; holdDown?: number }
  | { type: "TimerExpires"; timer: NeighborTimer }
  /** A TCP connection from the neighbour was accepted; answered by Accept or Refuse. */
  | { type: "IncomingConnection" }
  | { type: "Connection"; direction: Direction; event: FsmEvent };

export type NeighborAction =
  | { type: "Connection"; direction: Direction; action: FsmAction }
  /** What was `incoming` is `outgoing` from here on, which was Idle: room for one more connection that the neighbour opens. */
  | { type: "Promote" }
  /** The connection that came in becomes `incoming`. */
  | { type: "Accept" }
  /** The connection that came in is told this and closed. */
  | { type: "Refuse"; notification: NotificationMessage; reason: string }
  | { type: "StartTimer"; timer: NeighborTimer; seconds: number; jitter: boolean }
  | { type: "StopTimer"; timer: NeighborTimer }
  | { type: "StateChanged"; state: SessionState; reason: string };

export function createNeighbor(settings: NeighborSettings): Neighbor {
  const outgoing = createFsm(settings);
  const { state, reason } = outgoing;
  return {
    settings,
    started: false,
    shutdown: settings.shutdown,
    outgoing,
    incoming: undefined,
    idleHold: undefined,
    protocolErrors: 0,
    failures: 0,
    stable: false,
    remote: undefined,
    yields: false,
    state,
    reason,
  };
}

export function step(before: Neighbor, event: NeighborEvent): [Neighbor, NeighborAction[]] {
  const run = new Step(before);
  run.handle(event);
  run.settle();
  return run.finish(before);
}

/** RFC 4271 section 6.8 step 2 and RFC 6286: the side with the higher BGP Identifier, then the higher AS number, keeps what it opened. */
export function keptConnection(local: { id: number; asn: number }, remote: { id: number; asn: number }): Direction {
  if (local.id !== remote.id) return local.id > remote.id ? "outgoing" : "incoming";
  return local.asn > remote.asn ? "outgoing" : "incoming";
}

function isLive(fsm: Fsm | undefined): fsm is Fsm {
  return fsm !== undefined && (fsm.state === "OpenSent" || fsm.state === "OpenConfirm" || fsm.state === "Established");
}

type Down = Extract<FsmAction, { type: "Down" }>;

/** The work of one step: a copy that is written to, and the actions so far. */
class Step {
  readonly #actions: NeighborAction[] = [];
  readonly #downs: Down[] = [];
  #neighbor: { -readonly [K in keyof Neighbor]: Neighbor[K] };
  #holdDown: number | undefined;
  #cause: string | undefined;

  constructor(before: Neighbor) {
    this.#neighbor = { ...before };
  }

  handle(event: NeighborEvent): void {
    const neighbor = this.#neighbor;
    switch (event.type) {
      case "Start":
        if (neighbor.started && neighbor.idleHold === undefined) return;
        neighbor.started = true;
        this.#forgive();
        this.#run("outgoing", {
          type: "ManualStart",
          reason: neighbor.settings.passive ? "waiting for the neighbour to connect" : "connecting",
        });
        return;
      case "Stop":
        neighbor.started = false;
        neighbor.shutdown = event.notification;
        this.#forgive();
        this.#runBoth({ type: "ManualStop", reason: event.reason, notification: event.notification });
        neighbor.outgoing = { ...neighbor.outgoing, reason: event.reason };
        return;
      case "Reset":
        if (!neighbor.started) return;
        this.#forgive();
        this.#runBoth({ type: "ManualStop", reason: event.reason, notification: event.notification });
        this.#run("outgoing", { type: "AutomaticStart", reason: `${event.reason}; connecting again` });
        return;
      case "Fail":
        if (!neighbor.started) return;
        neighbor.failures++;
        this.#cause = event.reason;
        this.#holdDown = event.holdDown ?? (isProtocolError(event.notification) ? this.#damping() : undefined);
        this.#runBoth({ type: "AutomaticStop", reason: event.reason, notification: event.notification });
        return;
      case "Reconfigure":
        this.#reconfigure(event);
        return;
      case "TimerExpires":
        this.#expire(event.timer);
        return;
      case "IncomingConnection":
        this.#incomingConnection();
        return;
      case "Connection":
        if (event.event.type === "BgpOpen") this.#open(event.direction, event.event);
        else this.#run(event.direction, event.event);
    }
  }

  /** What follows from the connections that ended, and from what is there now. */
  settle(): void {
    const neighbor = this.#neighbor;
    for (const down of this.#downs) this.#ended(down);
    if (neighbor.incoming && !isLive(neighbor.incoming)) neighbor.incoming = undefined;
    if (this.#holdDown !== undefined && neighbor.started) this.#startIdleHold(this.#holdDown);
    if (neighbor.incoming?.state === "Established" && isAttempting(neighbor.outgoing)) {
      this.#run("outgoing", { type: "OpenCollisionDump", reason: "the neighbour's own connection is established" });
    }
    if (neighbor.started && neighbor.idleHold === undefined && neighbor.outgoing.state === "Idle") this.#restart();
  }

  finish(before: Neighbor): [Neighbor, NeighborAction[]] {
    const neighbor = this.#neighbor;
    const { outgoing, incoming } = neighbor;
    const shown = incoming && rank(incoming) > rank(outgoing) ? incoming : outgoing;
    neighbor.state = shown.state;
    neighbor.reason = neighbor.idleHold?.text ?? shown.reason;
    if (neighbor.state !== before.state) this.#actions.push({ type: "StateChanged", state: neighbor.state, reason: neighbor.reason });
    return [neighbor, this.#actions];
  }

  #run(direction: Direction, event: FsmEvent): void {
    const fsm = this.#neighbor[direction];
    if (!fsm) return;
    const [next, actions] = transition(fsm, event);
    this.#neighbor[direction] = next;
    for (const action of actions) {
      this.#actions.push({ type: "Connection", direction, action });
      if (action.type === "Down") {
        this.#downs.push(action);
        if (action.wasEstablished) this.#neighbor.stable = false;
      }
      if (action.type === "Established") {
        this.#actions.push({ type: "StartTimer", timer: "stability", seconds: STABILITY_TIME, jitter: false });
      }
    }
  }

  #runBoth(event: FsmEvent): void {
    this.#run("incoming", event);
    this.#run("outgoing", event);
  }

  #expire(timer: NeighborTimer): void {
    const neighbor = this.#neighbor;
    if (timer === "stability") {
      neighbor.protocolErrors = 0;
      neighbor.failures = 0;
      neighbor.stable = true;
    } else if (neighbor.idleHold !== undefined) {
      const { cause } = neighbor.idleHold;
      neighbor.idleHold = undefined;
      this.#run("outgoing", { type: "AutomaticStart", reason: `${cause}; trying again` });
    }
  }

  #reconfigure({ passive, connectRetryTime, keepaliveTime }: Extract<NeighborEvent, { type: "Reconfigure" }>): void {
    const neighbor = this.#neighbor;
    neighbor.settings = { ...neighbor.settings, passive, connectRetryTime };
    neighbor.outgoing = { ...neighbor.outgoing, settings: neighbor.settings };
    for (const direction of ["outgoing", "incoming"] as const) {
      const fsm = neighbor[direction];
      const seconds = fsm ? keepaliveTime(fsm.holdTime) : 0;
      if (fsm?.state !== "Established" || fsm.keepaliveTime === seconds) continue;
      neighbor[direction] = { ...fsm, keepaliveTime: seconds };
      // At once, and then in the new rhythm.
      this.#run(direction, { type: "KeepaliveTimerExpires" });
    }
  }

  #incomingConnection(): void {
    const { started, shutdown, idleHold, outgoing, incoming, stable, remote } = this.#neighbor;
    if (!started) {
      this.#refuse(shutdown, "the neighbour is shut down here");
    } else if (idleHold !== undefined) {
      this.#refuse(cease(CeaseSubcode.ConnectionRejected), idleHold.text);
    } else if (stable && remote?.gracefulRestart) {
      // It may have restarted faster than we could notice (RFC 4724 section 5). Any process of its host can connect, so that the session
      // goes on beside the connection until this brings the neighbour's own OPEN (#open).
      if (incoming?.state === "Established") this.#promote(incoming);
      this.#accept();
    } else if (outgoing.state === "Established" || incoming?.state === "Established") {
      this.#refuse(cease(CeaseSubcode.ConnectionCollision), "a session with the neighbour is established already");
      this.#probe(outgoing.state === "Established" ? "outgoing" : "incoming");
    } else {
      this.#accept();
    }
  }

  #promote(incoming: Fsm): void {
    this.#actions.push({ type: "Promote" });
    this.#neighbor.outgoing = { ...incoming, settings: this.#neighbor.settings };
    this.#neighbor.incoming = undefined;
  }

  /** A neighbour that lost its memory (power, kill) connects anew: a KEEPALIVE makes its kernel reset the connection it forgot. */
  #probe(established: Direction): void {
    this.#run(established, { type: "KeepaliveTimerExpires" });
  }

  #accept(): void {
    if (isLive(this.#neighbor.incoming)) {
      // The neighbour keeps one connection of its own: the older is a remainder that it has forgotten.
      this.#run("incoming", { type: "OpenCollisionDump", reason: "the neighbour opened a newer connection" });
    }
    this.#actions.push({ type: "Accept" });
    this.#neighbor.incoming = createFsm({ ...this.#neighbor.settings, passive: true });
    this.#run("incoming", { type: "ManualStartPassive", reason: "the neighbour connected" });
    this.#run("incoming", { type: "TcpConnectionConfirmed" });
  }

  #refuse(notification: NotificationMessage, reason: string): void {
    this.#actions.push({ type: "Refuse", notification, reason });
  }

  /** A valid OPEN: the point at which two connections are seen to be one too many. */
  #open(direction: Direction, event: Extract<FsmEvent, { type: "BgpOpen" }>): void {
    const other = direction === "outgoing" ? "incoming" : "outgoing";
    const otherState = this.#neighbor[other]?.state;
    const { localId: id, localAsn: asn } = this.#neighbor.settings;
    const remote = { id: event.remoteId, asn: event.remoteAsn, gracefulRestart: event.gracefulRestart ?? false };
    const kept = keptConnection({ id, asn }, remote);
    const challenges = this.#neighbor[direction]?.state === "OpenSent" && otherState === "Established";
    if (!challenges) {
      this.#neighbor.remote = remote;
      this.#neighbor.yields = kept === "incoming";
    }
    const dump = (loser: Direction, reason: string) => this.#run(loser, { type: "OpenCollisionDump", reason: `collision: ${reason}` });
    if (challenges && direction === "incoming" && this.#restarted(remote)) {
      // RFC 4724 section 5. No NOTIFICATION, so that its routes are kept.
      this.#run(other, { type: "TcpConnectionFails", reason: "the neighbour restarted: it opened a new connection" });
      this.#run(direction, event);
    } else if (challenges) {
      dump(direction, `the ${other} connection is established already`);
      this.#probe(other);
    } else if (this.#neighbor[direction]?.state === "OpenSent" && otherState === "OpenConfirm") {
      const by = id === event.remoteId ? "AS number" : "BGP Identifier";
      dump(kept === direction ? other : direction, `the ${kept} connection is kept, its opener has the higher ${by}`);
      if (kept === direction) this.#run(direction, event);
    } else {
      this.#run(direction, event);
    }
  }

  /** Whether the OPEN of a second connection is that of the neighbour whose session is there, after a restart. */
  #restarted(remote: Remote): boolean {
    const { stable, remote: known } = this.#neighbor;
    return stable && known?.gracefulRestart === true && remote.gracefulRestart && known.id === remote.id && known.asn === remote.asn;
  }

  #ended(down: Down): void {
    const neighbor = this.#neighbor;
    if (down.wasEstablished) this.#actions.push({ type: "StopTimer", timer: "stability" });
    const established = neighbor.outgoing.state === "Established" || neighbor.incoming?.state === "Established";
    if ((down.cause === "transport" || down.cause === "ended") && !established) neighbor.failures++;
    // What comes on a connection beside the session, from whomever, says nothing about the neighbour.
    if (down.cause !== "protocol" || established) return;
    const wait = this.#damping();
    if (!isLive(neighbor.incoming) && !isLive(neighbor.outgoing)) this.#holdDown = Math.max(wait, this.#holdDown ?? 0);
  }

  /** Counts a protocol error; returns the seconds to wait for it. */
  #damping(): number {
    return Math.min(IDLE_HOLD_MAX, IDLE_HOLD_INITIAL * 2 ** Math.min(this.#neighbor.protocolErrors++, 20));
  }

  #startIdleHold(seconds: number): void {
    const neighbor = this.#neighbor;
    const cause = this.#cause ?? this.#downs.at(-1)?.reason.text ?? neighbor.reason;
    const notification = cease(CeaseSubcode.ConnectionRejected);
    this.#runBoth({ type: "AutomaticStop", reason: cause, notification });
    neighbor.incoming = undefined;
    const finite = Number.isFinite(seconds);
    const wait = finite ? `for about ${Math.max(1, Math.round(seconds))} s` : "until started again";
    neighbor.idleHold = { cause, text: `${cause}; held idle ${wait}` };
    this.#actions.push(
      finite ? { type: "StartTimer", timer: "idleHold", seconds, jitter: true } : { type: "StopTimer", timer: "idleHold" },
    );
  }

  /** Back to listening, with a ConnectRetryTimer that grows from one attempt to the next. */
  #restart(): void {
    const { settings, incoming, failures, outgoing, reason } = this.#neighbor;
    if (incoming && incoming.state !== "OpenSent") return;
    const patience = this.#neighbor.yields && this.#downs.at(-1)?.cause === "collision" ? YIELD_FACTOR : 1;
    const connectRetry = patience * Math.min(settings.connectRetryTime, RETRY_INITIAL * 2 ** Math.min(Math.max(failures - 1, 0), 20));
    const cause = this.#downs.at(-1)?.reason.text ?? outgoing.reason ?? reason;
    const next = settings.passive
      ? "waiting for the neighbour to connect"
      : `next attempt within ${Math.ceil(connectRetry)} s, listening meanwhile`;
    this.#run("outgoing", { type: "AutomaticStartPassive", reason: `${cause}; ${next}`, connectRetry });
  }

  #forgive(): void {
    const neighbor = this.#neighbor;
    neighbor.protocolErrors = 0;
    neighbor.failures = 0;
    neighbor.idleHold = undefined;
    this.#actions.push({ type: "StopTimer", timer: "idleHold" });
  }
}

/** Errors that a new attempt would only repeat; Cease and expired timers are none. */
function isProtocolError({ code }: NotificationMessage): boolean {
  return code !== ErrorCode.Cease && code !== ErrorCode.HoldTimerExpired && code !== ErrorCode.SendHoldTimerExpired;
}

function isAttempting(fsm: Fsm): boolean {
  return fsm.state === "Connect" || fsm.state === "Active";
}

/** Order in which the states count as progress, for the one that is shown. */
function rank(fsm: Fsm): number {
  return { Idle: 0, Active: 1, Connect: 1, OpenSent: 2, OpenConfirm: 3, Established: 4 }[fsm.state];
}

function cease(subcode: number): NotificationMessage {
  return { code: ErrorCode.Cease, subcode, data: new Uint8Array() };
}
