/**
 * 20,000 UPDATEs with damage of every kind over one live session: it stays, what is left of its routes is exactly what RFC 7606 leaves, a
 * neighbour hears only well-formed UPDATEs of it, and another session notices nothing. Damage that must end a session ends only that one.
 */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { Families } from "../../bgpd/family.ts";
import { MessageError } from "../../bgpd/message/types.ts";
import { UpdateDecoder } from "../../bgpd/message/update-decoder.ts";
import { mrtMessages, readMrtFile, recordedSession } from "../mrt.ts";
import {
  asPath,
  attribute,
  communities,
  KEEPALIVE,
  localPref,
  med,
  message,
  mpReach,
  mpUnreach,
  nextHop,
  nlri,
  octets,
  origin,
  sequence,
  Type,
  u32,
  update,
} from "./octets.ts";
import { Holdings } from "./raw-peer.ts";
import { lacking, useScene } from "./scene.ts";

const COUNT = 20_000;
const RESETS = 40;
const SEED = 20_151_124;
const HOP6 = "20010db8000000000000000000000002";
/** Bytes the speaker may have in memory after all of it. */
const MAX_RSS = 400 * 1024 * 1024;

const holder = useScene();

/** Uniform in 0..1, the same sequence for the same seed (xorshift). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Good UPDATEs to begin with: every attribute, both families, and real ones where the recorded session is at hand. */
function seeds(): Uint8Array[] {
  const all = [
    ...[origin(1), asPath(65002, 65077, 4_200_000_001), nextHop("10.0.0.2"), med(3), localPref(9), attribute(0x40, 6)],
    ...[attribute(0xc0, 7, octets(u32(65077), "0a090909")), communities(0xfdea0001, 0xfdea0002), attribute(0x80, 9, "01020304")],
    ...[attribute(0x80, 10, "0102030405060708"), attribute(0xc0, 16, "0002fdea00000007"), attribute(0xc0, 17, sequence([65002, 65077]))],
    ...[attribute(0xc0, 32, octets(u32(1), u32(2), u32(3))), attribute(0xc0, 99, "0102030405"), attribute(0x80, 98, "01")],
  ];
  const made = Array.from({ length: 200 }, (_, n) => {
    const six = nlri(`2001:db8:${n.toString(16)}::/48`, `2001:db8:${n.toString(16)}:1::/64`);
    const four = nlri(`10.${n}.0.0/16`, `10.${n}.${n}.0/24`);
    return [
      update({ attributes: all, nlri: four }),
      update({ attributes: [mpReach(2, 1, HOP6, six), ...all.filter(each => each[1] !== 3)] }),
      update({ withdrawn: nlri(`10.${n}.${n}.0/24`), attributes: [mpUnreach(2, 1, six)] }),
    ];
  }).flat();
  const { path, exists } = recordedSession();
  if (!exists) return made;
  const recorded = [];
  for (const each of mrtMessages(readMrtFile(path))) {
    if (each.message[18] === Type.Update && recorded.push(each.message) >= 2000) break;
  }
  return [...made, ...recorded];
}

/** One to three changes to the body of a message; the header fits it again. */
function damaged(good: Uint8Array, next: () => number): Uint8Array {
  let body = [...good.subarray(19)];
  const pick = (limit: number) => Math.floor(next() * limit);
  for (let n = 1 + pick(3); n > 0; n--) {
    const at = pick(body.length);
    const change = pick(6);
    if (change === 0) body[at] ^= 1 << pick(8);
    else if (change === 1) body[at] = pick(256);
    else if (change === 2) body[at] = [0, 1, 0x40, 0x80, 0xc0, 0xff][pick(6)];
    else if (change === 3) body.splice(at, 1 + pick(4));
    else if (change === 4) body.splice(at, 0, ...Array.from({ length: 1 + pick(4) }, () => pick(256)));
    else body = [...body.slice(0, at), ...body.slice(pick(at + 1))];
    if (body.length < 4) return damaged(good, next);
  }
  return message(Type.Update, body.slice(0, 4000));
}

