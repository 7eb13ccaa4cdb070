/** State Idle (RFC 4271 section 8.2.2): no connection, no timer; only a start leads out. */
import { startConnectRetry, stay, to } from "./transitions.ts";
import type { Fsm, FsmEvent, Transition } from "./types.ts";

export function idle(fsm: Fsm, event: FsmEvent): Transition {
  switch (event.type) {
    case "ManualStart":
    case "AutomaticStart":
      if (fsm.settings.passive) return to(cleared(fsm), "Active", event.reason, []);
      return to(cleared(fsm), "Connect", event.reason, [...startConnectRetry(fsm.settings), { type: "Connect" }]);
    case "ManualStartPassive":
      return to(cleared(fsm), "Active", event.reason, startConnectRetry(fsm.settings));
    case "AutomaticStartPassive":
      return to(cleared(fsm), "Active", event.reason, startConnectRetry(fsm.settings, event.connectRetry));
    default:
      return stay(fsm);
  }
}

function cleared(fsm: Fsm): Fsm {
  return { ...fsm, connectRetryCounter: 0 };
}
