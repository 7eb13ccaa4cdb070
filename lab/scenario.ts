/**
 * Scenarios: a topology is hurt on purpose while packets run and every change of its kernel tables is watched. The same steps serve the
 * demonstration (`npm run lab -- --chaos`) and the tests; all figures are measured, none is assumed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import { awaitCondition, UnmetError } from "./check.ts";
import type { Lab, Progress } from "./engine/lab.ts";
import { until } from "./engine/system.ts";
import { type StreamPair, type StreamResult, startStream } from "./probe/stream.ts";
import type { Scenario } from "./topology/schema.ts";
import { type Action, actionsOf, type machineActions } from "./topology/steps.ts";

export interface ScenarioResult {
  name: string;
  /** What each step was and how long it took; an await counts from the action before it, to the 50 ms in which we look. */
  steps: { text: string; milliseconds: number }[];
  streams: StreamResult[];
  /** What the streams lost, by the action that came before it, in the order of the actions: also where it was nothing. */
  losses: Loss[];
  /** Kernel routes to pod subnets that went away on a machine, at any moment. */
  withdrawals: { machine: string; text: string }[];
  /** Empty: as expected. */
  problems: string[];
}

export interface Loss {
  /** The action, as in `steps`. */
  after: string;
  family: 4 | 6;
  lost: number;
  /** Streams of this family that lost something, and how many there are. */
  hit: number;
  of: number;
  /** Milliseconds without any answer, in the stream that fared worst. */
  longestGap: number;
}

/** Something that the scenario did, and when: milliseconds since the epoch. */
interface Deed {
  text: string;
  at: number;
}

export async function runScenario(lab: Lab, scenario: Scenario, progress: Progress, abort?: AbortSignal): Promise<ScenarioResult> {
  const result: ScenarioResult = { name: scenario.name, steps: [], streams: [], losses: [], withdrawals: [], problems: [] };
  const actions: Deed[] = [];
  const monitors = await Promise.all((scenario.expect?.undisturbed ?? []).map(name => watchRoutes(lab, name)));
  const interval = scenario.ping?.interval ?? 20;
  const started = await Promise.allSettled(streamPairs(lab, scenario).map(pair => startStream(pair, interval)));
  const streams = started.flatMap(each => (each.status === "fulfilled" ? [each.value] : []));
  for (const each of started) if (each.status === "rejected") result.problems.push((each.reason as Error).message);
  try {
    // What is awaited is measured from the beginning of the action that brings it about, not from when we begin to look.
    let cause = performance.now();
    for (const action of scenario.steps.flatMap(actionsOf)) {
      const begin = performance.now();
      if (action.does !== "await") cause = begin;
      const text = describeAction(action);
      if ("machine" in action) actions.push({ text, at: Date.now() });
      const milliseconds = await progress.step(text, async detail => {
        await perform(lab, action, abort);
        const measured = performance.now() - (action.does === "await" ? cause : begin);
        const name = action.does === "await" && action.measure ? `${action.measure}: ` : "";
        if (!("machine" in action)) detail(`${name}${Math.round(measured)} ms`);
        return measured;
      });
      result.steps.push({ text, milliseconds });
    }
  } catch (error) {
    if (!(error instanceof UnmetError)) throw error;
    result.problems.push(error.message);
  } finally {
    result.streams = await Promise.all(streams.map(stream => stream.stop()));
    for (const monitor of monitors) result.withdrawals.push(...(await monitor.stop()));
  }
  result.losses = lossesByAction(result.streams, actions);
  result.problems.push(...judge(scenario, result));
  return result;
}

/** A gap belongs to the last action before its first packet was missed: what a switch costs when it dies is one thing, its return another. */
export function lossesByAction(streams: StreamResult[], actions: Deed[]): Loss[] {
  const losses: Loss[] = [];
  for (const [index, { text, at }] of [{ text: "before all", at: 0 }, ...actions].entries()) {
    const until = actions[index]?.at ?? Number.POSITIVE_INFINITY;
    for (const family of [4, 6] as const) {
      const own = streams.filter(stream => stream.address.includes(":") === (family === 6));
      const gaps = own.map(stream => stream.gaps.filter(gap => gap.at >= at && gap.at < until));
      const all = gaps.flat();
      if (own.length === 0 || (index === 0 && all.length === 0)) continue;
      losses.push({
        after: text,
        family,
        lost: all.reduce((sum, gap) => sum + gap.lost, 0),
        hit: gaps.filter(each => each.length > 0).length,
        of: own.length,
        longestGap: all.reduce((longest, gap) => Math.max(longest, gap.duration), 0),
      });
    }
  }
  return losses;
}

