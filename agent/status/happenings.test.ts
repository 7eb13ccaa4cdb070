import { describe, expect, test } from "vitest";
import type { EventView } from "../api/views.ts";
import { Happenings } from "./happenings.ts";

const uids = { Node: "uid-n", NodeState: "uid-s" };

describe("of the agent's events", () => {
  const told = (...events: Omit<EventView, "at" | "text">[]) => {
    const happenings = new Happenings("n1");
    return events.map(event => happenings.of({ at: "", text: "text", ...event } as EventView, uids)?.reason);
  };
  const session = (state: string) => ({ type: "neighbor", neighbor: "a", state, reason: "hold timer expired" });
  const serving = (ready: boolean) => ({ type: "serving", ready });

  test("a session is told when it is lost and when it is back, not when it comes up or tries", () => {
    const states = ["Idle", "Connect", "Established", "Idle", "Active", "OpenSent", "Established", "Established"];
    const reasons = told(...states.map(session));
    expect(reasons).toEqual([undefined, undefined, undefined, "SessionLost", undefined, undefined, "SessionEstablished", undefined]);
  });

  test("an error is told, but for a session that is down, which was told when it was lost", () => {
    const problem = (severity: string, reason: string) => ({ type: "problem", severity, reason, object: "speaker", field: "fib" });
    const all = [problem("error", "KernelRoutesMissing"), problem("error", "SessionDown"), problem("warning", "NoEffect")];
    expect(told(...all)).toEqual(["KernelRoutesMissing", undefined, undefined]);
  });

  test("whether the node serves pods is told when it changes, not when an agent starts", () => {
    expect(told(serving(true), serving(false), serving(true))).toEqual([undefined, "PodNetworkNotReady", "PodNetworkReady"]);
    expect(told({ type: "plan" }, { type: "mended" })).toEqual([undefined, undefined]);
  });

  test("each names its object", () => {
    const happenings = new Happenings("n1");
    happenings.of({ at: "", text: "", ...serving(false) }, uids);
    expect(happenings.of({ at: "", text: "", ...serving(true) }, uids)?.regarding).toEqual({
      apiVersion: "v1",
      kind: "Node",
      name: "n1",
      uid: "uid-n",
    });
    const lost = { at: "", text: "", type: "problem", severity: "error", reason: "InternalError" };
    expect(happenings.of(lost, { Node: undefined, NodeState: undefined })?.regarding).toEqual({
      apiVersion: "podlane.io/v1alpha1",
      kind: "NodeState",
      name: "n1",
    });
  });
});
