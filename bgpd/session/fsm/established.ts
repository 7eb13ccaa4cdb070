/** State Established (RFC 4271 section 8.2.2, send hold timer of RFC 9687): the only one in which routes are exchanged. */
import { ErrorCode, StateMachineSubcode } from "../../message/notification.ts";
import { keepalive } from "./open-confirm.ts";
import {
  close,
  closeAfterCollision,
  closeAfterNotification,
  closeOnHoldTimer,
  closeOnStop,
  closeUnexpected,
  closeWithViolation,
  sendHoldTime,
  startTimer,
  stay,
} from "./transitions.ts";
import type { Fsm, FsmAction, FsmEvent, Transition } from "./types.ts";

export function established(fsm: Fsm, event: FsmEvent): Transition {
  switch (event.type) {
    case "UpdateMsg":
      return stay(fsm, [{ type: "DeliverUpdate", message: event.message }, ...rearmHold(fsm)]);
    case "RouteRefreshMsg":
      return stay(fsm, [{ type: "DeliverRouteRefresh", message: event.message }, ...rearmHold(fsm)]);
    case "KeepAliveMsg":
      return stay(fsm, rearmHold(fsm));
    case "SendProgress":
      return stay(fsm, fsm.holdTime > 0 ? [startTimer("sendHold", sendHoldTime(fsm.holdTime))] : []);
    case "KeepaliveTimerExpires":
      return stay(fsm, keepalive(fsm));
    case "ManualStart":
    case "AutomaticStart":
    case "ManualStartPassive":
    case "AutomaticStartPassive":
    case "TcpConnectionAcked":
    case "TcpConnectionConfirmed":
      return stay(fsm);
    default:
      return leave(fsm, event);
  }
}

function leave(fsm: Fsm, event: FsmEvent): Transition {
  switch (event.type) {
    case "ManualStop":
    case "AutomaticStop":
      return closeOnStop(fsm, event, true);
    case "HoldTimerExpires":
      return closeOnHoldTimer(fsm, `hold timer expired: nothing received for ${fsm.holdTime} s`);
    case "SendHoldTimerExpires":
      return close(fsm, {
        reason: `send hold timer expired: the neighbour took nothing for ${sendHoldTime(fsm.holdTime)} s`,
        cause: "ended",
        counter: "increment",
        notification: { code: ErrorCode.SendHoldTimerExpired, subcode: 0, data: new Uint8Array(), direction: "sent" },
      });
    case "TcpConnectionFails":
      return close(fsm, { reason: event.reason, cause: "transport", counter: "increment" });
    case "NotifMsg":
    case "NotifMsgVerErr":
      return closeAfterNotification(fsm, event);
    case "BgpHeaderErr":
      // RFC 4271 puts event 21 under "any other event", an FSM error; section 6.1 demands the Message Header Error.
      return closeWithViolation(fsm, event);
    case "UpdateMsgErr":
      return closeWithViolation(fsm, event);
    case "OpenCollisionDump":
      return closeAfterCollision(fsm, event.reason);
    default:
      return closeUnexpected(fsm, event, StateMachineSubcode.InEstablished);
  }
}

function rearmHold(fsm: Fsm): FsmAction[] {
  return fsm.holdTime > 0 ? [startTimer("hold", fsm.holdTime)] : [];
}
