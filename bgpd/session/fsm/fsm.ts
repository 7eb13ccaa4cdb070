/**
 * The state machine of one TCP connection to one neighbour: `(state, event) -> [state, actions]` (RFC 4271 section 8.2.2, RFC 6608,
 * RFC 9687). A neighbour has one for the connection it opens and one for each it accepts; ../neighbor.ts decides between them.
 */
import type { SessionState } from "../types.ts";
import { active, connect } from "./connecting.ts";
import { established } from "./established.ts";
import { idle } from "./idle.ts";
import { openConfirm } from "./open-confirm.ts";
import { openSent } from "./open-sent.ts";
import type { Fsm, FsmEvent, FsmSettings, Transition } from "./types.ts";

export function createFsm(settings: FsmSettings, reason = "not started"): Fsm {
  return { settings, state: "Idle", reason, connectRetryCounter: 0, holdTime: 0, keepaliveTime: 0 };
}

/** Pure. Accepts every event in every state. */
export function transition(fsm: Fsm, event: FsmEvent): Transition {
  return states[fsm.state](fsm, event);
}

const states: Record<SessionState, (fsm: Fsm, event: FsmEvent) => Transition> = {
  Idle: idle,
  Connect: connect,
  Active: active,
  OpenSent: openSent,
  OpenConfirm: openConfirm,
  Established: established,
};
