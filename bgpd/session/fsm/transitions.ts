/** What the states have in common: closing, staying, sending OPEN (RFC 4271 section 8.2.2). */
import { MessageType } from "../../message/header.ts";
import { describeNotification, ErrorCode } from "../../message/notification.ts";
import type { NotificationMessage } from "../../message/types.ts";
import type { SessionState } from "../types.ts";
import type { DownCause, Fsm, FsmAction, FsmEvent, FsmSettings, FsmTimer, Transition, Violation } from "./types.ts";

/** RFC 4271 section 8.2.2, state Connect: the "large value" of the HoldTimer until the neighbour's OPEN is here. Seconds. */
export const LARGE_HOLD_TIME = 240;

/** RFC 9687 section 4: at least 8 minutes, and twice the hold time. Seconds. */
export function sendHoldTime(holdTime: number): number {
  return Math.max(480, 2 * holdTime);
}

export function stay(fsm: Fsm, actions: FsmAction[] = []): Transition {
  return [fsm, actions];
}

export function to(fsm: Fsm, state: SessionState, reason: string, actions: FsmAction[]): Transition {
  return [{ ...fsm, state, reason }, actions];
}

export function startTimer(timer: FsmTimer, seconds: number, jitter = false): FsmAction {
  return { type: "StartTimer", timer, seconds, jitter };
}

/** An interval of one second stays whole: a shorter one would be refused (RFC 4271 section 4.4: at most one KEEPALIVE per second). */
export function startKeepalive(seconds: number): FsmAction {
  return startTimer("keepalive", seconds, seconds > 1);
}

/** For a machine that may connect; a passive one waits without limit. */
export function startConnectRetry(settings: FsmSettings, seconds: number = settings.connectRetryTime): FsmAction[] {
  return settings.passive ? [] : [startTimer("connectRetry", seconds, true)];
}

/** The TCP connection stands: events 16 and 17. */
export function sendOpen(fsm: Fsm, reason: string): Transition {
  return to(fsm, "OpenSent", reason, [
    { type: "StopTimer", timer: "connectRetry" },
    { type: "SendOpen" },
    startTimer("hold", LARGE_HOLD_TIME),
  ]);
}

export interface Closing {
  reason: string;
  cause: DownCause;
  /** ConnectRetryCounter. */
  counter: "clear" | "increment" | "keep";
  /** To be sent, or received. */
  notification?: NotificationMessage & { direction: "sent" | "received" };
  offending?: Uint8Array;
}

/** Every way into Idle: all timers stop, the connection goes, the reason stays. */
export function close(fsm: Fsm, closing: Closing): Transition {
  const { reason: text, notification, offending, cause } = closing;
  const counters = { clear: 0, increment: fsm.connectRetryCounter + 1, keep: fsm.connectRetryCounter };
  const toSend = notification?.direction === "sent" ? plain(notification) : undefined;
  return [
    { ...fsm, state: "Idle", reason: text, holdTime: 0, keepaliveTime: 0, connectRetryCounter: counters[closing.counter] },
    [
      ...timers.map(timer => ({ type: "StopTimer", timer }) as const),
      toSend ? { type: "Disconnect", notification: toSend } : { type: "Disconnect" },
      {
        type: "Down",
        cause,
        wasEstablished: fsm.state === "Established",
        reason: { text, ...(notification && { notification }), ...(offending && { offending }) },
      },
    ],
  ];
}

export function closeWithViolation(fsm: Fsm, { error, offending }: Violation): Transition {
  const notification = { code: error.code, subcode: error.subcode, data: error.data, direction: "sent" } as const;
  const reason = `sent ${describeNotification(notification)}: ${error.message}`;
  return close(fsm, { reason, cause: causeOf(notification), counter: "increment", notification, offending });
}

/** Events 24 and 25: the neighbour closes too, so nothing is sent (RFC 4271 section 6.4). */
export function closeAfterNotification(fsm: Fsm, event: Extract<FsmEvent, { type: "NotifMsg" | "NotifMsgVerErr" }>): Transition {
  return close(fsm, {
    reason: `neighbour sent ${event.text}`,
    cause: causeOf(event.notification),
    counter: event.type === "NotifMsg" ? "increment" : "keep",
    notification: { ...event.notification, direction: "received" },
  });
}

/** Events 2 and 8. */
export function closeOnStop(fsm: Fsm, event: Extract<FsmEvent, { type: "ManualStop" | "AutomaticStop" }>, tell: boolean): Transition {
  return close(fsm, {
    reason: event.reason,
    cause: "stop",
    counter: event.type === "ManualStop" ? "clear" : "increment",
    ...(tell && { notification: { ...event.notification, direction: "sent" } }),
  });
}

/** Event 23: Cease/Connection Collision Resolution (RFC 4486). */
export function closeAfterCollision(fsm: Fsm, reason: string): Transition {
  const notification = { code: ErrorCode.Cease, subcode: 7, data: new Uint8Array(), direction: "sent" } as const;
  return close(fsm, { reason, cause: "collision", counter: "increment", notification });
}

export function closeOnHoldTimer(fsm: Fsm, reason: string): Transition {
  const notification = { code: ErrorCode.HoldTimerExpired, subcode: 0, data: new Uint8Array(), direction: "sent" } as const;
  return close(fsm, { reason, cause: "ended", counter: "increment", notification });
}

/** "Any other event" of OpenSent, OpenConfirm and Established; subcode and data, the message's type, are RFC 6608's for a message; 0 and none for a timer. */
export function closeUnexpected(fsm: Fsm, event: FsmEvent, subcode: number): Transition {
  const message = messages[event.type];
  const data = message ? Uint8Array.of(message.type) : new Uint8Array();
  const notification = { code: ErrorCode.StateMachine, subcode: message ? subcode : 0, data, direction: "sent" } as const;
  const reason = message ? `unexpected ${message.name} in ${fsm.state}` : `event ${event.type} cannot happen in ${fsm.state}`;
  return close(fsm, {
    reason,
    cause: "protocol",
    counter: "increment",
    notification,
    offending: "message" in event ? event.message.slice(0, 4096) : "offending" in event ? event.offending : undefined,
  });
}

const timers: readonly FsmTimer[] = ["connectRetry", "hold", "keepalive", "sendHold"];

const open = { name: "OPEN", type: MessageType.Open };
const update = { name: "UPDATE", type: MessageType.Update };

const messages: Partial<Record<FsmEvent["type"], { name: string; type: number }>> = {
  BgpOpen: open,
  BgpOpenMsgErr: open,
  KeepAliveMsg: { name: "KEEPALIVE", type: MessageType.Keepalive },
  UpdateMsg: update,
  UpdateMsgErr: update,
  RouteRefreshMsg: { name: "ROUTE-REFRESH", type: MessageType.RouteRefresh },
};

/** Cease and an expired timer are not the protocol's fault: they are not damped. */
function causeOf(notification: NotificationMessage): DownCause {
  switch (notification.code) {
    case ErrorCode.Cease:
      return notification.subcode === 7 ? "collision" : "ended";
    case ErrorCode.HoldTimerExpired:
    case ErrorCode.SendHoldTimerExpired:
      return "ended";
    default:
      return "protocol";
  }
}

function plain({ code, subcode, data }: NotificationMessage): NotificationMessage {
  return { code, subcode, data };
}
