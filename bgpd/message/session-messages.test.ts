import { describe, expect, it } from "vitest";
import { fromHex, message, messageError } from "./fixtures.ts";
import { MessageFramer, readHeader } from "./header.ts";
import { KEEPALIVE } from "./keepalive.ts";
import { decodeNotification, describeNotification, describeReceived, encodeCommunication, encodeNotification } from "./notification.ts";
import { decodeOpen, describeCapability, encodeOpen, negotiate, validateOpen } from "./open.ts";
import { decodeRouteRefresh, encodeRouteRefresh } from "./route-refresh.ts";
import type { OpenMessage } from "./types.ts";

const marker = "ff".repeat(16);

describe("header", () => {
  it("reads type and length", () => {
    expect(readHeader(fromHex(`${marker}001304`), 0)).toEqual({ type: 4, length: 19 });
    expect(readHeader(fromHex(`00${marker}ffff02`), 1, 65535)).toEqual({ type: 2, length: 65535 });
  });

  it.each([
    ["a marker bit is missing", `${"ff".repeat(15)}fe001304`, 4096, { code: 1, subcode: 1, data: "" }],
    ["shorter than a header", `${marker}001204`, 4096, { code: 1, subcode: 2, data: "0012" }],
    ["longer than 4096", `${marker}100102`, 4096, { code: 1, subcode: 2, data: "1001" }],
    ["type 0", `${marker}001300`, 4096, { code: 1, subcode: 3, data: "00" }],
    ["type 6", `${marker}001306`, 4096, { code: 1, subcode: 3, data: "06" }],
    ["short OPEN", `${marker}001c01`, 4096, { code: 1, subcode: 2, data: "001c" }],
    ["short UPDATE", `${marker}001602`, 4096, { code: 1, subcode: 2, data: "0016" }],
    ["short NOTIFICATION", `${marker}001403`, 4096, { code: 1, subcode: 2, data: "0014" }],
    ["long KEEPALIVE", `${marker}001404`, 65535, { code: 1, subcode: 2, data: "0014" }],
    ["OPEN above 4096 octets on an extended session", `${marker}100101`, 65535, { code: 1, subcode: 2, data: "1001" }],
    ["short ROUTE-REFRESH", `${marker}001605`, 4096, { code: 1, subcode: 2, data: "0016" }],
  ])("refuses: %s", (_what, hex, maxLength, expected) => {
    expect(messageError(() => readHeader(fromHex(hex), 0, maxLength))).toEqual(expected);
  });
});

describe("framer", () => {
  const messages = [KEEPALIVE, encodeRouteRefresh("ipv6-unicast"), encodeNotification(6, 2, encodeCommunication("bye")), KEEPALIVE];
  const stream = Uint8Array.from(messages.flatMap(octets => [...octets]));

  it("gives the same messages whatever the size of the chunks", () => {
    for (let size = 1; size <= stream.length; size++) {
      const framer = new MessageFramer(4096);
      const got: Uint8Array[] = [];
      for (let at = 0; at < stream.length; at += size) framer.push(stream.subarray(at, at + size), octets => got.push(octets.slice()));
      expect(got).toEqual(messages);
      expect(framer.pending).toBe(0);
    }
  });

  it("does not copy a message that lies in one chunk, and holds back only the tail", () => {
    const framer = new MessageFramer(4096);
    const buffers: ArrayBufferLike[] = [];
    framer.push(stream.subarray(0, stream.length - 1), octets => buffers.push(octets.buffer));
    expect(buffers).toEqual([stream.buffer, stream.buffer, stream.buffer]);
    expect(framer.pending).toBe(18);
  });

  it("obeys a limit changed by its callback from the next header on", () => {
    const long = message(2, "00000000".padEnd(2 * 5000, "0"));
    const framer = new MessageFramer(4096);
    const lengths: number[] = [];
    framer.push(Uint8Array.of(...KEEPALIVE, ...long.subarray(0, 100)), octets => {
      lengths.push(octets.length);
      framer.setMaxLength(65535);
    });
    framer.push(long.subarray(100), octets => lengths.push(octets.length));
    expect(lengths).toEqual([19, long.length]);
    expect(messageError(() => new MessageFramer(4096).push(long, () => {}))).toMatchObject({ code: 1, subcode: 2 });
  });

  it("refuses a header as soon as it is whole, and drops the rest after reset()", () => {
    const framer = new MessageFramer(4096);
    framer.push(fromHex(`${marker}0013`), () => {});
    expect(messageError(() => framer.push(Uint8Array.of(9), () => {}))).toEqual({ code: 1, subcode: 3, data: "09" });
    const other = new MessageFramer(4096);
    let count = 0;
    other.push(stream, () => {
      count++;
      other.reset();
    });
    expect([count, other.pending]).toEqual([1, 0]);
  });
});

