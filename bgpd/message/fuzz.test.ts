/** Whatever octets come: a result within bounds or a MessageError, never anything else, and nothing left over for the next message. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hexOf } from "../../net/octets.ts";
import { type FamilyIndex, FamilyIndexes, FamilyTable, forwardingFamily } from "../family.ts";
import { attributesArbitrary, prefixArbitrary } from "./arbitraries.ts";
import { buildAttributes, parseAttributes, readFacts } from "./attributes.ts";
import { attributesView } from "./format.ts";
import { HEADER_LENGTH, MessageFramer, MessageType, newMessage } from "./header.ts";
import { decodeNotification, describeNotification } from "./notification.ts";
import { readUint32, writeUint16 } from "./octets.ts";
import { decodeOpen, describeCapability, encodeOpen } from "./open.ts";
import { decodeRouteRefresh } from "./route-refresh.ts";
import { MessageError } from "./types.ts";
import { UpdateDecoder, type UpdateDecoderOptions } from "./update-decoder.ts";
import { UpdateWriter } from "./update-writer.ts";

const families = ["ipv4-unicast", "ipv6-unicast"] as const;
const sessions: UpdateDecoderOptions[] = [true, false].flatMap(fourOctetAsn =>
  [true, false].map(internal => ({ fourOctetAsn, internal, families, extendedNextHop: !internal })),
);

/** Runs what may throw a MessageError; anything else fails the test. */
function allowed(run: () => void): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    expect([1, 2, 3, 7]).toContain(error.code);
    expect(error.data.length).toBeLessThanOrEqual(65535);
    return false;
  }
}

/** Everything a decoder shows, as text; checks bounds on the way. */
function shown(decoder: UpdateDecoder, message: Uint8Array): string {
  const lines: string[] = [`${decoder.treatAsWithdraw} ${decoder.endOfRib} ${JSON.stringify(decoder.problems)}`];
  for (let i = 0; i < decoder.withdrawnCount; i++) {
    lines.push(walk(message, decoder.withdrawnFamily[i], decoder.withdrawnStart[i], decoder.withdrawnEnd[i]));
  }
  for (let i = 0; i < decoder.announcedCount; i++) {
    lines.push(walk(message, decoder.announcedFamily[i], decoder.announcedStart[i], decoder.announcedEnd[i]));
    if (decoder.treatAsWithdraw) continue;
    decoder.canonical(i);
    const octets = decoder.octets.slice(0, decoder.octetsLength);
    const attributes = parseAttributes(octets);
    expect(hexOf(buildAttributes(attributes))).toBe(hexOf(octets));
    expect([4, 16, 32]).toContain(attributes.nextHop.length);
    attributesView(attributes);
    readFacts(octets, 0, octets.length);
    lines.push(hexOf(octets));
  }
  return lines.join("\n");
}

function walk(message: Uint8Array, family: FamilyIndex, start: number, end: number): string {
  expect(start).toBeLessThan(end);
  expect(end).toBeLessThanOrEqual(message.length);
  let at = start;
  while (at < end) {
    expect(message[at]).toBeLessThanOrEqual(FamilyTable[family].maxLength);
    at += 1 + ((message[at] + 7) >> 3);
  }
  expect(at).toBe(end);
  return `${family} ${hexOf(message.subarray(start, end))}`;
}

/** A valid UPDATE of one or both families, as the writer writes it on a session of this kind. */
const validUpdate = fc
  .tuple(
    fc.constantFrom(...FamilyIndexes),
    fc.constantFrom(0, 1),
    fc.boolean(),
    fc.boolean(),
    fc.array(fc.tuple(prefixArbitrary(32), prefixArbitrary(128)), { minLength: 1, maxLength: 5 }),
  )
  .chain(([family, session, , withdraw, prefixes]) =>
    attributesArbitrary(family).map(attributes => {
      const writer = new UpdateWriter({ fourOctetAsn: session === 0, maxMessageLength: 65535 });
      const octets = buildAttributes(attributes);
      if (withdraw) writer.withdraw(family);
      else writer.announce(family, octets, 0, octets.length);
      for (const pair of prefixes) {
        const prefix = new Uint8Array(20);
        prefix.set(pair[family]);
        const words = [1, 5, 9, 13].map(at => readUint32(prefix, at));
        if (family === forwardingFamily(4)) writer.prefix4(words[0], prefix[0]);
        else writer.prefix6(words[0], words[1], words[2], words[3], prefix[0]);
      }
      return writer.take();
    }),
  );

const change = fc.record({
  kind: fc.constantFrom("set" as const, "remove" as const, "insert" as const, "repeat" as const, "swap" as const),
  at: fc.nat(),
  length: fc.integer({ min: 1, max: 40 }),
  value: fc.oneof(fc.constantFrom(0, 1, 3, 4, 14, 15, 32, 33, 0x40, 0x80, 0x90, 0xc0, 0xff), fc.integer({ min: 0, max: 255 })),
});

/** Changes a message behind its header and sets the header's length right, so that the change is what the decoder meets. */
function mutate(message: Uint8Array, changes: { kind: string; at: number; length: number; value: number }[]): Uint8Array {
  let body = Array.from(message.subarray(HEADER_LENGTH));
  for (const { kind, at, length, value } of changes) {
    const place = body.length === 0 ? 0 : at % body.length;
    if (kind === "set" && body.length > 0) body[place] = value;
    else if (kind === "remove") body.splice(place, length);
    else if (kind === "insert") body.splice(place, 0, value);
    else if (kind === "repeat") body.splice(place, 0, ...body.slice(place, place + length));
    else if (body.length > 0) body = [...body.slice(place), ...body.slice(0, place)];
  }
  while (body.length < 4) body.push(0);
  const mutated = new Uint8Array(HEADER_LENGTH + Math.min(body.length, 65535 - HEADER_LENGTH));
  mutated.set(message.subarray(0, HEADER_LENGTH));
  mutated.set(body.slice(0, mutated.length - HEADER_LENGTH), HEADER_LENGTH);
  writeUint16(mutated, 16, mutated.length);
  return mutated;
}