function judge(scenario: Scenario, result: ScenarioResult): string[] {
  const problems: string[] = [];
  const { lost, outage } = scenario.expect ?? {};
  const total = result.streams.reduce((sum, stream) => sum + stream.lost, 0);
  if (lost !== undefined && total > lost) {
    const worst = result.streams
      .filter(stream => stream.lost > 0)
      .map(stream => `${stream.from} to ${stream.to} ${stream.address}: ${stream.lost}`);
    problems.push(`${total} packets were lost, at most ${lost} may be (${worst.join(", ")})`);
  }
  for (const { after, family, longestGap } of result.losses) {
    if (outage === undefined || longestGap <= outage) continue;
    problems.push(`after "${after}" a stream of IPv${family} was dead for ${longestGap} ms, at most ${outage} ms are allowed`);
  }
  for (const { machine, text } of result.withdrawals) problems.push(`${machine} withdrew a route: ${text}`);
  return problems;
}

/** Every pod named on one side, directly or by its node, to every one of the other, in each family that both have. */
function streamPairs(lab: Lab, scenario: Scenario): StreamPair[] {
  const pods = (names: string[]) => lab.plan.pods.filter(pod => names.includes(pod.name) || names.includes(pod.node));
  return pods(scenario.ping?.from ?? []).flatMap(from =>
    pods(scenario.ping?.to ?? [])
      .filter(to => to !== from)
      .flatMap(to =>
        lab.addressPairs(from.name, to.name).map(({ address }) => ({ from: from.name, to: to.name, namespace: from.namespace, address })),
      ),
  );
}

const verbs: Record<(typeof machineActions)[number], string> = {
  kill: "kill -9",
  stop: "stop",
  start: "start",
  powerOff: "cut the power of",
  powerOn: "restore the power of",
};

function describeAction(action: Action): string {
  switch (action.does) {
    case "await": {
      const machines = new Set(Object.values(action.condition).flatMap(part => Object.keys(part)));
      return `await ${Object.keys(action.condition).join(" and ")} on ${[...machines].join(", ")}`;
    }
    case "observe":
      return `watch for ${action.duration} s`;
    default:
      return `${verbs[action.does]} ${action.machine}`;
  }
}

function perform(lab: Lab, action: Action, abort?: AbortSignal): Promise<unknown> {
  switch (action.does) {
    case "kill":
      return lab.end(lab.machine(action.machine), "SIGKILL");
    case "stop":
      return lab.end(lab.machine(action.machine), "SIGTERM");
    case "start":
      return lab.start(lab.machine(action.machine), abort);
    case "powerOff":
      return lab.powerOff(lab.machine(action.machine));
    case "powerOn":
      return lab.powerOn(lab.machine(action.machine));
    case "observe":
      return until(() => false, action.duration * 1000, 100, abort);
    case "await":
      return awaitCondition(lab, action.condition, action.within, { interval: 50, abort });
  }
}

/** Follows `ip monitor route` of a machine; stop() tells which routes to pod subnets were deleted meanwhile. */
async function watchRoutes(lab: Lab, name: string): Promise<{ stop(): Promise<{ machine: string; text: string }[]> }> {
  const subnets = new Set(Object.values(lab.plan.podSubnets).flat());
  const child: ChildProcess = spawn("ip", ["-n", lab.namespace(name), "-o", "monitor", "route"], { stdio: ["ignore", "pipe", "ignore"] });
  const ended = new Promise<void>(resolve => child.on("close", () => resolve()));
  child.on("error", () => {});
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString("latin1");
  });
  // What happens before its socket is open would go unseen.
  if (!(await until(() => hasSocket(child.pid), 5000, 5))) throw new Error(`\`ip monitor route\` does not start for ${name}`);
  return {
    async stop() {
      child.kill("SIGTERM");
      await ended;
      return deletedRoutes(output, subnets).map(text => ({ machine: name, text }));
    },
  };
}

function hasSocket(pid: number | undefined): boolean {
  try {
    const fds = readdirSync(`/proc/${pid}/fd`);
    return fds.some(fd => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("socket:"));
  } catch {
    return false;
  }
}

/** Lines of `ip -o monitor route` that delete a route to one of the subnets. */
export function deletedRoutes(output: string, subnets: ReadonlySet<string>): string[] {
  return output
    .split("\n")
    .filter(line => line.startsWith("Deleted "))
    .filter(line => line.split(/\s+/).some(word => subnets.has(word)))
    .map(line => line.trim());
}
