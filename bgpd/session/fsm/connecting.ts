/** States Connect and Active (RFC 4271 section 8.2.2): they differ in whether a TCP connection of ours is under way. */
import { close, closeAfterNotification, closeOnStop, sendOpen, startConnectRetry, stay, to } from "./transitions.ts";
import type { Fsm, FsmEvent, Transition } from "./types.ts";

export function connect(fsm: Fsm, event: FsmEvent): Transition {
  if (event.type === "ConnectRetryTimerExpires") {
    const reason = `no answer to the TCP connection within ${fsm.settings.connectRetryTime} s; connecting again`;
    return [{ ...fsm, reason }, [{ type: "Disconnect" }, ...startConnectRetry(fsm.settings), { type: "Connect" }]];
  }
  return connectOrActive(fsm, event, "keep");
}

export function active(fsm: Fsm, event: FsmEvent): Transition {
  if (event.type === "ConnectRetryTimerExpires" && !fsm.settings.passive) {
    return to(fsm, "Connect", "connecting", [...startConnectRetry(fsm.settings), { type: "Connect" }]);
  }
  return connectOrActive(fsm, event, "increment");
}

/** `counterOnTcpFailure`: the one other difference; RFC 4271 counts a failure in Active only. */
function connectOrActive(fsm: Fsm, event: FsmEvent, counterOnTcpFailure: "keep" | "increment"): Transition {
  switch (event.type) {
    case "ManualStart":
    case "AutomaticStart":
    case "ManualStartPassive":
    case "AutomaticStartPassive":
    case "SendProgress":
      return stay(fsm);
    case "ManualStop":
    case "AutomaticStop":
      return closeOnStop(fsm, event, false);
    case "TcpConnectionAcked":
      return sendOpen(fsm, "TCP connected, OPEN sent");
    case "TcpConnectionConfirmed":
      return sendOpen(fsm, "TCP connection accepted, OPEN sent");
    case "TcpConnectionFails":
      return close(fsm, { reason: event.reason, cause: "transport", counter: counterOnTcpFailure });
    case "NotifMsgVerErr":
    case "NotifMsg":
      return closeAfterNotification(fsm, event);
    case "BgpHeaderErr":
    case "BgpOpenMsgErr":
      // SendNOTIFICATIONwithoutOPEN is not set.
      return close(fsm, { reason: event.error.message, cause: "protocol", counter: "increment", offending: event.offending });
    case "OpenCollisionDump":
      return close(fsm, { reason: event.reason, cause: "collision", counter: "increment" });
    default:
      return close(fsm, { reason: `event ${event.type} cannot happen in ${fsm.state}`, cause: "protocol", counter: "increment" });
  }
}
