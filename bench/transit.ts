/**
 * A table through a BGP speaker: fed over one eBGP session, received over one or many, by podlane and by other daemons in the same run.
 * Counted are the seconds from the first octet fed until the last receiver has the whole table, and the speaker's CPU time and peak memory.
 */
import { TestNetwork } from "../test/network.ts";
import { count, describeMachine, list, machine, median, needRoot, printTable, program, round, type Values } from "./common.ts";
import { type Dut, type DutName, dutMissing, dutNames, dutVersion, startDut } from "./duts.ts";
import { usage as processUsage } from "./processes.ts";
import { addresses, buildTraffic, Feed, Sinks, type Table } from "./traffic.ts";

const usage = `usage: npm run bench -- transit [--prefixes N] [--sets N] [--sinks N,…] [--duts NAME,…] [--withdraw] [--gaps] [--rounds N] [--limit S] [--json]

  --prefixes   IPv4 prefixes, 1..4000000; default 1000000
  --sets       different attribute sets among them, 1..prefixes; default 15% of the prefixes
  --seed       of the table, 0..1000000000; default 1
  --sinks      receivers, 1..${addresses.maxSinks}; default 1,10
  --duts       speakers under test, of ${dutNames.join(",")}; default podlane,bird,frr
  --withdraw   afterwards take the table back, and measure that as well
  --gaps       also watch podlane's event loop (it costs about a percent): the longest time it stood still, in milliseconds
  --rounds     1..100, default 3: medians count. The speakers take turns
  --limit      seconds that a speaker has for each phase, 1..3600; default 170
  --json       one JSON object instead of a table

Needs root (it makes network namespaces), a C compiler, and Debian's packages of the other speakers.`;

interface Options {
  table: Table;
  sinks: number[];
  duts: DutName[];
  withdraw: boolean;
  gaps: boolean;
  rounds: number;
  limit: number;
}

const phases = ["announce", "withdraw"] as const;
type Phase = (typeof phases)[number];

/** One phase of one run. */
interface Run {
  /** From the first octet fed until the last receiver was complete. */
  seconds: number;
  cpuSeconds: number;
  peakMB: number;
  /** UPDATEs that the last receiver got. */
  updates: number;
  /** Longest time the event loop stood still, milliseconds; only with --gaps, only podlane. */
  longestGap?: number;
}

interface Figure extends Run {
  dut: DutName;
  sinks: number;
  phase: Phase;
  /** Runs that succeeded; the other fields are their medians. */
  rounds: number;
  /** Shortest and longest run. */
  spread: [number, number];
  failures: string[];
}

async function main(values: Values): Promise<void> {
  const options = readOptions(values);
  needRoot();
  const absent = options.duts.map(dutMissing).filter(reason => reason !== undefined);
  if (absent.length > 0) throw new Error(absent.join("; "));
  buildTraffic();
  const facts = machine();
  const figures = await measure(options, values.json !== true);
  const versions = Object.fromEntries(options.duts.map(dut => [dut, dutVersion(dut)]));
  const { table, rounds } = options;
  if (values.json) console.log(JSON.stringify({ bench: "transit", machine: facts, versions, ...table, rounds, figures }));
  else print(options, figures, `${describeMachine(facts)}\n${describe(versions)}`);
  if (figures.some(({ failures }) => failures.length > 0)) process.exitCode = 1;
}

function readOptions(values: Values): Options {
  const prefixes = count(values, "prefixes", 1_000_000, 4_000_000);
  const sets = count(values, "sets", Math.max(1, Math.round(prefixes * 0.15)), prefixes);
  const wanted = `numbers 1..${addresses.maxSinks}`;
  return {
    table: { prefixes, sets, seed: count(values, "seed", 1, 1_000_000_000, 0) },
    sinks: list(values, "sinks", [1, 10], wanted, word => {
      const value = Number(word);
      return word !== "" && Number.isInteger(value) && value >= 1 && value <= addresses.maxSinks ? value : undefined;
    }),
    duts: list(values, "duts", ["podlane", "bird", "frr"], dutNames.join(", "), word => dutNames.find(name => name === word)),
    withdraw: values.withdraw === true,
    gaps: values.gaps === true,
    rounds: count(values, "rounds", 3, 100),
    limit: count(values, "limit", 170, 3600),
  };
}

/** The speakers take turns, so that a busy minute of the machine does not fall on one of them. */
async function measure(options: Options, progress: boolean): Promise<Figure[]> {
  const runs = new Map<string, { runs: Run[]; failures: string[] }>();
  const wanted = phases.filter(phase => phase === "announce" || options.withdraw);
  const record = (phase: Phase, dut: DutName, sinks: number) => {
    const key = `${phase} ${dut} ${sinks}`;
    const known = runs.get(key) ?? { runs: [], failures: [] };
    runs.set(key, known);
    return known;
  };
  for (let turn = 1; turn <= options.rounds; turn++) {
    for (const sinks of options.sinks) {
      for (const dut of options.duts) {
        if (progress) process.stderr.write(`round ${turn} of ${options.rounds}: ${dut}, ${sinks} receivers … `);
        const said: string[] = [];
        let phase: Phase = "announce";
        try {
          for await (const one of runOnce(dut, sinks, options, wanted)) {
            record(one.phase, dut, sinks).runs.push(one.run);
            said.push(`${one.run.seconds.toFixed(2)} s`);
            phase = "withdraw";
          }
        } catch (error) {
          record(phase, dut, sinks).failures.push((error as Error).message);
          said.push((error as Error).message);
        }
        if (progress) process.stderr.write(`${said.join(", ")}\n`);
      }
    }
  }
  return wanted.flatMap(phase =>
    options.sinks.flatMap(sinks => options.duts.map(dut => summarise({ dut, sinks, phase }, record(phase, dut, sinks)))),
  );
}