describe("OPEN", () => {
  const local = {
    asn: 4200000001,
    holdTime: 90,
    bgpId: 0x0a000001,
    capabilities: {
      families: ["ipv4-unicast", "ipv6-unicast"] as const,
      fourOctetAsn: true,
      routeRefresh: true,
      extendedMessage: true,
      hostname: { host: "node1" },
    },
  };

  it("is encoded as RFC 4271, 4760, 2918, 8654 and 6793 draw it", () => {
    const parameters = "02 1f 0104 0001 0001 0104 0002 0001 0200 0600 4104 fa56ea01 4907 05 6e6f646531 00";
    expect(encodeOpen(local)).toEqual(message(1, `04 5ba0 005a 0a000001 21 ${parameters}`));
  });

  it("comes back as it was sent", () => {
    const open = decodeOpen(encodeOpen(local));
    expect(open).toMatchObject({ version: 4, asn: 4200000001, holdTime: 90, bgpId: 0x0a000001 });
    expect(open.capabilities).toMatchObject({
      families: ["ipv4-unicast", "ipv6-unicast"],
      fourOctetAsn: 4200000001,
      routeRefresh: true,
      extendedMessage: true,
      hostname: { host: "node1", domain: "" },
    });
    expect(open.capabilities.enhancedRouteRefresh).toBeUndefined();
    expect(open.capabilities.raw.map(describeCapability)).toEqual([
      "multiprotocol ipv4-unicast",
      "multiprotocol ipv6-unicast",
      "route refresh",
      "extended message",
      "4-octet AS 4200000001",
      "hostname node1",
    ]);
  });

  it("reads one capability per parameter, several per parameter, unknown ones, and graceful restart", () => {
    const parameters = "02 06 0104 0001 0001  02 02 0200  02 0b 4104 0000fde9 8000 c801 07  02 08 4006 c078 0001 01 80";
    const open = decodeOpen(message(1, `04 fde9 0000 c0000201 23 ${parameters}`));
    expect(open).toMatchObject({ asn: 65001, holdTime: 0 });
    expect(open.capabilities.families).toEqual(["ipv4-unicast"]);
    expect(open.capabilities.gracefulRestart).toEqual({
      restarted: true,
      notification: true,
      restartTime: 120,
      families: [{ afi: 1, safi: 1, forwarding: true }],
    });
    expect(open.capabilities.raw.map(({ code }) => code)).toEqual([1, 2, 65, 128, 200, 64]);
    expect(open.capabilities.raw[4]).toEqual({ code: 200, value: Uint8Array.of(7) });
  });

  it("reads extended optional parameters (RFC 9072)", () => {
    const open = decodeOpen(message(1, "04 5ba0 00b4 c0000201 ff ff 0009 02 0006 4104 00010000"));
    expect(open.asn).toBe(65536);
  });

  it.each([
    ["version 3", "03 fde9 00b4 c0000201 00", { code: 2, subcode: 1, data: "0004" }],
    ["AS 0", "04 0000 00b4 c0000201 00", { code: 2, subcode: 2, data: "" }],
    ["AS 0 in the capability", "04 fde9 00b4 c0000201 08 02 06 4104 00000000", { code: 2, subcode: 2, data: "" }],
    ["AS 0 beside another in the capability", "04 0000 00b4 c0000201 08 02 06 4104 0000fde9", { code: 2, subcode: 2, data: "" }],
    ["another AS in the capability", "04 fde9 00b4 c0000201 08 02 06 4104 0000fdea", { code: 2, subcode: 2, data: "" }],
    ["AS_TRANS alone", "04 5ba0 00b4 c0000201 00", { code: 2, subcode: 2, data: "" }],
    ["AS_TRANS in the capability", "04 5ba0 00b4 c0000201 08 02 06 4104 00005ba0", { code: 2, subcode: 2, data: "" }],
    ["AS 65535", "04 ffff 00b4 c0000201 00", { code: 2, subcode: 2, data: "" }],
    ["AS 4294967295", "04 5ba0 00b4 c0000201 08 02 06 4104 ffffffff", { code: 2, subcode: 2, data: "" }],
    ["identifier 0", "04 fde9 00b4 00000000 00", { code: 2, subcode: 3, data: "00000000" }],
    ["hold time 1", "04 fde9 0001 c0000201 00", { code: 2, subcode: 6, data: "0001" }],
    ["hold time 2", "04 fde9 0002 c0000201 00", { code: 2, subcode: 6, data: "0002" }],
    ["authentication parameter", "04 fde9 00b4 c0000201 03 01 01 aa", { code: 2, subcode: 4, data: "0101aa" }],
    ["parameters longer than the message", "04 fde9 00b4 c0000201 05 02 02 0200", { code: 2, subcode: 0, data: "" }],
    ["octets after the parameters", "04 fde9 00b4 c0000201 04 02 02 0200 00", { code: 2, subcode: 0, data: "" }],
    ["a parameter cut off", "04 fde9 00b4 c0000201 01 02", { code: 2, subcode: 0, data: "" }],
    ["a parameter too long", "04 fde9 00b4 c0000201 04 02 04 0200", { code: 2, subcode: 0, data: "" }],
    ["a capability too long", "04 fde9 00b4 c0000201 05 02 03 0202 00", { code: 2, subcode: 0, data: "" }],
    ["half a capability", "04 fde9 00b4 c0000201 05 02 03 0200 02", { code: 2, subcode: 0, data: "" }],
    ["multiprotocol of 3 octets", "04 fde9 00b4 c0000201 07 02 05 0103 000101", { code: 2, subcode: 0, data: "0103000101" }],
    ["extended parameters cut off", "04 fde9 00b4 c0000201 ff ff 0009 02", { code: 2, subcode: 0, data: "" }],
  ])("refuses: %s", (_what, body, expected) => {
    expect(messageError(() => decodeOpen(message(1, body)))).toEqual(expected);
  });

  const plain = decodeOpen(message(1, "04 fde9 001e c0000201 00"));

  it.each<[string, Parameters<typeof validateOpen>[1], { code: number; subcode: number; data: string } | undefined]>([
    ["the AS configured", { remoteAsn: 65001, localAsn: 65000, localId: 1 }, undefined],
    ["another AS", { remoteAsn: 65002, localAsn: 65000, localId: 1 }, { code: 2, subcode: 2, data: "" }],
    ["internal, same AS", { remoteAsn: "internal", localAsn: 65001, localId: 1 }, undefined],
    ["internal, other AS", { remoteAsn: "internal", localAsn: 65000, localId: 1 }, { code: 2, subcode: 2, data: "" }],
    ["external, same AS", { remoteAsn: "external", localAsn: 65001, localId: 1 }, { code: 2, subcode: 2, data: "" }],
    ["our identifier, same AS", { remoteAsn: "internal", localAsn: 65001, localId: 0xc0000201 }, { code: 2, subcode: 3, data: "c0000201" }],
    ["our identifier, other AS (RFC 6286)", { remoteAsn: "external", localAsn: 65000, localId: 0xc0000201 }, undefined],
    ["IPv4 without capability", { remoteAsn: 65001, localAsn: 65000, localId: 1, families: ["ipv4-unicast"] }, undefined],
    [
      "no family in common",
      { remoteAsn: 65001, localAsn: 65000, localId: 1, families: ["ipv6-unicast"] },
      { code: 2, subcode: 7, data: "010400020001" },
    ],
  ])("validates: %s", (_what, expectation, expected) => {
    if (expected === undefined) expect(() => validateOpen(plain, expectation)).not.toThrow();
    else expect(messageError(() => validateOpen(plain, expectation))).toEqual(expected);
  });

  it("negotiates what both announced", () => {
    const theirs = decodeOpen(encodeOpen({ ...local, asn: 65001, holdTime: 30, bgpId: 2, capabilities: { ...local.capabilities } }));
    expect(negotiate(local, theirs)).toMatchObject({
      localAsn: 4200000001,
      remoteAsn: 65001,
      internal: false,
      remoteId: 2,
      holdTime: 30,
      keepaliveTime: 10,
      families: ["ipv4-unicast", "ipv6-unicast"],
      fourOctetAsn: true,
      routeRefresh: true,
      maxMessageLength: 65535,
    });
    expect(negotiate(local, plain)).toMatchObject({
      families: ["ipv4-unicast"],
      fourOctetAsn: false,
      routeRefresh: false,
      maxMessageLength: 4096,
      remoteCapabilities: { raw: [] },
    });
  });

  it("takes the smaller hold time, 0 if one side has none, and keepalives of at most a third", () => {
    const times = (holdTime: number, theirs: number, keepaliveTime?: number) => {
      const open: OpenMessage = { ...plain, holdTime: theirs };
      const got = negotiate({ ...local, holdTime, keepaliveTime }, open);
      return [got.holdTime, got.keepaliveTime];
    };
    expect(times(90, 180)).toEqual([90, 30]);
    expect(times(90, 0)).toEqual([0, 0]);
    expect(times(0, 90, 10)).toEqual([0, 0]);
    expect(times(3, 90)).toEqual([3, 1]);
    expect(times(90, 90, 5)).toEqual([90, 5]);
    expect(times(90, 9, 30)).toEqual([9, 3]);
  });
});

