import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeAddress } from "./address.ts";
import * as C from "./constants.ts";
import { decodeLink, encodeNewLink } from "./link.ts";
import { forEachAttribute, type Message, MessageWriter, readMessage, readText, readU32, toBytes } from "./message.ts";
import { decodeEvent } from "./monitor.ts";
import { decodeNeighbour } from "./neighbour.ts";
import { forEachMessage, readFailure } from "./netlinksocket.ts";
import { decodeRoute, encodeNewRoute } from "./route.ts";
import { decodeRule, encodeRule } from "./rule.ts";
import type { NewRoute } from "./types.ts";

/** The octets end where the memory does, so that reading beyond throws or yields undefined. */
function exact(octets: Uint8Array): Uint8Array {
  return new Uint8Array(octets);
}

function decodeEverything(octets: Uint8Array): number {
  let seen = 0;
  forEachMessage(toBytes(octets), octets.length, message => {
    seen++;
    for (const decode of [decodeLink, decodeAddress, decodeRoute, decodeNeighbour, decodeRule, decodeEvent, readFailure]) {
      const decoded = decode(message);
      expect(hasUndefinedOctets(decoded)).toBe(false);
    }
  });
  return seen;
}

function hasUndefinedOctets(value: unknown): boolean {
  if (typeof value === "number") return !Number.isInteger(value);
  if (value instanceof Uint8Array) return value.some(octet => octet === undefined);
  return typeof value === "object" && value !== null && Object.values(value).some(hasUndefinedOctets);
}

function sample(): Uint8Array {
  const writer = new MessageWriter(16);
  const route: NewRoute = {
    family: 4,
    destination: Uint8Array.of(10, 0, 0, 0),
    length: 8,
    protocol: C.RTPROT_PODLANE,
    table: 1000,
    metric: 7,
    mtu: 1400,
    nextHops: [
      { gateway: Uint8Array.of(10, 1, 1, 1), ifindex: 3, weight: 2 },
      { gateway: new Uint8Array(16).fill(0xfe), ifindex: 4, onlink: true },
    ],
  };
  writer.begin(C.RTM_NEWROUTE, C.NLM_F_REQUEST, 1);
  encodeNewRoute(writer, route);
  writer.finish();
  writer.begin(C.RTM_NEWLINK, C.NLM_F_REQUEST, 2);
  encodeNewLink(writer, { kind: "vxlan", name: "vx0", id: 42, port: 4789, learning: true, local: Uint8Array.of(10, 0, 0, 1) });
  writer.finish();
  writer.begin(C.RTM_NEWRULE, C.NLM_F_REQUEST, 3);
  encodeRule(writer, { family: 4, priority: 9, table: 300, source: { address: Uint8Array.of(10, 2, 3, 4), length: 16 }, mark: 5 });
  writer.finish();
  return exact(writer.octets);
}

function only(octets: Uint8Array): Message {
  const message = readMessage(toBytes(octets), 0, octets.length);
  if (message === undefined) throw new Error("no message");
  return message;
}

describe("encoding", () => {
  test("a message has header, aligned attributes and nesting as linux/netlink.h lays them out", () => {
    const writer = new MessageWriter(4);
    writer.begin(0x1234, 0x0506, 0x0a0b0c0d);
    writer.attributeText(1, "ab");
    const nest = writer.open(2);
    writer.attributeU32(3, 0x01020304);
    writer.close(nest);
    writer.finish();
    expect(Buffer.from(writer.octets).toString("hex")).toBe(
      "24000000" + "3412" + "0605" + "0d0c0b0a" + "00000000" + "07000100" + "61620000" + "0c000280" + "08000300" + "04030201",
    );
  });

  test("what is encoded decodes to the same", () => {
    const octets = sample();
    const messages: Message[] = [];
    forEachMessage(toBytes(octets), octets.length, message => messages.push(message));
    expect(messages.map(message => message.sequence)).toEqual([1, 2, 3]);
    expect(decodeRoute(messages[0])).toEqual({
      family: 4,
      destination: Uint8Array.of(10, 0, 0, 0),
      length: 8,
      type: "unicast",
      protocol: C.RTPROT_PODLANE,
      table: 1000,
      scope: 0,
      metric: 7,
      mtu: 1400,
      nextHops: [
        { gateway: Uint8Array.of(10, 1, 1, 1), ifindex: 3, weight: 2 },
        { gateway: new Uint8Array(16).fill(0xfe), ifindex: 4, weight: 1, onlink: true },
      ],
    });
    const vxlan = { id: 42, port: 4789, learning: true, device: 0, local: Uint8Array.of(10, 0, 0, 1) };
    expect(decodeLink(messages[1])).toMatchObject({ name: "vx0", kind: "vxlan", vxlan });
    expect(decodeRule(messages[2])).toEqual({
      family: 4,
      priority: 9,
      table: 300,
      source: { address: Uint8Array.of(10, 2, 0, 0), length: 16 },
      mark: 5,
    });
  });

  test("an attribute beyond 65535 octets is refused", () => {
    const writer = new MessageWriter();
    expect(() => writer.attribute(1, new Uint8Array(65536))).toThrow(RangeError);
    const nest = writer.open(1);
    for (let i = 0; i < 9000; i++) writer.attributeU32(1, i);
    expect(() => writer.close(nest)).toThrow("at most 65535 octets");
  });

  test("an abandoned message leaves nothing, and flags go to the one before", () => {
    const writer = new MessageWriter();
    writer.begin(1, 0, 1);
    writer.finish();
    writer.begin(2, 0, 2);
    writer.u32(1);
    writer.abandon();
    writer.addFlags(C.NLM_F_ACK);
    expect(writer.length).toBe(16);
    expect(only(writer.octets)).toMatchObject({ type: 1, flags: C.NLM_F_ACK });
  });
});