function summarise(what: Pick<Figure, "dut" | "sinks" | "phase">, { runs, failures }: { runs: Run[]; failures: string[] }): Figure {
  const seconds = runs.map(run => run.seconds);
  const gaps = runs.flatMap(run => run.longestGap ?? []);
  const middle = (field: "seconds" | "cpuSeconds" | "peakMB" | "updates", digits: number) =>
    runs.length === 0 ? 0 : round(median(runs.map(run => run[field])), digits);
  return {
    ...what,
    rounds: runs.length,
    seconds: middle("seconds", 3),
    spread: runs.length === 0 ? [0, 0] : [round(Math.min(...seconds), 3), round(Math.max(...seconds), 3)],
    cpuSeconds: middle("cpuSeconds", 2),
    peakMB: middle("peakMB", 1),
    updates: middle("updates", 0),
    ...(gaps.length > 0 && { longestGap: round(Math.max(...gaps), 1) }),
    failures,
  };
}

/** One speaker, freshly started, with its feed and its receivers: one result per phase. Leaves nothing behind. */
async function* runOnce(dut: DutName, sinkCount: number, options: Options, wanted: Phase[]): AsyncGenerator<{ phase: Phase; run: Run }> {
  using network = new TestNetwork();
  const namespaces = { dut: network.namespace("dut"), traffic: network.namespace("traffic") };
  const sinkAddresses = Array.from({ length: sinkCount }, (_, i) => `${addresses.sink(i).address}/24`);
  network.link(
    { namespace: namespaces.dut, device: "eth0", addresses: [`${addresses.speaker}/24`] },
    { namespace: namespaces.traffic, device: "eth0", addresses: [`${addresses.feed.address}/24`, ...sinkAddresses] },
  );
  const started: { stop(): Promise<void> }[] = [];
  const speaker = await startDut(dut, namespaces.dut, { sinks: sinkCount, gaps: options.gaps });
  started.push(speaker);
  try {
    const sinks = new Sinks(namespaces.traffic, sinkCount, options.table.prefixes);
    started.push(sinks);
    const begin = performance.now();
    await sinks.established(begin + 60_000);
    const feed = new Feed(namespaces.traffic, options.table);
    started.push(feed);
    await feed.established(begin + 90_000);
    for (const phase of wanted) yield { phase, run: await runPhase(phase, speaker, feed, sinks, options) };
  } catch (error) {
    const log = speaker.log().slice(-500).trim();
    throw new Error(log === "" ? (error as Error).message : `${(error as Error).message}; the speaker printed: ${log}`);
  } finally {
    for (const one of started.reverse()) await one.stop();
  }
}

async function runPhase(phase: Phase, speaker: Dut, feed: Feed, sinks: Sinks, { gaps, limit }: Options): Promise<Run> {
  const before = processUsage(speaker.pid);
  const until = performance.now() + limit * 1000;
  // Forgets what was before.
  if (gaps) await speaker.longestGap?.(until);
  const from = await feed.start(phase, until);
  const { time, updates } = await sinks.all(phase === "announce" ? "announced" : "withdrawn", feed.sums, until);
  const after = processUsage(speaker.pid);
  const run = { seconds: time - from, cpuSeconds: after.cpuSeconds - before.cpuSeconds, peakMB: after.peakMB, updates };
  return gaps && speaker.longestGap ? { ...run, longestGap: await speaker.longestGap(until) } : run;
}

function describe(versions: Record<string, string>): string {
  return Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(", ");
}

function print({ table, duts, gaps, rounds }: Options, figures: Figure[], head: string): void {
  console.log(`${head}\n`);
  const number = (value: number) => value.toLocaleString("en-US");
  console.log(`${number(table.prefixes)} prefixes in ${number(table.sets)} attribute sets, medians of ${rounds}`);
  const others = (["bird", "frr"] as const).filter(name => duts.includes(name));
  const ratio = (figure: Figure, to: DutName, field: "seconds" | "peakMB") => {
    const other = figures.find(one => one.dut === to && one.sinks === figure.sinks && one.phase === figure.phase);
    return other && other.rounds > 0 ? `${(figure[field] / other[field]).toFixed(2)}` : "–";
  };
  const columns = ["phase", "speaker", "receivers", "seconds", "shortest–longest", "CPU s", "peak MB"];
  if (gaps) columns.push("longest gap, ms");
  columns.push(...others.flatMap(name => [`time / ${name}`, `memory / ${name}`]));
  const rows = figures.map(figure => {
    const start = [figure.phase, figure.dut, String(figure.sinks)];
    if (figure.rounds === 0) return [...start, "failed", ...Array.from({ length: columns.length - 4 }, () => "–")];
    const [shortest, longest] = figure.spread;
    return [
      ...start,
      figure.seconds.toFixed(2),
      `${shortest.toFixed(2)}–${longest.toFixed(2)}`,
      figure.cpuSeconds.toFixed(2),
      figure.peakMB.toFixed(0),
      ...(gaps ? [figure.longestGap?.toFixed(1) ?? "–"] : []),
      ...others.flatMap(name => [ratio(figure, name, "seconds"), ratio(figure, name, "peakMB")]),
    ];
  });
  printTable(columns, rows, 2);
  for (const { dut, sinks, phase, failures } of figures) {
    for (const failure of failures) console.log(`${dut}, ${sinks} receivers, ${phase}: ${failure}`);
  }
}

if (import.meta.main) {
  const text = { type: "string" } as const;
  const options = { prefixes: text, sets: text, seed: text, sinks: text, duts: text, rounds: text, limit: text };
  await program("transit", usage, { ...options, withdraw: { type: "boolean" }, gaps: { type: "boolean" } }, main);
}
