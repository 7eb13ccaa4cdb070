/**
 * One scrape: all rows of the table, asked of the agent when somebody asks for metrics. What grows with the number of neighbours is done in slices, so
 * that sessions are served meanwhile.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { Gauge, Registry } from "prom-client";
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import { type Clock, sliceOf } from "../../platform/clock.ts";
import type { Figures, MetricsSubject } from "./figures.ts";
import { isKnown, type NeighborRow, type NodeRow, type ProblemRow, type Row, type Sample } from "./row.ts";
import { MetricRows } from "./table.ts";

/** Neighbours with series of their own; those beyond are added up. */
const MAX_NEIGHBORS = 1024;
/** Stands for them; no neighbour can have that name. */
const OTHERS = "(others)";
/** Samples that are written as text at a time. */
const CHUNK = 256;

export class Scraper {
  readonly #clock: Clock;
  readonly #subject: MetricsSubject;
  readonly #registry = new Registry();
  readonly #metrics: readonly Collected[];
  #isOver: () => boolean = () => false;

  constructor(subject: MetricsSubject, clock: Clock, rows: readonly Row[] = MetricRows) {
    this.#subject = subject;
    this.#clock = clock;
    this.#metrics = rows.map(row => new Collected(row, this.#registry));
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** In the text format of Prometheus. One at a time. */
  async scrape(): Promise<string> {
    this.#isOver = sliceOf(this.#clock);
    const figures = this.#subject.figures();
    const neighbors = await this.#neighbors();
    const problems = await this.#problems();
    const parts: string[] = [];
    for (const metric of this.#metrics) {
      const samples = samplesOf(metric.row, figures, neighbors, problems);
      for (let at = 0; at === 0 || at < samples.length; at += CHUNK) {
        metric.samples = samples.slice(at, at + CHUNK);
        const text = await this.#registry.getSingleMetricAsString(metric.row.name);
        parts.push(at === 0 ? text : withoutHead(text));
        await this.#breathe();
      }
      metric.samples = [];
    }
    return `${parts.join("\n")}\n`;
  }

  async #neighbors(): Promise<ReadonlyMap<NeighborRow, Sample[]>> {
    const rows = this.#metrics.flatMap(({ row }) => ("neighbor" in row ? [new NeighborSamples(row)] : []));
    let count = 0;
    for (const neighbor of this.#subject.neighbors()) {
      const name = count++ < MAX_NEIGHBORS ? neighbor.name : undefined;
      for (const row of rows) row.add(neighbor, name);
      await this.#breathe();
    }
    return new Map(rows.map(({ row, samples }) => [row, samples]));
  }

  async #problems(): Promise<ReadonlyMap<ProblemRow, Sample[]>> {
    const rows = this.#metrics.flatMap(({ row }) => ("problem" in row ? [{ row, counts: new Map<string, Sample>() }] : []));
    for (const found of this.#subject.findProblems()) {
      for (const { row, counts } of rows) for (const problem of found) addTo(counts, { value: 1, labels: row.problem(problem) });
      await this.#breathe();
    }
    return new Map(rows.map(({ row, counts }) => [row, [...counts.values()]]));
  }

  async #breathe(): Promise<void> {
    if (!this.#isOver()) return;
    await nextTurn();
    this.#isOver = sliceOf(this.#clock);
  }
}

/** A metric as prom-client's registry writes it. Its own kinds would keep, hash and check for each sample what the table says already. */
class Collected extends Gauge {
  readonly row: Row;
  samples: readonly Sample[] = [];

  constructor(row: Row, registry: Registry) {
    super({ name: row.name, help: row.help, labelNames: [...row.labels], registers: [registry] });
    this.row = row;
  }

  override async get(): ReturnType<Gauge["get"]> {
    const { name, type } = this.row;
    const values = this.samples.map(({ value, labels = {}, suffix }) => ({ value, labels, ...(suffix && { metricName: name + suffix }) }));
    // It is a word, whatever prom-client's types say.
    return { ...(await super.get()), type: type as never, values };
  }
}

class NeighborSamples {
  readonly row: NeighborRow;
  readonly #own: Sample[] = [];
  readonly #others = new Map<string, Sample>();

  constructor(row: NeighborRow) {
    this.row = row;
  }

  get samples(): Sample[] {
    return [...this.#own, ...this.#others.values()];
  }

  /** `name`: undefined = it has no series of its own. */
  add(neighbor: NeighborSnapshot, name: string | undefined): void {
    if (name === undefined && !this.row.adds) return;
    for (const sample of this.row.neighbor(neighbor)) {
      if (!isKnown(sample)) continue;
      const labelled = { ...sample, labels: { neighbor: name ?? OTHERS, ...sample.labels } };
      if (name === undefined) addTo(this.#others, labelled);
      else this.#own.push(labelled);
    }
  }
}

function addTo(sums: Map<string, Sample>, sample: Sample): void {
  const key = JSON.stringify(sample.labels);
  const sum = sums.get(key);
  if (sum) sum.value += sample.value;
  else sums.set(key, sample);
}

function samplesOf(
  row: Row,
  figures: Figures,
  neighbors: ReadonlyMap<NeighborRow, Sample[]>,
  problems: ReadonlyMap<ProblemRow, Sample[]>,
): readonly Sample[] {
  if ("neighbor" in row) return neighbors.get(row) ?? [];
  if ("problem" in row) return problems.get(row) ?? [];
  return (row satisfies NodeRow).read(figures).filter(isKnown);
}

/** Without the lines of HELP and TYPE. */
function withoutHead(text: string): string {
  return text.slice(text.indexOf("\n", text.indexOf("\n") + 1) + 1);
}