describe("UPDATE", () => {
  it.each(sessions)("survives changed messages (4-octet $fourOctetAsn, internal $internal)", options => {
    const used = new UpdateDecoder(options);
    fc.assert(
      fc.property(validUpdate, fc.array(change, { minLength: 1, maxLength: 6 }), (valid, changes) => {
        const message = mutate(valid, changes);
        const fresh = new UpdateDecoder(options);
        const before = hexOf(message);
        const decoded = allowed(() => used.decode(message));
        expect(allowed(() => fresh.decode(message))).toBe(decoded);
        if (decoded) expect(shown(used, message)).toBe(shown(fresh, message));
        expect(hexOf(message)).toBe(before);
      }),
      { numRuns: 400 },
    );
  });

  it("survives any octets behind right lengths", () => {
    const decoders = sessions.map(options => new UpdateDecoder(options));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 60 }), (a, b, c) => {
        const message = newMessage(MessageType.Update, 4 + a.length + b.length + c.length);
        writeUint16(message, 19, a.length);
        message.set(a, 21);
        writeUint16(message, 21 + a.length, b.length);
        message.set(b, 23 + a.length);
        message.set(c, 23 + a.length + b.length);
        for (const decoder of decoders) if (allowed(() => decoder.decode(message))) shown(decoder, message);
      }),
      { numRuns: 1000 },
    );
  });

  it("takes bounded time for the worst of 65535 octets", () => {
    const worst = (attributes: number[], nlri: number[] = [0]) => {
      const message = newMessage(MessageType.Update, 4 + attributes.length + nlri.length);
      writeUint16(message, 21, attributes.length);
      message.set(attributes, 23);
      message.set(nlri, 23 + attributes.length);
      return message;
    };
    const mandatory = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1];
    const descending = Array.from({ length: 16000 }, (_, i) => 16000 - i).flatMap(i => [0, 0, i >>> 8, i & 0xff]);
    const communities = [0xd0, 8, descending.length >>> 8, descending.length & 0xff, ...descending];
    const tiny = Array.from({ length: 21000 }, (_, i) => [0xc0, 255 - (i & 0xff), 0]).flat();
    const messages = [worst([...mandatory, ...communities]), worst([...mandatory, ...tiny]), worst(mandatory, new Array(65000).fill(0))];
    for (const options of sessions) {
      const decoder = new UpdateDecoder(options);
      for (const message of messages) {
        const start = process.cpuUsage();
        if (allowed(() => decoder.decode(message)) && !decoder.treatAsWithdraw) decoder.canonical(0);
        expect(process.cpuUsage(start).user).toBeLessThan(500_000);
      }
    }
  });
});

describe("other messages", () => {
  it("OPEN: changed or any octets", () => {
    const capabilities = { families, fourOctetAsn: true, routeRefresh: true, extendedMessage: true, hostname: { host: "a", domain: "b" } };
    const valid = encodeOpen({ asn: 70000, holdTime: 90, bgpId: 1, capabilities });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), changes => {
        const message = mutate(valid, changes);
        allowed(() => decodeOpen(message).capabilities.raw.map(describeCapability));
      }),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 10, maxLength: 300 }), body => {
        const message = newMessage(MessageType.Open, body.length);
        message.set(body, HEADER_LENGTH);
        message[19] = 4;
        allowed(() => decodeOpen(message));
      }),
    );
  });

  it("NOTIFICATION and ROUTE-REFRESH: any octets, words of bounded length without control characters", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 0, max: 11 }),
        fc.uint8Array({ maxLength: 600 }),
        (code, subcode, data) => {
          const words = describeNotification({ code, subcode, data });
          expect(words.length).toBeLessThan(700);
          expect(words).not.toMatch(/\p{Cc}/u);
          const message = newMessage(MessageType.RouteRefresh, data.length);
          allowed(() => decodeRouteRefresh(message));
          allowed(() => decodeNotification(newMessage(MessageType.Notification, data.length)));
        },
      ),
      { numRuns: 1000 },
    );
  });

  it("a stream of any octets in any chunks: whole messages or a MessageError, and no more held than one message", () => {
    const piece = fc.oneof(
      fc.constant(newMessage(MessageType.Keepalive, 0)),
      fc.uint8Array({ minLength: 4, maxLength: 50 }).map(body => newMessage(MessageType.Update, body.length)),
      fc.uint8Array({ maxLength: 30 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 10 }), fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1 }), (pieces, sizes) => {
        const stream = Uint8Array.from(pieces.flatMap(octets => [...octets]));
        const cut = (chunks: number[]) => {
          const framer = new MessageFramer(4096);
          const got: string[] = [];
          const ok = allowed(() => {
            for (let at = 0, i = 0; at < stream.length; i++) {
              const size = chunks[i % chunks.length];
              framer.push(stream.subarray(at, at + size), message => got.push(hexOf(message)));
              expect(framer.pending).toBeLessThanOrEqual(4096);
              at += size;
            }
          });
          return { ok, got };
        };
        expect(cut(sizes)).toEqual(cut([stream.length || 1]));
      }),
      { numRuns: 500 },
    );
  });
});
