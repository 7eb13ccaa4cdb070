import { describe, expect, test } from "vitest";
import type { Problem } from "../../config/plan.ts";
import { nodeStateStatus } from "../../config/resources/node-state.ts";
import { validate } from "../../config/resources/validate.ts";
import { conditionsOf } from "../../kubernetes/conditions.ts";
import { detailOf, essenceOf, type NodeReport, nodeStateOf } from "./node-state.ts";
import { down, neighbor, nodeReport } from "./testing.ts";

const faultsOf = (report: NodeReport) => {
  const found = nodeStateOf(report);
  return validate(nodeStateStatus, { ...found, conditions: conditionsOf(found.conditions, undefined, 0, 1) }).faults;
};

describe("a NodeState", () => {
  test("has what operators ask first", () => {
    const state = nodeStateOf(nodeReport([neighbor("tor-a"), neighbor("tor-b", down), neighbor("old", { ...down, shutdown: true })]));
    expect(state).toMatchObject({
      version: "1.2.3",
      asn: 64512,
      routerID: "192.0.2.2",
      summary: { sessions: "1/2", established: 1, wanted: 2, routes: 8, errors: 0 },
      learned: { ipv4: 5, ipv6: 3, installed: 8 },
    });
    expect(state.sessions?.map(({ name, state, reason, since }) => [name, state, reason, since])).toEqual([
      ["tor-a", "Established", "received KEEPALIVE", "2026-01-01T00:00:00.000Z"],
      ["tor-b", "Active", "hold timer expired", "2026-01-01T00:05:00.000Z"],
      ["old", "Active", "hold timer expired", "2026-01-01T00:05:00.000Z"],
    ]);
    expect(state.conditions.map(({ type, status, reason }) => [type, status, reason])).toEqual([
      ["Ready", "True", "ServesPods"],
      ["SessionsEstablished", "False", "SessionsDown"],
      ["RoutesProgrammed", "True", "Programmed"],
    ]);
    expect(state.conditions[1].message).toBe("1 of 2 are established; not tor-b");
  });

  test("says why it is not ready, and what is not in the kernel", () => {
    const missing: Problem = {
      ...{ severity: "error", reason: "KernelRoutesMissing", object: "speaker", field: "fib" },
      ...{ message: "2 routes are not in the kernel", remedy: "see" },
    };
    const { conditions } = nodeStateOf(nodeReport([], { ready: false, problems: [missing] }));
    expect(conditions[0]).toMatchObject({ status: "False", message: "all 2 sessions are gone for more than 60 s" });
    expect(conditions[1]).toMatchObject({ status: "True", reason: "NoneWanted" });
    expect(conditions[2]).toMatchObject({ status: "False", reason: "KernelRoutesMissing", message: missing.message });
  });

  test("follows its schema, however much there is to say", () => {
    const long = "😀".repeat(5000);
    const problem: Problem = { severity: "warning", reason: "NoEffect", object: long, field: long, message: long, remedy: long };
    const many = Array.from({ length: 2000 }, (_, i) =>
      neighbor(`${i}-${long}`, { source: long, address: `fe80::${long}`, interface: long, reason: long, lastDown: { at: "", text: long } }),
    );
    const problems = Array.from({ length: 200 }, (_, i): Problem => ({ ...problem, severity: i === 199 ? "error" : "warning" }));
    const report = nodeReport([...many, neighbor("last", down)], { problems });
    expect(faultsOf(report)).toEqual([]);
    const state = nodeStateOf(report);
    expect([state.sessions?.length, state.problems?.length]).toEqual([512, 64]);
    // Those that are down, and errors, are told first.
    expect(state.sessions?.[0].name).toBe("last");
    expect(state.problems?.[0].severity).toBe("error");
    expect(faultsOf(nodeReport([]))).toEqual([]);
  });

  test("is another one when a session is lost, not when it counts or tries again", () => {
    const of = (...neighbors: Parameters<typeof nodeReport>[0]) => nodeStateOf(nodeReport(neighbors));
    const families = { "ipv4-unicast": { received: 9, accepted: 9, rejected: 0, sent: 9, endOfRib: true, prefixLimit: 1000 } };
    const [up, counted, lost] = [of(neighbor("a")), of(neighbor("a", { families })), of(neighbor("a", down))];
    const tries = of(neighbor("a", { ...down, state: "Connect", reason: "connecting", since: "2026-01-01T00:10:00.000Z" }));
    expect(essenceOf(counted)).toBe(essenceOf(up));
    expect(detailOf(counted)).not.toBe(detailOf(up));
    expect(essenceOf(lost)).not.toBe(essenceOf(up));
    expect(essenceOf(tries)).toBe(essenceOf(lost));
    expect(detailOf(tries)).toBe(detailOf(lost));
  });
});
