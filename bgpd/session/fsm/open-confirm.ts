/** State OpenConfirm (RFC 4271 section 8.2.2): both OPENs are exchanged, the neighbour's KEEPALIVE has not come. */
import { StateMachineSubcode } from "../../message/notification.ts";
import {
  close,
  closeAfterCollision,
  closeAfterNotification,
  closeOnHoldTimer,
  closeOnStop,
  closeUnexpected,
  closeWithViolation,
  sendHoldTime,
  startKeepalive,
  startTimer,
  stay,
  to,
} from "./transitions.ts";
import type { Fsm, FsmAction, FsmEvent, Transition } from "./types.ts";

export function openConfirm(fsm: Fsm, event: FsmEvent): Transition {
  switch (event.type) {
    case "ManualStart":
    case "AutomaticStart":
    case "ManualStartPassive":
    case "AutomaticStartPassive":
    case "TcpConnectionAcked":
    case "TcpConnectionConfirmed":
    case "SendProgress":
      return stay(fsm);
    case "ManualStop":
    case "AutomaticStop":
      return closeOnStop(fsm, event, true);
    case "HoldTimerExpires":
      return closeOnHoldTimer(fsm, `hold timer expired: no KEEPALIVE within ${fsm.holdTime} s after the OPEN`);
    case "KeepaliveTimerExpires":
      return stay(fsm, keepalive(fsm));
    case "TcpConnectionFails":
      return close(fsm, { reason: event.reason, cause: "transport", counter: "increment" });
    case "NotifMsg":
    case "NotifMsgVerErr":
      return closeAfterNotification(fsm, event);
    case "BgpHeaderErr":
    case "BgpOpenMsgErr":
      return closeWithViolation(fsm, event);
    case "OpenCollisionDump":
      return closeAfterCollision(fsm, event.reason);
    case "KeepAliveMsg":
      return established(fsm);
    default:
      return closeUnexpected(fsm, event, StateMachineSubcode.InOpenConfirm);
  }
}

export function keepalive(fsm: Fsm): FsmAction[] {
  if (fsm.keepaliveTime === 0) return [];
  return [{ type: "SendKeepalive" }, startKeepalive(fsm.keepaliveTime)];
}

function established(fsm: Fsm): Transition {
  const actions: FsmAction[] = [];
  if (fsm.holdTime > 0) actions.push(startTimer("hold", fsm.holdTime), startTimer("sendHold", sendHoldTime(fsm.holdTime)));
  return to(fsm, "Established", "KEEPALIVE received: the session is up", [...actions, { type: "Established" }]);
}
