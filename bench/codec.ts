/**
 * The message codec alone, on one real session: UPDATEs decoded to canonical attributes and prefixes, and written again packed by
 * attribute set. No sockets and no RIB; the best of several rounds counts.
 */
import { MessageFramer, MessageType } from "../bgpd/message/header.ts";
import { UpdateDecoder } from "../bgpd/message/update-decoder.ts";
import { UpdateWriter } from "../bgpd/message/update-writer.ts";
import { mrtMessages, readMrtFile, recordedSession } from "../test/mrt.ts";
import { count, describeMachine, type Machine, machine, printTable, program, UsageError, type Values } from "./common.ts";

const usage = `usage: npm run bench -- codec [--file SESSION.mrt[.gz]] [--rounds N] [--json]

  --file     an MRT recording (BGP4MP) of an IPv4 session; default: the recorded session of shared/vectors
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
  const recorded = recordedSession();
  if (values.file === undefined && !recorded.exists) {
    throw new UsageError(`the recorded session is not at ${recorded.path}: set PODLANE_SHARED, or name a recording with --file`);
  }
  const file = String(values.file ?? recorded.path);
  const stream = readStream(file);
  const facts = machine();
  const steps: [string, (stream: Stream) => { prefixes: number; octets: number; updates: number }][] = [
    ["frame", frame],
    ["decode", octets => decode(octets, undefined)],
    ["decode + re-encode", octets => decode(octets, new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 4096 }))],
    ["… for a 2-octet neighbour", octets => decode(octets, new UpdateWriter({ fourOctetAsn: false, maxMessageLength: 4096 }))],
  ];
  const figures = steps.map(([step, run]) => measure(step, rounds, () => run(stream)));
  if (values.json) console.log(JSON.stringify({ bench: "codec", machine: facts, file, rounds, figures }));
  else print(facts, figures);
}

/** The UPDATEs of a session as TCP would bring them: chunks of 64 KiB that cut messages anywhere. */
interface Stream {
  chunks: Uint8Array[];
  fourOctetAsn: boolean;
  internal: boolean;
}

function readStream(file: string): Stream {
  const records = [...mrtMessages(readMrtFile(file))].filter(({ message }) => message[18] === MessageType.Update);
  const octets = Buffer.concat(records.map(({ message }) => message));
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < octets.length; at += 65536) chunks.push(Uint8Array.from(octets.subarray(at, at + 65536)));
  const first = records[0];
  return { chunks, fourOctetAsn: first?.fourOctetAsn ?? true, internal: first === undefined || first.peerAs === first.localAs };
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
        writer?.withdraw(0);
        total.prefixes += walk(message, decoder.withdrawnStart[i], decoder.withdrawnEnd[i], writer);
      }
      if (decoder.treatAsWithdraw) return;
      for (let i = 0; i < decoder.announcedCount; i++) {
        decoder.canonical(i);
        writer?.announce(0, decoder.octets, 0, decoder.octetsLength);
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

function print(facts: Machine, figures: Figures[]): void {
  console.log(`${describeMachine(facts)}\n`);
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

if (import.meta.main) await program("codec", usage, { file: { type: "string" }, rounds: { type: "string" } }, main);
