/** One real session (RIPE route collector data): every UPDATE decodes, and every attribute set survives being written and read again. */
import { beforeEach, describe, expect, it } from "vitest";
import { forwardingFamily } from "../bgpd/family.ts";
import { buildAttributes, parseAttributes } from "../bgpd/message/attributes.ts";
import { MessageFramer, MessageType, readHeader } from "../bgpd/message/header.ts";
import { decodeOpen } from "../bgpd/message/open.ts";
import { UpdateDecoder } from "../bgpd/message/update-decoder.ts";
import { UpdateWriter } from "../bgpd/message/update-writer.ts";
import { mrtMessages, readMrtFile, recordedSession } from "./mrt.ts";

const ipv4Unicast = forwardingFamily(4);

const { path, exists } = recordedSession();

const options = { fourOctetAsn: true, internal: true, families: ["ipv4-unicast"] } as const;

describe("recorded session", () => {
  beforeEach(context => {
    context.skip(!exists, `the recorded session is not at ${path}; PODLANE_SHARED names the folder that holds vectors/`);
  });

  const messages = exists ? [...mrtMessages(readMrtFile(path))].map(({ message }) => message) : [];
  const updates = messages.filter(message => readHeader(message, 0).type === MessageType.Update);

  it("begins with an OPEN of AS 3856", () => {
    expect(decodeOpen(messages[0])).toMatchObject({
      asn: 3856,
      holdTime: 180,
      capabilities: { families: ["ipv4-unicast"], routeRefresh: true },
    });
  });

  it("has 89,679 UPDATEs with 577,737 announcements and leaves 577,703 prefixes", () => {
    const decoder = new UpdateDecoder(options);
    const left = new Set<number>();
    const problems: Record<string, number> = {};
    let announced = 0;
    for (const message of updates) {
      decoder.decode(message);
      for (const { name, action, text } of decoder.problems) {
        const key = `${name}, ${action}: ${text}`;
        problems[key] = (problems[key] ?? 0) + 1;
      }
      for (let i = 0; i < decoder.withdrawnCount; i++) {
        walk(message, decoder.withdrawnStart[i], decoder.withdrawnEnd[i], prefix => left.delete(prefix));
      }
      for (let i = 0; i < decoder.announcedCount; i++) {
        walk(message, decoder.announcedStart[i], decoder.announcedEnd[i], prefix => {
          announced++;
          left.add(prefix);
        });
      }
    }
    expect([updates.length, announced, left.size]).toEqual([89_679, 577_737, 577_703]);
    expect(problems).toEqual({
      "AGGREGATOR, attribute-discard: AS number 0 (RFC 7607)": 3,
    });
  });

  it.each([true, false])("gives the same canonical octets after being written and read again (4-octet %s)", fourOctetAsn => {
    const decoder = new UpdateDecoder(options);
    const again = new UpdateDecoder({ ...options, fourOctetAsn });
    const writer = new UpdateWriter({ fourOctetAsn, maxMessageLength: 4096 });
    const framer = new MessageFramer(4096);
    const seen = new Set<string>();
    let differing = 0;
    for (const message of updates) {
      decoder.decode(message);
      if (decoder.treatAsWithdraw || decoder.announcedCount === 0) continue;
      decoder.canonical(0);
      const copy = decoder.octets.slice(0, decoder.octetsLength);
      const canonical = Buffer.from(copy).toString("latin1");
      if (seen.has(canonical)) continue;
      seen.add(canonical);
      writer.announce(ipv4Unicast, decoder.octets, 0, decoder.octetsLength);
      writer.prefix4(0x0a000000, 8);
      framer.push(writer.take(), octets => again.decode(octets));
      again.canonical(0);
      const back = Buffer.from(again.octets.subarray(0, again.octetsLength)).toString("latin1");
      if (back !== canonical) differing++;
      if (fourOctetAsn && Buffer.compare(buildAttributes(parseAttributes(decoder.octets, 0, decoder.octetsLength)), copy) !== 0)
        differing++;
    }
    expect(differing).toBe(0);
    expect(seen.size).toBeGreaterThan(50_000);
  });
});

/** Calls back with each IPv4 prefix as one number. */
function walk(message: Uint8Array, start: number, end: number, each: (prefix: number) => void): void {
  for (let at = start; at < end; ) {
    const length = message[at];
    let address = 0;
    for (let i = 0; i < 4; i++) address = address * 256 + (i < (length + 7) >> 3 ? message[at + 1 + i] : 0);
    each(address * 64 + length);
    at += 1 + ((length + 7) >> 3);
  }
}
