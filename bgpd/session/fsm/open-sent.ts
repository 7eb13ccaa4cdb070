/** State OpenSent (RFC 4271 section 8.2.2): our OPEN is out, the neighbour's has not come. */
import { StateMachineSubcode } from "../../message/notification.ts";
import {
  closeAfterCollision,
  closeAfterNotification,
  closeOnHoldTimer,
  closeOnStop,
  closeUnexpected,
  closeWithViolation,
  LARGE_HOLD_TIME,
  startConnectRetry,
  startKeepalive,
  startTimer,
  stay,
} from "./transitions.ts";
import type { Fsm, FsmAction, FsmEvent, Transition } from "./types.ts";

export function openSent(fsm: Fsm, event: FsmEvent): Transition {
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
      return closeOnHoldTimer(fsm, `hold timer expired: no OPEN within ${LARGE_HOLD_TIME} s`);
    case "TcpConnectionFails":
      return backToActive(fsm, event.reason);
    case "BgpOpen":
      return opened(fsm, event);
    case "BgpHeaderErr":
    case "BgpOpenMsgErr":
      return closeWithViolation(fsm, event);
    case "OpenCollisionDump":
      return closeAfterCollision(fsm, event.reason);
    case "NotifMsgVerErr":
    case "NotifMsg":
      // RFC 4271 puts event 25 under "any other event", an FSM error; section 6.4 forbids to answer a NOTIFICATION by one.
      return closeAfterNotification(fsm, event);
    default:
      return closeUnexpected(fsm, event, StateMachineSubcode.InOpenSent);
  }
}

/** Event 18 alone does not lead to Idle here: the machine goes on listening and tries again when the ConnectRetryTimer expires. */
function backToActive(fsm: Fsm, reason: string): Transition {
  return [
    { ...fsm, state: "Active", reason },
    [
      { type: "StopTimer", timer: "hold" },
      { type: "Disconnect" },
      ...startConnectRetry(fsm.settings),
      { type: "Down", cause: "transport", reason: { text: reason }, wasEstablished: false },
    ],
  ];
}

function opened(fsm: Fsm, { holdTime, keepaliveTime }: Extract<FsmEvent, { type: "BgpOpen" }>): Transition {
  const actions: FsmAction[] = [{ type: "StopTimer", timer: "connectRetry" }, { type: "SendKeepalive" }];
  const keepalive = holdTime > 0 ? keepaliveTime : 0;
  if (keepalive > 0) actions.push(startKeepalive(keepalive));
  actions.push(holdTime > 0 ? startTimer("hold", holdTime) : { type: "StopTimer", timer: "hold" });
  const reason = "OPEN received and accepted, KEEPALIVE sent";
  return [{ ...fsm, state: "OpenConfirm", reason, holdTime, keepaliveTime: keepalive }, actions];
}
