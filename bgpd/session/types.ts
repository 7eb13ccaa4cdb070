/**
 * The border between one neighbour's session and the rest of the speaker: what a session reports and what may be asked of it.
 * The session knows TCP, timers and the state machine of RFC 4271 section 8; it does not know the RIB.
 */
import type { NeighborConfig } from "../config.ts";
import type { Family } from "../family.ts";
import type { NegotiatedOpen } from "../message/open.ts";
import type { NotificationMessage } from "../message/types.ts";

/** RFC 4271 section 8.2.2. */
export const SessionStates = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"] as const;
export type SessionState = (typeof SessionStates)[number];

/** A session that stands: what both OPENs allow, between which ends, and the OPENs themselves. */
export interface Negotiated extends NegotiatedOpen {
  localId: number;
  localAddress: Uint8Array;
  remoteAddress: Uint8Array;
  localPort: number;
  remotePort: number;
  /** Whole messages, as they went over the wire. */
  localOpen: Uint8Array;
  remoteOpen: Uint8Array;
}

/** Why a session left Established, or an attempt failed. */
export interface DownReason {
  /** One sentence for people: "hold timer expired", "neighbour sent Cease/Administrative Shutdown: \"upgrade\"". */
  text: string;
  notification?: NotificationMessage & { direction: "sent" | "received" };
  /** Octets of the offending message, at most 4096 of them. */
  offending?: Uint8Array;
}

export interface SessionListener {
  stateChanged(state: SessionState, reason: string): void;
  established(negotiated: Negotiated): void;
  /** One whole UPDATE with its header; the octets are valid only during the call. Throwing a MessageError sends its NOTIFICATION and ends the session. */
  update(message: Uint8Array): void;
  /** RFC 2918; subtype per RFC 7313 (0 = normal). */
  routeRefresh(family: Family, subtype: number): void;
  /** Left Established. */
  down(reason: DownReason): void;
  /** The socket can take data again after send() returned false. */
  writable(): void;
}

export interface SessionCounters {
  messagesIn: Record<"open" | "update" | "notification" | "keepalive" | "routeRefresh", number>;
  messagesOut: Record<"open" | "update" | "notification" | "keepalive" | "routeRefresh", number>;
  octetsIn: number;
  octetsOut: number;
  connectAttempts: number;
  establishedCount: number;
}

export interface SessionSnapshot {
  state: SessionState;
  /** Why it is in this state, in words. */
  reason: string;
  /** Milliseconds since the epoch of the last change of state. */
  since: number;
  negotiated?: Negotiated;
  /** Milliseconds since the epoch of the next attempt, where one is planned. */
  nextAttempt?: number;
  lastDown?: DownReason & { at: number };
  counters: SessionCounters;
}

export interface Session {
  start(): void;
  /** Ends with Cease/2 (or the given NOTIFICATION) and stays Idle; resolves when the connection is closed (bounded). */
  stop(notification?: { subcode: number; message?: string }): Promise<void>;
  /** The process ends and comes back: connections just close, without a NOTIFICATION, so that a neighbour in graceful restart keeps our routes (RFC 4724 section 4.1). Final. */
  abandon(): Promise<void>;
  /** Takes over what needs no other connection and no other OPEN: passive, the connect retry and keepalive times, who may answer. */
  reconfigure(config: NeighborConfig): void;
  /** Another TCP MD5 key for the connection that there is, and for later ones. */
  rekey(password: string): void;
  /** Cease/4 Administrative Reset, then connects again; ends every hold-down. */
  reset(reason: string): void;
  /** Established only. Queues whole messages; false = no more until writable(). The session owns the octets from here on. `updates`, for the counters, is the number of UPDATEs in it. */
  send(messages: Uint8Array, updates: number): boolean;
  sendRouteRefresh(family: Family): void;
  /** Ends the session with this NOTIFICATION, for what the RIB finds (prefix limit: Cease/1). `hold` = do not connect again before this many seconds; Infinity = until started again. */
  fail(reason: string, notification: NotificationMessage, holdDown?: number): void;
  snapshot(): SessionSnapshot;
  readonly state: SessionState;
  /** As they are now, and go on to change. */
  readonly counters: Readonly<SessionCounters>;
}
