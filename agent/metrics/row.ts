/** The form of a metric: one row says all about it, and is what a scrape, docs/metrics.md and the tests of deploy/ go by. */
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import type { Problem } from "../../platform/problem.ts";
import type { Figures } from "./figures.ts";

export interface Sample {
  value: number;
  labels?: Record<string, string | number>;
  /** Of a histogram: which of its series. */
  suffix?: "_bucket" | "_sum" | "_count";
}

interface Described {
  name: string;
  type: "gauge" | "counter" | "histogram";
  /** One sentence, with the unit where the name does not say it all. */
  help: string;
  labels: readonly string[];
}

/** Of the agent as a whole. What is undefined or no number is left out. */
export interface NodeRow extends Described {
  read(figures: Figures): readonly Reading[];
}

/** Of each problem; counted by their labels. */
export interface ProblemRow extends Described {
  problem(problem: Problem): Record<string, string>;
}

/** Of each neighbour. */
export interface NeighborRow extends Described {
  neighbor(neighbor: NeighborSnapshot): readonly Reading[];
  /** Values of many neighbours may be added up. */
  adds: boolean;
}

export type Row = NodeRow | ProblemRow | NeighborRow;

type Reading = Omit<Sample, "value"> & { value: number | undefined };

export function one(value: number | undefined): Reading[] {
  return [{ value }];
}

/** One sample for each key, which is the label's value. */
export function by(label: string, values: Readonly<Record<string, number | undefined>> | undefined): Reading[] {
  return Object.entries(values ?? {}).map(([key, value]) => ({ labels: { [label]: key }, value }));
}

export function isKnown(reading: Reading): reading is Sample {
  return Number.isFinite(reading.value);
}
