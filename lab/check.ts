/** What must be true, asked of the running lab: each unmet part in words, so that a time-out says exactly what is missing. */

import { agentLog } from "./engine/agents.ts";
import type { KernelRoute, Lab } from "./engine/lab.ts";
import { routerFolder } from "./engine/routers.ts";
import type { MachinePlan } from "./topology/plan.ts";
import type { Condition } from "./topology/schema.ts";

/** Everything of the condition that does not hold now; empty: it holds. Parts that cannot be asked are unmet, with the reason. */
export async function unmet(lab: Lab, condition: Condition): Promise<string[]> {
  const names = new Set([
    ...Object.keys(condition.sessions ?? {}),
    ...Object.keys(condition.routes ?? {}),
    ...Object.keys(condition.noRoutes ?? {}),
    ...Object.keys(condition.kernel ?? {}),
    ...Object.keys(condition.noKernel ?? {}),
  ]);
  const found = await Promise.all([...names].map(name => unmetOn(lab, lab.machine(name), condition)));
  return found.flat();
}

async function unmetOn(lab: Lab, machine: MachinePlan, condition: Condition): Promise<string[]> {
  const { name } = machine;
  const parts: Promise<string[]>[] = [];
  const expected = condition.sessions?.[name];
  if (expected !== undefined) parts.push(lab.sessions(machine).then(sessions => unmetSessions(name, sessions, expected)));
  const present = condition.routes?.[name] ?? [];
  const absent = condition.noRoutes?.[name] ?? [];
  if (present.length + absent.length > 0) {
    parts.push(
      lab.paths(machine).then(paths => {
        const known = new Set(paths.map(path => path.prefix));
        return [
          ...present.filter(prefix => !known.has(prefix)).map(prefix => `${name} has no BGP route to ${prefix}`),
          ...absent.filter(prefix => known.has(prefix)).map(prefix => `${name} still has a BGP route to ${prefix}`),
        ];
      }),
    );
  }
  const kernel = condition.kernel?.[name] ?? [];
  const noKernel = condition.noKernel?.[name] ?? [];
  if (kernel.length + noKernel.length > 0) {
    parts.push(
      lab
        .kernelRoutes(machine)
        .then(routes => [
          ...kernel.flatMap(({ prefix, via, paths }) => unmetRoute(name, routes, prefix, via, paths)),
          ...noKernel
            .filter(prefix => routes.some(route => route.prefix === prefix))
            .map(prefix => `${name}'s kernel still has a route to ${prefix}`),
        ]),
    );
  }
  const answers = await Promise.allSettled(parts);
  return answers.flatMap(answer =>
    answer.status === "fulfilled" ? answer.value : [`${name} cannot be asked: ${(answer.reason as Error).message}`],
  );
}

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
function unmetRoute(name: string, routes: KernelRoute[], prefix: string, via: string[] | undefined, paths: number | undefined): string[] {
  const route = routes.find(each => each.prefix === prefix);
  if (route === undefined) return [`${name}'s kernel has no route to ${prefix}`];
  const hops = route.hops.filter(hop => !hop.down);
  const problems: string[] = [];
  if (paths !== undefined && hops.length !== paths)
    problems.push(`${name}'s kernel has ${hops.length} next hops to ${prefix}, not ${paths}`);
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