describe("NOTIFICATION", () => {
  it("comes back as it was sent", () => {
    const octets = encodeNotification(1, 2, Uint8Array.of(0, 5));
    expect(octets).toEqual(message(3, "01 02 0005"));
    expect(decodeNotification(octets)).toEqual({ code: 1, subcode: 2, data: Uint8Array.of(0, 5) });
    expect(encodeNotification(3, 1, new Uint8Array(9000))).toHaveLength(4096);
  });

  it.each([
    ["06 02 07 75706772616465", 'Cease/Administrative Shutdown: "upgrade"'],
    ["06 04 00", "Cease/Administrative Reset"],
    ["06 02", "Cease/Administrative Shutdown"],
    ["06 02 09 75706772616465", "Cease/Administrative Shutdown: data 0975706772616465 (not a shutdown communication)"],
    ["06 02 02 c328", "Cease/Administrative Shutdown: data 02c328 (not valid UTF-8)"],
    ["06 02 04 611b5b62", 'Cease/Administrative Shutdown: "a [b"'],
    ["06 01 0001 01 0000c350", "Cease/Maximum Number of Prefixes Reached: ipv4-unicast, limit 50000"],
    ["06 08", "Cease/Out of Resources"],
    ["06 09 06 02 02 6869", 'Cease/Hard Reset: Cease/Administrative Shutdown: "hi"'],
    ["06 09 06 09 06 09", "Cease/Hard Reset: Cease/Hard Reset"],
    ["06 0a", "Cease/BFD Down"],
    ["01 02 0005", "Message Header Error/Bad Message Length: length 5"],
    ["01 03 09", "Message Header Error/Bad Message Type: type 9"],
    ["02 01 0004", "OPEN Message Error/Unsupported Version Number: version 4 is supported"],
    ["02 02", "OPEN Message Error/Bad Peer AS"],
    ["02 02 fdf3", "OPEN Message Error/Bad Peer AS: AS 65011"],
    ["02 02 0001fdf3", "OPEN Message Error/Bad Peer AS: AS 130547"],
    ["02 03 0a000001", "OPEN Message Error/Bad BGP Identifier: 10.0.0.1"],
    ["02 04 02", "OPEN Message Error/Unsupported Optional Parameter: parameter 2 (capabilities)"],
    ["02 06 0001", "OPEN Message Error/Unacceptable Hold Time: 1 s"],
    ["02 07 0104 0002 0001 4104 0000fdf3", "OPEN Message Error/Unsupported Capability: multiprotocol ipv6-unicast, 4-octet AS 65011"],
    ["02 07 0109 0002", "OPEN Message Error/Unsupported Capability: data 01090002"],
    [`02 07${" 0200".repeat(20)}`, `OPEN Message Error/Unsupported Capability: ${Array(8).fill("route refresh").join(", ")} and 12 more`],
    ["02 0b", "OPEN Message Error/Role Mismatch"],
    ["02 08", "OPEN Message Error/subcode 8"],
    ["03 03 02", "UPDATE Message Error/Missing Well-known Attribute: AS_PATH"],
    ["03 05 400102", "UPDATE Message Error/Attribute Length Error: ORIGIN (flags 0x40, length 2)"],
    ["03 06 40010107", "UPDATE Message Error/Invalid ORIGIN Attribute: ORIGIN (flags 0x40, length 1, value 07)"],
    ["03 02 d0fd0002abcd", "UPDATE Message Error/Unrecognized Well-known Attribute: attribute 253 (flags 0xd0, length 2, value abcd)"],
    ["03 08 40", "UPDATE Message Error/Invalid NEXT_HOP Attribute: data 40"],
    ["03 09 c00600", "UPDATE Message Error/Optional Attribute Error: ATOMIC_AGGREGATE (flags 0xc0, length 0)"],
    ["04 00", "Hold Timer Expired"],
    ["05 03 02", "Finite State Machine Error/Unexpected Message in Established State: UPDATE"],
    ["05 01 09", "Finite State Machine Error/Unexpected Message in OpenSent State: message of type 9"],
    ["05 01 0909", "Finite State Machine Error/Unexpected Message in OpenSent State: data 0909"],
    ["07 01", "ROUTE-REFRESH Message Error/Invalid Message Length"],
    ["07 01 0001 0001", "ROUTE-REFRESH Message Error/Invalid Message Length: ipv4-unicast, subtype 0, message of 4 octets"],
    [
      `07 01 ${"ff".repeat(16)} 0018 05 0002 0301 aa`,
      "ROUTE-REFRESH Message Error/Invalid Message Length: ipv6-unicast, subtype 3, message of 24 octets",
    ],
    ["08 00", "Send Hold Timer Expired"],
    ["2a 07", "error code 42/subcode 7"],
  ])("says in words what %s is", (body, words) => {
    expect(describeNotification(decodeNotification(message(3, body)))).toBe(words);
  });

  it.each([
    ["02 02", "OPEN Message Error/Bad Peer AS: it expects another AS than 65011"],
    ["02 02 fdf3", "OPEN Message Error/Bad Peer AS: AS 65011: it expects another AS than 65011"],
    ["02 03", "OPEN Message Error/Bad BGP Identifier: it does not accept the router id 10.0.0.1"],
    ["02 06 005a", "OPEN Message Error/Unacceptable Hold Time: 90 s: it does not accept the hold time of 90 s"],
    [
      "02 07 0104 0002 0001",
      "OPEN Message Error/Unsupported Capability: multiprotocol ipv6-unicast: it asks for capabilities that were not announced to it",
    ],
    ["06 09 02 02", "Cease/Hard Reset: OPEN Message Error/Bad Peer AS: it expects another AS than 65011"],
    ["06 02", "Cease/Administrative Shutdown"],
  ])("says of %s, from a neighbour, what it thinks of our OPEN", (body, words) => {
    expect(describeReceived(decodeNotification(message(3, body)), { asn: 65011, id: 0x0a000001, holdTime: 90 })).toBe(words);
  });

  it("bounds what a neighbour can make us print", () => {
    expect(describeNotification({ code: 3, subcode: 1, data: new Uint8Array(4000) }).length).toBeLessThan(200);
  });

  it("cuts a communication at a character", () => {
    const octets = encodeCommunication("ä".repeat(200));
    expect([octets[0], octets.length]).toEqual([254, 255]);
    expect(describeNotification({ code: 6, subcode: 2, data: octets })).toBe(`Cease/Administrative Shutdown: "${"ä".repeat(127)}"`);
  });
});

describe("ROUTE-REFRESH and KEEPALIVE", () => {
  it("encodes and decodes", () => {
    expect(KEEPALIVE).toEqual(message(4, ""));
    expect(encodeRouteRefresh("ipv6-unicast")).toEqual(message(5, "0002 00 01"));
    expect(decodeRouteRefresh(encodeRouteRefresh("ipv4-unicast", 1))).toEqual({ family: "ipv4-unicast", afi: 1, safi: 1, subtype: 1 });
    expect(decodeRouteRefresh(message(5, "0019 00 41"))).toEqual({ family: undefined, afi: 25, safi: 65, subtype: 0 });
  });

  it("refuses another length with 7/1 and the whole message", () => {
    const long = message(5, "0001 01 01 00");
    expect(messageError(() => decodeRouteRefresh(long))).toEqual({ code: 7, subcode: 1, data: Buffer.from(long).toString("hex") });
  });
});
