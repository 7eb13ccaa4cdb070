/** What must be true, asked of the running lab: each unmet part in words, so that a time-out says exactly what is missing. */

import { agentLog } from "./engine/agents.ts";
import type { KernelRoute, Lab } from "./engine/lab.ts";
import { routerFolder } from "./engine/routers.ts";
import type { MachinePlan } from "./topology/plan.ts";
import type { Condition } from "./topology/schema.ts";

/** Everything of the condition that does not hold now; empty: it holds. Parts that cannot be asked are unmet, with the reason. */
export async function unmet(lab: Lab, condition: Condition): Promise<string[]> {
  const names = Object.keys(condition) as (keyof Condition)[];
  return (await Promise.all(names.map(name => unmetPart(lab, name, (condition[name] ?? {}) as Record<string, never>)))).flat();
}

async function unmetPart<Name extends keyof Wanted>(lab: Lab, part: Name, wanted: Record<string, Wanted[Name]>): Promise<string[]> {
  const answers = Object.entries(wanted).map(async ([name, value]) => {
    try {
      return await parts[part](lab, lab.machine(name), value);
    } catch (error) {
      return [`${name} cannot be asked: ${(error as Error).message}`];
    }
  });
  return (await Promise.all(answers)).flat();
}

/** What each part of a condition says of one machine. */
type Wanted = { [Name in keyof Condition]-?: NonNullable<Condition[Name]>[string] };

/** By the part's name in a topology: what does not hold on one machine. One that the schema has and this table lacks does not compile. */
const parts: { [Name in keyof Wanted]: (lab: Lab, machine: MachinePlan, wanted: Wanted[Name]) => Promise<string[]> } = {
  sessions: async (lab, machine, wanted) => unmetSessions(machine.name, await lab.sessions(machine), wanted),
  routes: async (lab, machine, wanted) => {
    const known = new Set((await lab.paths(machine)).map(path => path.prefix));
    return wanted.filter(prefix => !known.has(prefix)).map(prefix => `${machine.name} has no BGP route to ${prefix}`);
  },
  noRoutes: async (lab, machine, wanted) => {
    const known = new Set((await lab.paths(machine)).map(path => path.prefix));
    return wanted.filter(prefix => known.has(prefix)).map(prefix => `${machine.name} still has a BGP route to ${prefix}`);
  },
  kernel: async (lab, machine, wanted) => {
    const routes = await lab.kernelRoutes(machine);
    return wanted.flatMap(route => unmetRoute(machine.name, routes, route));
  },
  noKernel: async (lab, machine, wanted) => {
    const known = new Set((await lab.kernelRoutes(machine)).map(({ prefix }) => prefix));
    return wanted.filter(prefix => known.has(prefix)).map(prefix => `${machine.name}'s kernel still has a route to ${prefix}`);
  },
};

function unmetSessions(
  name: string,
  sessions: { neighbor: string; address: string; state: string; reason?: string }[],
  expected: number,
): string[] {
  const established = sessions.filter(session => session.state === "Established").length;
  if (established === expected) return [];
  const others = sessions
    .filter(session => session.state !== "Established")
    .map(session => `${session.neighbor} ${session.address} ${session.state}${session.reason ? `: ${session.reason}` : ""}`);
  return [`${name} has ${established} established sessions, not ${expected}${others.length > 0 ? ` (${first(others, 4, "; ")})` : ""}`];
}

/** Routes of a dead link do not count: the kernel keeps them, and no packet takes them. */
function unmetRoute(name: string, routes: KernelRoute[], { prefix, via, paths, dev }: Wanted["kernel"][number]): string[] {
  const route = routes.find(each => each.prefix === prefix);
  if (route === undefined) return [`${name}'s kernel has no route to ${prefix}`];
  const hops = route.hops.filter(hop => !hop.down);
  const problems: string[] = [];
  if (paths !== undefined && hops.length !== paths)
    problems.push(`${name}'s kernel has ${hops.length} next hops to ${prefix}, not ${paths}`);
  const devices = [...new Set(hops.map(hop => hop.dev))];
  if (dev !== undefined && devices.join() !== dev)
    problems.push(`${name}'s kernel goes to ${prefix} by ${devices.join(", ")}, not by ${dev}`);
  const gateways = hops.map(hop => hop.via ?? hop.dev).sort();
  if (via !== undefined && gateways.join() !== [...via].sort().join()) {
    problems.push(`${name}'s kernel goes to ${prefix} via ${gateways.join(", ") || "nobody"}, not via ${via.join(", ")}`);
  }
  return problems;
}

/** No more than `limit` of them, and how many there are beyond. */
function first(texts: string[], limit: number, separator: string): string {
  const rest = texts.length - limit;
  return [...texts.slice(0, limit), ...(rest > 0 ? [`and ${rest} more`] : [])].join(separator);
}

/** A condition that did not come true in time. */
export class UnmetError extends Error {
  override readonly name = "UnmetError";
  readonly missing: string[];

  constructor(lab: Lab, missing: string[], seconds: number) {
    const logs = lab.plan.machines.map(machine =>
      machine.kind === "node" ? agentLog(lab.folder, machine.name) : `${routerFolder(lab.folder, machine.name)}/log`,
    );
    const list = missing.map(each => `  - ${each}`);
    super(`after ${seconds} s still missing:\n${first(list, 20, "\n")}\nlogs: ${first(logs, 8, " ")}`);
    this.missing = missing;
  }
}

export interface AwaitOptions {
  /** Milliseconds between two looks. */
  interval?: number;
  abort?: AbortSignal;
  /** Called with what is still missing. */
  onPending?: (missing: string[]) => void;
}

/** Resolves with the milliseconds it took. Throws UnmetError after `seconds`. */
export async function awaitCondition(lab: Lab, condition: Condition, seconds: number, options: AwaitOptions = {}): Promise<number> {
  const begin = performance.now();
  for (;;) {
    const missing = await unmet(lab, condition);
    const elapsed = performance.now() - begin;
    if (missing.length === 0) return elapsed;
    options.onPending?.(missing);
    options.abort?.throwIfAborted();
    if (elapsed >= seconds * 1000) throw new UnmetError(lab, missing, seconds);
    await new Promise(resolve => setTimeout(resolve, options.interval ?? 250));
  }
}
