/**
 * The message codec alone, on one session, recorded or made: UPDATEs decoded to canonical attributes and prefixes, and written again packed
 * by attribute set. No sockets and no RIB; the best of several rounds counts.
 */
import { classicFamily } from "../bgpd/family.ts";
import { buildAttributes } from "../bgpd/message/attributes.ts";
import { MessageFramer, MessageType } from "../bgpd/message/header.ts";
import { UpdateDecoder } from "../bgpd/message/update-decoder.ts";
import { UpdateWriter } from "../bgpd/message/update-writer.ts";
import { mrtMessages, readMrtFile, recordedSession } from "../test/mrt.ts";
import { count, describeMachine, type Machine, machine, printTable, program, UsageError, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- codec [--file SESSION.mrt[.gz]] [--rounds N] [--json]

  --file     an MRT recording (RFC 6396, BGP4MP) of an IPv4 session from its OPEN on, as route collectors publish them. Default: the
             recorded session of 2015 that stands in the folder shared beside the repository, or in $PODLANE_SHARED; where there is
             none, a session of the same size that is made from a seed
  --rounds   how often each step is measured, 1..1000; default 10
  --json     one JSON object instead of a table`;

interface Figures {
  step: string;
  updates: number;
  prefixes: number;
  octets: number;
  milliseconds: number;
  updatesPerSecond: number;
  prefixesPerSecond: number;
}

/** What reading addresses is for, so that it is not optimised away. */
const checksum = new Int32Array(1);

function main(values: Values): void {
  const rounds = count(values, "rounds", 10, 1000);
  const { name, stream } = chooseStream(values.file === undefined ? undefined : String(values.file));
  const facts = machine();
  const steps: [string, (stream: Stream) => { prefixes: number; octets: number; updates: number }][] = [
    ["frame", frame],
    ["decode", octets => decode(octets, undefined)],
    ["decode + re-encode", octets => decode(octets, new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096 }))],
    ["… for a 2-octet neighbour", octets => decode(octets, new UpdateWriter({ fourOctetAsn: false, maxMessageLength: 4096 }))],
  ];
  const figures = steps.map(([step, run]) => measure(step, rounds, () => run(stream)));
  if (values.json) console.log(JSON.stringify({ bench: "codec", machine: facts, session: name, rounds, figures }));
  else print(facts, name, figures);
}

/** The UPDATEs of a session as TCP would bring them: chunks of 64 KiB that cut messages anywhere. */
interface Stream {
  chunks: Uint8Array[];
  fourOctetAsn: boolean;
  internal: boolean;
}

/** Throws UsageError for a file that is not there or no recording. */
function chooseStream(file: string | undefined): { name: string; stream: Stream } {
  const recorded = recordedSession();
  if (file === undefined && !recorded.exists) {
    const name = `a made session of ${made.updates.toLocaleString("en-US")} UPDATEs: there is no recorded one at ${recorded.path}`;
    return { name, stream: makeStream() };
  }
  const path = file ?? recorded.path;
  try {
    return { name: `the session recorded in ${path}`, stream: readStream(path) };
  } catch (error) {
    throw new UsageError(`${path} cannot be read as a recorded session: ${(error as Error).message}`);
  }
}

function readStream(file: string): Stream {
  const records = [...mrtMessages(readMrtFile(file))].filter(({ message }) => message[18] === MessageType.Update);
  const first = records[0];
  if (!first) throw new Error("it holds no UPDATE");
  return { chunks: cut(records.map(({ message }) => message)), fourOctetAsn: first.fourOctetAsn, internal: first.peerAs === first.localAs };
}

/** As many UPDATEs and prefixes as the recorded session has, one attribute set each. */
const made = { updates: 89_679, prefixes: 577_737 };

function makeStream(): Stream {
  // Marsaglia's xorshift of 32 bits: the same session at every run.
  let state = 2463534242;
  const below = (bound: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
  const writer = new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096 });
  const messages: Uint8Array[] = [];
  let prefixes = 0;
  for (let update = 1; update <= made.updates; update++) {
    const octets = buildAttributes({
      origin: 0,
      asPath: [{ type: 2, asns: Array.from({ length: 2 + below(6) }, () => 1 + below(400_000)) }],
      nextHop: Uint8Array.of(192, 0, 2, 1 + below(8)),
      ...(below(3) === 0 && { communities: Array.from({ length: 1 + below(8) }, () => 1 + below(0xfffffffe)).sort((a, b) => a - b) }),
      localPref: 100,
    });
    writer.announce(classicFamily, octets, 0, octets.length);
    for (const due = Math.round((made.prefixes * update) / made.updates); prefixes < due; prefixes++) {
      // Five lengths, each counted up in an eighth of the addresses of its own: all are different.
      const length = 24 - (prefixes % 5);
      writer.prefix4((((prefixes % 5) << 29) | (Math.floor(prefixes / 5) << (32 - length))) >>> 0, length);
    }
    messages.push(writer.take().slice());
  }
  return { chunks: cut(messages), fourOctetAsn: true, internal: true };
}

function cut(messages: Uint8Array[]): Uint8Array[] {
  const octets = Buffer.concat(messages);
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < octets.length; at += 65536) chunks.push(Uint8Array.from(octets.subarray(at, at + 65536)));
  return chunks;
}

function frame({ chunks }: Stream) {
  const framer = new MessageFramer(4096);
  let updates = 0;
  let octets = 0;
  for (const chunk of chunks) {
    framer.push(chunk, message => {
      updates++;
      octets += message.length;
    });
  }
  return { prefixes: 0, octets, updates };
}

/** Reads every prefix as the RIB does; with a writer, announces it again. `octets` are those read, or those written. */
function decode({ chunks, fourOctetAsn, internal }: Stream, writer: UpdateWriter | undefined) {
  const framer = new MessageFramer(4096);
  const decoder = new UpdateDecoder({ fourOctetAsn, internal, families: ["ipv4-unicast"] });
  const total = { prefixes: 0, octets: 0, updates: 0 };
  for (const chunk of chunks) {
    framer.push(chunk, message => {
      total.updates++;
      decoder.decode(message);
      if (writer === undefined) total.octets += message.length;
      for (let i = 0; i < decoder.withdrawnCount; i++) {
        writer?.withdraw(classicFamily);
        total.prefixes += walk(message, decoder.withdrawnStart[i], decoder.withdrawnEnd[i], writer);
      }
      if (decoder.treatAsWithdraw) return;
      for (let i = 0; i < decoder.announcedCount; i++) {
        decoder.canonical(i);
        writer?.announce(classicFamily, decoder.octets, 0, decoder.octetsLength);
        total.prefixes += walk(message, decoder.announcedStart[i], decoder.announcedEnd[i], writer);
      }
    });
    if (writer !== undefined && writer.octetsPending > 0) total.octets += writer.take().length;
  }
  return total;
}

function walk(message: Uint8Array, start: number, end: number, writer: UpdateWriter | undefined): number {
  let count = 0;
  for (let at = start; at < end; count++) {
    const length = message[at];
    let address = 0;
    if (length > 0) address = message[at + 1] << 24;
    if (length > 8) address |= message[at + 2] << 16;
    if (length > 16) address |= message[at + 3] << 8;
    if (length > 24) address |= message[at + 4];
    if (writer === undefined) checksum[0] ^= address;
    else writer.prefix4(address >>> 0, length);
    at += 1 + ((length + 7) >> 3);
  }
  return count;
}

function measure(step: string, rounds: number, run: () => { prefixes: number; octets: number; updates: number }): Figures {
  let milliseconds = Number.POSITIVE_INFINITY;
  let result = { prefixes: 0, octets: 0, updates: 0 };
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    result = run();
    milliseconds = Math.min(milliseconds, performance.now() - start);
  }
  const perSecond = (count: number) => Math.round((count * 1000) / milliseconds);
  return {
    step,
    ...result,
    milliseconds: Number(milliseconds.toFixed(2)),
    updatesPerSecond: perSecond(result.updates),
    prefixesPerSecond: perSecond(result.prefixes),
  };
}

function print(facts: Machine, session: string, figures: Figures[]): void {
  console.log(`${describeMachine(facts)}\n${session}\n`);
  const number = (value: number) => value.toLocaleString("en-US");
  const rows = figures.map(one => [
    one.step,
    number(one.updates),
    number(one.prefixes),
    number(one.octets),
    one.milliseconds.toFixed(1),
    number(one.updatesPerSecond),
    number(one.prefixesPerSecond),
  ]);
  printTable(["step", "UPDATEs", "prefixes", "octets", "ms", "UPDATEs/s", "prefixes/s"], rows);
}

if (import.meta.main) await program("codec", USAGE, { file: { type: "string" }, rounds: { type: "string" } }, main);
