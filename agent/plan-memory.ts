/** What the plan on the disk remembers over a restart: what was good, who had which ranges, and whether this node had a part in BGP. */
import { type LastGood, nothingGood } from "../config/compile/memory.ts";
import { rangesOf } from "../config/compile/origins.ts";
import type { NodeFacts, NodePlan } from "../config/plan.ts";
import type { AnyResource } from "../config/resources/kinds.ts";
import type { Logger } from "../platform/log.ts";
import { loadPlan, planPath, type SavedPlan, savePlan } from "./saved-plan.ts";

/** Nodes that are gone whose pod subnets are remembered. */
const MAX_GONE = 100;

export class PlanMemory {
  readonly #path: string;
  readonly #node: string;
  readonly #log: Logger;
  /** NodeFacts.rangesBefore, with nodes that are gone: who comes back has pods with addresses of its former subnet. */
  #ranges: NonNullable<NodeFacts["rangesBefore"]> = {};

  constructor({ stateDirectory, node }: { stateDirectory: string; node: string }, log: Logger) {
    this.#path = planPath(stateDirectory);
    this.#node = node;
    this.#log = log;
  }

  /** undefined: there is none. Throws an Error in words. */
  load(): SavedPlan | undefined {
    return loadPlan(this.#path, this.#node);
  }

  /** Throws what the file system throws. */
  save(saved: Omit<SavedPlan, "savedAt">, now: number): void {
    savePlan(this.#path, saved, new Date(now));
  }

  /** Those of ours that were in force in the run before this one. undefined: not known. */
  objects(): AnyResource[] | undefined {
    try {
      return this.load()?.objects;
    } catch {
      return undefined;
    }
  }

  /** Of the run before this one. That its file cannot be used is said where it is needed. */
  lastGood(): LastGood {
    try {
      return this.load()?.lastGood ?? nothingGood();
    } catch {
      return nothingGood();
    }
  }

  /** The node had a part in BGP: where the agent was restarted, neighbours may keep its routes. */
  hadPart(): boolean {
    try {
      return this.load()?.plan.speaker !== undefined;
    } catch {
      return false;
    }
  }

  /** By the plan that is in force; at the start by that on disk, as a change of the ranges is remembered nowhere else. */
  rangesBefore(inForce: NodePlan | undefined): NodeFacts["rangesBefore"] {
    try {
      const now = rangesOf((inForce ?? this.load()?.plan)?.speaker?.origins);
      if (!now) return undefined;
      const gone = Object.entries(this.#ranges).filter(([name]) => !Object.hasOwn(now, name));
      this.#ranges = { ...Object.fromEntries(gone.slice(-MAX_GONE)), ...now };
      return this.#ranges;
    } catch (error) {
      this.#log.warn({}, `former pod subnets of nodes are not known: ${(error as Error).message}`);
      return undefined;
    }
  }
}
