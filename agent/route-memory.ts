/**
 * On disk: the tables and protocol numbers under which routes of ours may be in the kernel, so that an agent with another configuration finds
 * what the one before it left there.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RoutePlace, RoutePlaces } from "../bgpd/platform.ts";
import type { Logger } from "../platform/log.ts";
import { replaceFile } from "./atomic-file.ts";
import { loadPlan, planPath } from "./saved-plan.ts";

/** `node`: absent where no plan is looked at, of whichever node it is. */
export function routeMemory(
  { node, stateDirectory }: { node?: string; stateDirectory: string },
  log: Pick<Logger, "warn" | "error">,
): RoutePlaces {
  const path = join(stateDirectory, "places.json");
  return {
    read() {
      try {
        return places(JSON.parse(readFileSync(path, "utf8")));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") log.warn({}, `${path} cannot be used: ${(error as Error).message}`);
        return node === undefined ? [] : ofPlan(node, stateDirectory);
      }
    },
    write(now) {
      try {
        replaceFile(path, JSON.stringify(now));
      } catch (error) {
        log.error({}, `${path} cannot be written: ${(error as Error).message}; a later agent may leave kernel routes behind`);
      }
    },
  };
}

function places(value: unknown): RoutePlace[] {
  const isNumber = (one: unknown) => Number.isInteger(one) && (one as number) > 0 && (one as number) < 2 ** 32;
  if (!Array.isArray(value) || !value.every(one => isNumber(one?.table) && isNumber(one?.protocol))) throw new Error("it lists no places");
  return value.map(({ table, protocol }) => ({ table, protocol }));
}

/** An agent that wrote no such file wrote routes by its last plan. */
function ofPlan(node: string, stateDirectory: string): RoutePlace[] {
  try {
    const fib = loadPlan(planPath(stateDirectory), node)?.plan.speaker?.fib;
    return fib?.enabled ? [{ table: fib.table, protocol: fib.protocol }] : [];
  } catch {
    // What is wrong with the plan is told where it is used.
    return [];
  }
}
