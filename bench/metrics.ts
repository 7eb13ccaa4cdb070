/**
 * A scrape of a node with many neighbours: how long it takes, how long it holds the event loop up at a time, and how much text it is. The speaker is whole,
 * its neighbours are octets in memory, each of which sent some prefixes.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import type { MetricsSubject } from "../agent/metrics/figures.ts";
import { Scraper } from "../agent/metrics/scrape.ts";
import { figures } from "../agent/metrics/testing.ts";
import { forwardingFamily } from "../bgpd/family.ts";
import { buildAttributes } from "../bgpd/message/attributes.ts";
import { UpdateWriter } from "../bgpd/message/update-writer.ts";
import { accepting, MemoryWorld, neighborAt } from "../bgpd/testing/memory-speakers.ts";
import { parseAddress } from "../net/address.ts";
import { systemClock } from "../platform/clock.ts";
import { count, describeMachine, machine, median, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- metrics [--neighbors N] [--prefixes N] [--rounds N] [--json]

  --neighbors  sessions of the node, 1..5000; default 500
  --prefixes   that each of them sends, 1..250; default 20
  --rounds     how often it is scraped, 1..1000; default 20
  --json       one JSON object instead of a table`;

const address = (n: number) => `10.0.${n >> 8}.${n & 255}`;

/** All sessions Established, and all routes in the table. */
async function speakerWith(neighbors: number, prefixes: number) {
  const world = new MemoryWorld();
  const numbers = Array.from({ length: neighbors }, (_, at) => at + 1);
  const peers = numbers.map(n => world.rawPeer(address(n), 65001 + (n % 500)));
  // Told to all others, the routes would be so many messages that the wires in memory would be what is measured.
  const families = { "ipv4-unicast": { ...accepting, exportDefault: "reject" as const } };
  const node = world.speaker("10.255.0.1", { neighbors: numbers.map(n => neighborAt(address(n), 65001 + (n % 500), { families })) });
  node.apply();
  await world.run(30);
  for (const [at, connections] of peers.entries()) connections.at(-1)?.wire?.write(announcement(at, prefixes));
  await world.run(10);
  return { world, speaker: node.speaker };
}

function announcement(at: number, prefixes: number): Uint8Array {
  const writer = new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096 });
  const asPath = [{ type: 2 as const, asns: [65001 + ((at + 1) % 500)] }];
  const set = buildAttributes({ origin: 0, asPath, nextHop: parseAddress(address(at + 1)) });
  writer.announce(forwardingFamily(4), set, 0, set.length);
  for (let n = 0; n < prefixes; n++) writer.prefix4((20 << 24) | (at << 8) | n, 32);
  return writer.take();
}

/** The longest turn of the event loop while `work` runs, and the most CPU that one took, which says more on a busy machine. Milliseconds. */
async function longestTurn(work: Promise<unknown>): Promise<{ turn: number; turnCpu: number }> {
  let ended = false;
  void work.finally(() => {
    ended = true;
  });
  let [turn, turnCpu] = [0, 0];
  for (let [before, cpuBefore] = [performance.now(), threadCpu()]; !ended; ) {
    await nextTurn();
    const [now, cpu] = [performance.now(), threadCpu()];
    [turn, turnCpu] = [Math.max(turn, now - before), Math.max(turnCpu, cpu - cpuBefore)];
    [before, cpuBefore] = [now, cpu];
  }
  return { turn, turnCpu };
}

function threadCpu(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

async function run(values: Values): Promise<void> {
  const neighbors = count(values, "neighbors", 500, 5000);
  const prefixes = count(values, "prefixes", 20, 250);
  const rounds = count(values, "rounds", 20, 1000);
  const facts = machine();
  const { world, speaker } = await speakerWith(neighbors, prefixes);
  const established = speaker.snapshot().neighbors.filter(({ state }) => state === "Established").length;
  if (established !== neighbors) throw new Error(`${established} of ${neighbors} sessions are Established`);
  const idle = await figures();
  const subject: MetricsSubject = {
    ready: () => undefined,
    figures: () => ({ ...idle, speaker: { ...speaker.overview(), ...speaker.counters() } }),
    neighbors: () => speaker.neighbors(),
    findProblems: () => speaker.findProblems(),
  };
  const scraper = new Scraper(subject, systemClock);
  const scrapes = [];
  for (let n = 0; n < rounds; n++) {
    const [begin, cpu] = [performance.now(), process.cpuUsage()];
    const scrape = scraper.scrape();
    const turns = await longestTurn(scrape);
    const { user, system } = process.cpuUsage(cpu);
    scrapes.push({ milliseconds: performance.now() - begin, cpu: (user + system) / 1000, ...turns, text: await scrape });
  }
  await world.close();
  const { text } = scrapes.at(-1)!;
  const figure = {
    milliseconds: round(median(scrapes.map(one => one.milliseconds)), 1),
    cpuMilliseconds: round(median(scrapes.map(one => one.cpu)), 1),
    longestTurn: round(median(scrapes.map(one => one.turn)), 1),
    turnCpuMilliseconds: round(median(scrapes.map(one => one.turnCpu)), 1),
    series: text.split("\n").filter(line => line !== "" && !line.startsWith("#")).length,
    octets: text.length,
  };
  if (values.json) {
    console.log(JSON.stringify({ bench: "metrics", machine: facts, neighbors, prefixes, rounds, figure }));
    return;
  }
  console.log(`${describeMachine(facts)}\n${neighbors} neighbours with ${prefixes} prefixes each, medians of ${rounds} scrapes\n`);
  printTable(["ms", "CPU ms", "longest turn ms", "most CPU ms in a turn", "series", "octets"], [Object.values(figure).map(String)]);
}

if (import.meta.main) {
  const number = { type: "string" } as const;
  await program("metrics", USAGE, { neighbors: number, prefixes: number, rounds: number }, run);
}