describe("decoding hostile input", () => {
  test("a message that is cut anywhere is not read, and nothing before it is lost", () => {
    const octets = sample();
    for (let length = 0; length < octets.length; length++) expect(decodeEverything(exact(octets.subarray(0, length)))).toBeLessThan(3);
    expect(decodeEverything(octets)).toBe(3);
  });

  test("a length below the header or beyond the buffer ends the reading", () => {
    for (const length of [0, 1, 15, 17, 0x7fffffff, 0xffffffff]) {
      const octets = new Uint8Array(16);
      new DataView(octets.buffer).setUint32(0, length, true);
      expect(readMessage(toBytes(octets), 0, 16)).toBeUndefined();
    }
  });

  const attributesIn = (bytes: ReturnType<typeof toBytes>, end: number) => {
    const found: number[][] = [];
    forEachAttribute(bytes, 0, end, (type, from, to) => found.push([type, from, to]));
    return found;
  };

  test("an attribute that is shorter than its header or longer than its surroundings is none", () => {
    for (const length of [0, 3, 9, 0xffff]) {
      const octets = Uint8Array.of(length & 255, length >> 8, 1, 0, 0, 0, 0, 0);
      expect(attributesIn(toBytes(octets), 8)).toEqual([]);
    }
    const whole = toBytes(Uint8Array.of(8, 0, 1, 0x80, 9, 0, 0, 0));
    expect([attributesIn(whole, 8), attributesIn(whole, 9)]).toEqual([[[1, 4, 8]], []]);
    expect(readU32(whole, 4, 8)).toBe(9);
    expect(readU32(whole, 6, 8)).toBe(0);
    expect(readU32(whole, 6, 10)).toBe(0);
    expect(readText(whole, 4, 100)).toBe("\t");
  });

  test("a struct rtnexthop that claims no length, or too much, ends the list", () => {
    for (const lie of [0, 7, 0xffff]) {
      const octets = sample();
      const { bytes, start, end } = only(octets);
      forEachAttribute(bytes, start + 12, end, (type, from) => {
        if (type === C.RTA_MULTIPATH) bytes.view.setUint16(from, lie, true);
      });
      expect(decodeRoute(only(octets))?.nextHops).toEqual([]);
    }
  });

  test("random octets never throw, loop or read beyond", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(2, 16, 20, 24, 28, 32), (octets, type) => {
        // A plausible header, so that most runs reach the attributes.
        if (octets.length >= 32) {
          const view = new DataView(octets.buffer);
          view.setUint32(0, octets.length, true);
          view.setUint16(4, type, true);
          octets[16] = [0, 2, 7, 10][octets[16] & 3];
        }
        decodeEverything(octets);
      }),
      { numRuns: 3000 },
    );
  });

  test("real messages with any octets changed never throw, loop or read beyond", () => {
    const octets = sample();
    const change = fc.tuple(fc.nat({ max: octets.length - 1 }), fc.nat({ max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), changes => {
        const copy = exact(octets);
        for (const [at, value] of changes) copy[at] = value;
        decodeEverything(copy);
      }),
      { numRuns: 3000 },
    );
  });

  test("an error answer yields errno and text; a cut one yields errno alone", () => {
    const writer = new MessageWriter();
    writer.begin(C.NLMSG_ERROR, C.NLM_F_CAPPED | C.NLM_F_ACK_TLVS, 7);
    writer.u32(-22);
    for (let i = 0; i < 4; i++) writer.u32(0);
    writer.attributeText(C.NLMSGERR_ATTR_MSG, "bad thing");
    writer.finish();
    const octets = exact(writer.octets);
    expect(readFailure(only(octets))).toEqual({ errno: 22, detail: "bad thing" });
    const cut = exact(octets.subarray(0, 40));
    new DataView(cut.buffer).setUint32(0, 40, true);
    expect(readFailure(only(cut))).toEqual({ errno: 22, detail: "" });
  });
});
