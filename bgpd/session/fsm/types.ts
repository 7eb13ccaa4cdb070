/**
 * Events and actions of the state machine of one TCP connection (RFC 4271 section 8.1). The machine is data: it reads no clock,
 * opens no socket and never throws. Whoever runs it (../neighbor.ts, then ../session.ts) carries the actions out in their order.
 *
 * Of the optional events these are left out: 6, 7, 13 (damping is the neighbour's, not a connection's: ../neighbor.ts), 12, 20
 * (DelayOpen is not used), 14, 15 (a TCP connection that is not wanted never reaches a machine: ../listener.ts).
 */
import type { MessageError, NotificationMessage } from "../../message/types.ts";
import type { DownReason, SessionState } from "../types.ts";

export interface FsmSettings {
  /** PassiveTcpEstablishment for good: never connect. */
  passive: boolean;
  /** Seconds. */
  connectRetryTime: number;
}

export interface Fsm {
  readonly settings: FsmSettings;
  readonly state: SessionState;
  /** Why it is in this state, in words. */
  readonly reason: string;
  readonly connectRetryCounter: number;
  /** Negotiated, seconds; 0 = none, also before the OPEN came. */
  readonly holdTime: number;
  /** Seconds; 0 = none. */
  readonly keepaliveTime: number;
}

export type FsmTimer = "connectRetry" | "hold" | "keepalive" | "sendHold";

/** A violation found in what the neighbour sent: the NOTIFICATION it earns, and the message at fault. */
export interface Violation {
  error: Pick<MessageError, "message" | "code" | "subcode" | "data">;
  /** Octets of the message, at most 4096. */
  offending?: Uint8Array;
}

/** Numbers are those of RFC 4271 section 8.1; 29 is RFC 9687. */
export type FsmEvent =
  /** 1 */
  | { type: "ManualStart"; reason: string }
  /** 2 */
  | { type: "ManualStop"; reason: string; notification: NotificationMessage }
  /** 3 */
  | { type: "AutomaticStart"; reason: string }
  /** 4 */
  | { type: "ManualStartPassive"; reason: string }
  /** 5; `connectRetry` (seconds) replaces the first run of the ConnectRetryTimer. */
  | { type: "AutomaticStartPassive"; reason: string; connectRetry?: number }
  /** 8 */
  | { type: "AutomaticStop"; reason: string; notification: NotificationMessage }
  /** 9 */
  | { type: "ConnectRetryTimerExpires" }
  /** 10 */
  | { type: "HoldTimerExpires" }
  /** 11 */
  | { type: "KeepaliveTimerExpires" }
  /** 16 */
  | { type: "TcpConnectionAcked" }
  /** 17 */
  | { type: "TcpConnectionConfirmed" }
  /** 18 */
  | { type: "TcpConnectionFails"; reason: string }
  /** 19; seconds, negotiated. `gracefulRestart`: it holds the capability of RFC 4724. */
  | {
      type: "BgpOpen";
      holdTime: number;
      keepaliveTime: number;
      remoteId: number;
      remoteAsn: number;
      gracefulRestart?: boolean;
      offending?: Uint8Array;
    }
  /** 21 */
  | ({ type: "BgpHeaderErr" } & Violation)
  /** 22 */
  | ({ type: "BgpOpenMsgErr" } & Violation)
  /** 23 */
  | { type: "OpenCollisionDump"; reason: string }
  /** 24 */
  | { type: "NotifMsgVerErr"; notification: NotificationMessage; text: string }
  /** 25 */
  | { type: "NotifMsg"; notification: NotificationMessage; text: string }
  /** 26 */
  | { type: "KeepAliveMsg" }
  /** 27 */
  | { type: "UpdateMsg"; message: Uint8Array }
  /** 28; also an error in a ROUTE-REFRESH (RFC 7313 section 5). */
  | ({ type: "UpdateMsgErr" } & Violation)
  /** RFC 2918: as an UPDATE for the machine. */
  | { type: "RouteRefreshMsg"; message: Uint8Array }
  /** 29 */
  | { type: "SendHoldTimerExpires" }
  /** RFC 9687: the socket took octets. */
  | { type: "SendProgress" };

/** What ended an attempt or a session, for whoever decides when to try again. */
export type DownCause =
  /** We were told to. */
  | "stop"
  /** The other of two connections is kept. */
  | "collision"
  /** TCP did not come up, or broke. */
  | "transport"
  /** One side violated the protocol, or found that the configurations do not fit: trying at once again gives the same. */
  | "protocol"
  /** Cease from the neighbour, hold timer, send hold timer. */
  | "ended";

export type FsmAction =
  /** Open the TCP connection. */
  | { type: "Connect" }
  /** Close the TCP connection or give its attempt up; the NOTIFICATION, if any, goes out last. */
  | { type: "Disconnect"; notification?: NotificationMessage }
  | { type: "SendOpen" }
  | { type: "SendKeepalive" }
  /** Starts or restarts. `jitter`: multiply by a random factor of 0.75 to 1.0 (RFC 4271 section 10). */
  | { type: "StartTimer"; timer: FsmTimer; seconds: number; jitter: boolean }
  | { type: "StopTimer"; timer: FsmTimer }
  | { type: "Established" }
  | { type: "DeliverUpdate"; message: Uint8Array }
  | { type: "DeliverRouteRefresh"; message: Uint8Array }
  /** The connection or the attempt is over. */
  | { type: "Down"; cause: DownCause; reason: DownReason; wasEstablished: boolean };

export type Transition = [Fsm, FsmAction[]];