it.skipIf(lacking)(`${COUNT} damaged UPDATEs${lacking ? ` (${lacking})` : ""}`, async ({ onTestFinished }) => {
  const { scene } = holder;
  scene.network.exec(scene.us, "ip", "route", "add", "default", "via", "10.0.0.2");
  const next = random(SEED);
  const good = seeds();
  const decoder = new UpdateDecoder({ internal: false, fourOctetAsn: true, families: Families });
  const model = new Holdings({ tolerant: true });
  const fatal: { octets: Uint8Array; wanted: string }[] = [];
  const flood: Uint8Array[] = [];
  let malformed = 0;
  while (flood.length < COUNT) {
    const octets = damaged(good[Math.floor(next() * good.length)], next);
    try {
      decoder.decode(octets);
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      if (fatal.length < RESETS) fatal.push({ octets, wanted: `${error.code}/${error.subcode}` });
      continue;
    }
    if (decoder.treatAsWithdraw) malformed++;
    model.take(octets);
    flood.push(octets);
  }
  expect(malformed).toBeGreaterThan(COUNT / 20);

  const [fuzzed, observer] = [await scene.party(), await scene.party({ remoteAsn: 65009, holdTime: 9 })];
  const peer = await fuzzed.establish();
  const watch = await observer.establish();
  const beat = setInterval(() => watch.send(KEEPALIVE), 700);
  onTestFinished(() => clearInterval(beat));
  watch.send(update({ attributes: [origin(), asPath(65009), nextHop("10.0.0.2"), communities(9)], nlri: nlri("203.0.113.0/24") }));
  await peer.pour(Buffer.concat(flood));
  await fuzzed.until(({ counters, state }) => expect([counters.messagesIn.update, state]).toEqual([COUNT, "Established"]));
  expect((await fuzzed.snapshot()).malformed?.withdrawn).toBe(malformed);
  expect([...(await fuzzed.routes()).keys()].sort()).toEqual([...model.routes.keys()].sort());

  for (const { octets, wanted } of fatal) {
    const victim = await scene.party();
    const doomed = await victim.establish();
    doomed.send(octets);
    expect((await doomed.dismissal()).split(" ")[0]).toBe(wanted);
    victim.close();
  }

  const eligible = [...(await fuzzed.routes()).values()].filter(route => route.best);
  expect(eligible.length).toBeGreaterThan(100);
  // Strict: the observer's own decoder finds no fault in anything it heard.
  const heard = new Holdings();
  await watch.until(() => heard.read(watch).routes.size > 100, "routes");
  expect(watch.ended).toBeUndefined();
  expect((await observer.snapshot()).state).toBe("Established");
  const beats = watch.times.filter((_, i) => watch.messages[i][18] === Type.Keepalive);
  expect(Math.max(...beats.slice(1).map((time, i) => time - beats[i]), performance.now() - beats.at(-1)!)).toBeLessThan(9000);
  expect((await observer.routes()).get("203.0.113.0/24")?.attributes.communities).toEqual(["0:9"]);

  const sets = (await scene.speaker.snapshot()).attributeSets;
  peer.close();
  await watch.until(() => heard.read(watch).routes.size === 0, "the end of all routes");
  const rest = await scene.speaker.snapshot();
  expect([rest.tables["ipv4-unicast"].paths, rest.tables["ipv6-unicast"].paths]).toEqual([1, 0]);
  expect(sets).toBeGreaterThan(100);
  expect(rest.attributeSets).toBeLessThan(5);
  expect(residentBytes(scene.network.exec(scene.us, "ip", "netns", "pids", scene.us))).toBeLessThan(MAX_RSS);
});

/** Of the largest of these processes. */
function residentBytes(pids: string): number {
  const sizes = pids
    .trim()
    .split("\n")
    .map(pid => {
      try {
        return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
      } catch {
        return 0;
      }
    });
  return Math.max(...sizes);
}
