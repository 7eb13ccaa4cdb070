import { describe, expect, it } from "vitest";
import { hexOf } from "../../net/octets.ts";
import { parseAttributes } from "./attributes.ts";
import { message, messageError, update } from "./fixtures.ts";
import { attributesView } from "./format.ts";
import { UpdateDecoder, type UpdateDecoderOptions } from "./update-decoder.ts";

const internal: UpdateDecoderOptions = { fourOctetAsn: true, internal: true, families: ["ipv4-unicast", "ipv6-unicast"] };
const external: UpdateDecoderOptions = { ...internal, internal: false };

const origin = "40010100";
const path = "400206 0201 0000fde9";
const nextHop = "400304 c0000201";
const good = `${origin} ${path} ${nextHop}`;
const global = `20010db8${"00".repeat(11)}01`;
const mpReach = `800e1e 0002 01 10 ${global} 00 40 20010db800000001`;
const canonicalGood = "40010001004002000602010000fde940030004c0000201";

function decode(octets: Uint8Array, options = internal): UpdateDecoder {
  const decoder = new UpdateDecoder(options);
  decoder.decode(octets);
  return decoder;
}

function canonical(decoder: UpdateDecoder, i = 0): string {
  decoder.canonical(i);
  return hexOf(decoder.octets.subarray(0, decoder.octetsLength));
}

/** Canonical octets of attributes beside the three mandatory ones, which are cut off. */
function extra(attributes: string, options = internal): string {
  const decoder = decode(update({ attributes: `${good} ${attributes}`, nlri: "00" }), options);
  expect(decoder.treatAsWithdraw).toBe(false);
  const octets = canonical(decoder);
  expect(octets.startsWith(canonicalGood)).toBe(true);
  return octets.slice(canonicalGood.length);
}

function ranges(decoder: UpdateDecoder, octets: Uint8Array) {
  const range = (start: number, end: number) => hexOf(octets.subarray(start, end));
  return {
    withdrawn: Array.from({ length: decoder.withdrawnCount }, (_, i) => [
      decoder.withdrawnFamily[i],
      range(decoder.withdrawnStart[i], decoder.withdrawnEnd[i]),
    ]),
    announced: Array.from({ length: decoder.announcedCount }, (_, i) => [
      decoder.announcedFamily[i],
      range(decoder.announcedStart[i], decoder.announcedEnd[i]),
      range(decoder.announcedNextHopStart[i], decoder.announcedNextHopStart[i] + decoder.announcedNextHopLength[i]),
    ]),
  };
}

describe("well-formed UPDATEs", () => {
  it("both fields and both MP attributes in one message", () => {
    const octets = update({
      withdrawn: "08 0a",
      attributes: `${mpReach} ${good} 800f07 0002 01 18 20010d`,
      nlri: "18 c63364 00",
    });
    const decoder = decode(octets);
    expect(ranges(decoder, octets)).toEqual({
      withdrawn: [
        [0, "080a"],
        [1, "1820010d"],
      ],
      announced: [
        [0, "18c6336400", "c0000201"],
        [1, "4020010db800000001", global],
      ],
    });
    expect([decoder.treatAsWithdraw, decoder.endOfRib, decoder.problems]).toEqual([false, undefined, []]);
    expect(canonical(decoder, 0)).toBe(canonicalGood);
    expect(canonical(decoder, 1)).toBe(`40010001004002000602010000fde940030010${global}`);
  });

  it("attributes in any order, with extended length, become ascending", () => {
    const octets = update({ attributes: `50030004 c0000201 800404 00000005 ${path} 5001 0001 00`, nlri: "00" });
    expect(canonical(decode(octets))).toBe(`${canonicalGood}8004000400000005`);
  });

  it("global and link-local next hop (RFC 2545); a second address that is not link-local is dropped", () => {
    const linkLocal = `fe80${"00".repeat(13)}02`;
    const octets = (second: string) => update({ attributes: `800e27 0002 01 20 ${global} ${second} 00 0820 ${origin} ${path}` });
    // MP_REACH_NLRI: 4 + 32 + 1 + 2 octets.
    expect(canonical(decode(octets(linkLocal)))).toBe(`40010001004002000602010000fde940030020${global}${linkLocal}`);
    expect(canonical(decode(octets("00".repeat(16))))).toBe(`40010001004002000602010000fde940030010${global}`);
  });

  it("a link-local next hop alone, in one place, in both, or behind the unspecified address as BIRD sends it", () => {
    const linkLocal = `fe80${"00".repeat(13)}02`;
    const octets = (length: string, hop: string) => {
      const value = `0002 01 ${length} ${hop} 00 0820`;
      return update({ attributes: `800e${length === "10" ? "17" : "27"} ${value} ${origin} ${path}` });
    };
    const alone = `40010001004002000602010000fde940030010${linkLocal}`;
    expect(canonical(decode(octets("10", linkLocal)))).toBe(alone);
    expect(canonical(decode(octets("20", "00".repeat(16) + linkLocal)))).toBe(alone);
    expect(canonical(decode(octets("20", linkLocal + linkLocal)))).toBe(`40010001004002000602010000fde940030020${linkLocal}${linkLocal}`);
    const nowhere = decode(octets("20", "00".repeat(32)));
    expect([nowhere.treatAsWithdraw, nowhere.announcedCount]).toEqual([true, 1]);
  });

  it("IPv4 in MP_REACH_NLRI, with an IPv6 next hop only where that was negotiated (RFC 8950)", () => {
    const octets = update({ attributes: `800e0b 0001 01 04 c0000201 00 08 0a ${origin} ${path}` });
    expect(canonical(decode(octets))).toBe(canonicalGood);
    const ipv6 = update({ attributes: `800e17 0001 01 10 ${global} 00 08 0a ${origin} ${path}` });
    expect(messageError(() => decode(ipv6))).toMatchObject({ code: 3, subcode: 9 });
    expect(canonical(decode(ipv6, { ...internal, extendedNextHop: true }))).toBe(`40010001004002000602010000fde940030010${global}`);
  });

  it("End-of-RIB of each family, and what is none", () => {
    expect(decode(update({})).endOfRib).toBe(0);
    expect(decode(update({ attributes: "800f03 0002 01" })).endOfRib).toBe(1);
    expect(decode(update({ attributes: "900f0003 0001 01" })).endOfRib).toBe(0);
    expect(decode(update({ withdrawn: "00" })).endOfRib).toBeUndefined();
    expect(decode(update({ withdrawn: "00", attributes: "800f03 0002 01" })).endOfRib).toBeUndefined();
    expect(decode(update({ attributes: `800f03 0002 01 ${origin}` })).endOfRib).toBeUndefined();
    const ipv6 = { ...internal, families: ["ipv6-unicast"] as const };
    expect(decode(update({}), ipv6).endOfRib).toBeUndefined();
    const other = decode(update({ attributes: "800f03 0019 41" }));
    expect([other.endOfRib, other.problems.length]).toEqual([undefined, 1]);
  });

  it("results of one message leave nothing in the next", () => {
    const decoder = decode(update({ attributes: `${good} 800404 00000005`, nlri: "080a" }));
    decoder.decode(update({ attributes: good, nlri: "00" }));
    expect(canonical(decoder)).toBe(canonicalGood);
    decoder.decode(update({ attributes: `${origin} ${nextHop}`, nlri: "00" }));
    expect(decoder.treatAsWithdraw).toBe(true);
    decoder.decode(update({}));
    expect([decoder.announcedCount, decoder.treatAsWithdraw, decoder.problems]).toEqual([0, false, []]);
  });

  it.each([
    ["LOCAL_PREF", "400504 00000064", "4005000400000064"],
    ["ATOMIC_AGGREGATE", "400600", "40060000"],
    ["AGGREGATOR", "c00708 00011170 c0000209", "c007000800011170c0000209"],
    ["COMMUNITIES sorted, once each", "c0080c fde90064 00000001 fde90064", "c008000800000001fde90064"],
    ["AGGREGATOR with Partial", "e00708 00011170 c0000209", "e007000800011170c0000209"],
    ["COMMUNITIES with Partial", "e00804 fde90064", "e0080004fde90064"],
    ["EXTENDED_COMMUNITIES with Partial", "e01008 0002fde900000001", "e01000080002fde900000001"],
    ["LARGE_COMMUNITY with Partial", "e0200c 000000010000000000000000", "e020000c000000010000000000000000"],
    ["LOCAL_PREF without the Partial bit it cannot have", "600504 00000064", "4005000400000064"],
    ["ORIGINATOR_ID", "800904 0a000001", "800900040a000001"],
    ["CLUSTER_LIST in its order", "800a08 0a000002 0a000001", "800a00080a0000020a000001"],
    ["EXTENDED_COMMUNITIES sorted", "c01010 0002fde900000064 0002fde900000001", "c01000100002fde9000000010002fde900000064"],
    [
      "LARGE_COMMUNITY sorted, once each",
      "c02024 00000002 00000000 00000000 00000001 00000000 00000000 00000002 00000000 00000000",
      "c0200018000000010000000000000000000000020000000000000000",
    ],
    ["unknown transitive: Partial is set", "c02304 0000fde9", "e02300040000fde9"],
    ["unknown non-transitive: dropped", "801a02 0000", ""],
    ["AS4_PATH on a 4-octet session: dropped", "c01106 0201 00011170", ""],
    ["AS4_AGGREGATOR on a 4-octet session: dropped", "c01208 00011171 c0000209", ""],
  ])("keeps %s", (_what, attributes, expected) => {
    expect(extra(attributes)).toBe(expected);
    expect(decode(update({ attributes: `${good} ${attributes}`, nlri: "00" })).problems).toEqual([]);
  });
});

describe("2-octet sessions (RFC 6793)", () => {
  const options = { ...internal, fourOctetAsn: false };
  const view = (attributes: string) => {
    const decoder = decode(update({ attributes: `${origin} ${nextHop} ${attributes}`, nlri: "00" }), options);
    expect(decoder.treatAsWithdraw).toBe(false);
    decoder.canonical(0);
    const { asPath, aggregator, unknown } = attributesView(parseAttributes(decoder.octets, 0, decoder.octetsLength));
    expect(unknown).toBeUndefined();
    return { asPath, aggregator, problems: decoder.problems.map(({ name, action }) => `${name}: ${action}`) };
  };
  const as4Path = "c0110a 0202 00011170 00011171";

  it.each([
    ["no AS4_PATH", "400206 0202 fde9 5ba0", "65001 23456"],
    ["AS4_PATH of the same length", `400206 0202 5ba0 5ba0 ${as4Path}`, "70000 70001"],
    ["a 2-octet speaker in front", `400208 0203 fde9 5ba0 5ba0 ${as4Path}`, "65001 70000 70001"],
    ["two segments in front", `40020c 0201 0001 0203 fde9 5ba0 5ba0 ${as4Path}`, "1 65001 70000 70001"],
    ["AS4_PATH longer than AS_PATH: ignored", `400204 0201 5ba0 ${as4Path}`, "23456"],
    ["an AS_SET counts one", `40020a 0201 fde9 0102 0007 0008 ${as4Path}`, "70000 70001"],
    ["an AS_SET in front", `40020e 0102 0007 0008 0203 fde9 5ba0 5ba0 ${as4Path}`, "{7 8} 65001 70000 70001"],
    ["a leading confederation stays", `40020a 0301 fc00 0202 5ba0 5ba0 ${as4Path}`, "(64512) 70000 70001"],
    ["confederations in AS4_PATH are dropped", "400206 0202 5ba0 5ba0 c01110 0301 0000fc00 0202 00011170 00011171", "70000 70001"],
  ])("%s", (_what, attributes, asPath) => {
    expect(view(attributes)).toEqual({ asPath, aggregator: undefined, problems: [] });
  });

  it("AS4_AGGREGATOR replaces an AGGREGATOR of AS_TRANS", () => {
    expect(view("400204 0201 fde9 c00706 5ba0 c0000209 c01208 00011171 c0000209").aggregator).toBe("70001 192.0.2.9");
  });

  it("AGGREGATOR of another AS: both AS4 attributes are ignored", () => {
    expect(view(`400206 0202 5ba0 5ba0 c00706 fde9 c0000209 ${as4Path} c01208 00011171 c0000209`)).toMatchObject({
      asPath: "23456 23456",
      aggregator: "65001 192.0.2.9",
    });
  });

  it("AS4_AGGREGATOR alone is ignored", () => {
    expect(view("400204 0201 fde9 c01208 00011171 c0000209")).toMatchObject({ asPath: "65001", aggregator: undefined });
  });

  it.each([
    ["AS4_PATH cut off", "c01105 0202 000111"],
    ["AS4_PATH with AS 0", "c01106 0201 00000000"],
    ["AS4_PATH with wrong flags", "801106 0201 00011170"],
  ])("%s is discarded", (_what, attribute) => {
    expect(view(`400204 0201 5ba0 ${attribute}`)).toMatchObject({ asPath: "23456", problems: ["AS4_PATH: attribute-discard"] });
  });

  it("AS4_AGGREGATOR of a wrong length is discarded", () => {
    expect(view("400204 0201 fde9 c00706 5ba0 c0000209 c01207 00011171 c00002")).toMatchObject({
      aggregator: "23456 192.0.2.9",
      problems: ["AS4_AGGREGATOR: attribute-discard"],
    });
  });

  it("a path that grows above 65535 octets is treated as withdraw", () => {
    const segments = `02ff${"0001".repeat(255)}`.repeat(70);
    const length = (segments.length / 2).toString(16).padStart(4, "0");
    const decoder = decode(update({ attributes: `${origin} ${nextHop} 5002 ${length} ${segments}`, nlri: "00" }), options);
    expect(decoder.treatAsWithdraw).toBe(true);
  });
});

describe("faults that withdraw (RFC 7606)", () => {
  const attributes = (replacement: { [name: string]: string }) => Object.values({ origin, path, nextHop, ...replacement }).join(" ");

  it.each<[string, string, number, UpdateDecoderOptions?]>([
    ["ORIGIN missing", `${path} ${nextHop}`, 1],
    ["AS_PATH missing", `${origin} ${nextHop}`, 2],
    ["NEXT_HOP missing", `${origin} ${path}`, 3],
    ["ORIGIN of 2 octets", attributes({ origin: "400102 0000" }), 1],
    ["ORIGIN 3", attributes({ origin: "40010103" }), 1],
    ["ORIGIN marked optional", attributes({ origin: "c0010100" }), 1],
    ["ORIGIN marked non-transitive", attributes({ origin: "00010100" }), 1],
    ["AS_PATH segment type 5", attributes({ path: "400206 0501 0000fde9" }), 2],
    ["AS_PATH segment empty", attributes({ path: "400202 0200" }), 2],
    ["AS_PATH segment cut off", attributes({ path: "400206 0202 0000fde9" }), 2],
    ["AS_PATH with one octet left", attributes({ path: "400207 0201 0000fde9 02" }), 2],
    ["AS_PATH with AS 0, external", attributes({ path: "40020a 0202 0000fde9 00000000" }), 2, external],
    ["AS_PATH with a confederation, external", attributes({ path: "400206 0301 0000fde9" }), 2, external],
    ["NEXT_HOP of 5 octets", attributes({ nextHop: "400305 c000020100" }), 3],
    ["NEXT_HOP 0.0.0.0", attributes({ nextHop: "400304 00000000" }), 3],
    ["NEXT_HOP 127.0.0.1", attributes({ nextHop: "400304 7f000001" }), 3],
    ["NEXT_HOP 224.0.0.1", attributes({ nextHop: "400304 e0000001" }), 3],
    ["NEXT_HOP 255.255.255.255", attributes({ nextHop: "400304 ffffffff" }), 3],
    ["MULTI_EXIT_DISC of 3 octets", `${good} 800403 000000`, 4],
    ["LOCAL_PREF of 3 octets, internal", `${good} 400503 000000`, 5],
    ["AGGREGATOR marked well-known", `${good} 400708 00011170 c0000209`, 7],
    ["COMMUNITIES of 5 octets", `${good} c00805 0000000000`, 8],
    ["COMMUNITIES empty", `${good} c00800`, 8],
    ["ORIGINATOR_ID of 5 octets, internal", `${good} 800905 0a00000100`, 9],
    ["CLUSTER_LIST of 6 octets, internal", `${good} 800a06 0a0000010a00`, 10],
    ["CLUSTER_LIST empty, internal", `${good} 800a00`, 10],
    ["EXTENDED_COMMUNITIES of 4 octets", `${good} c01004 00000000`, 16],
    ["LARGE_COMMUNITY of 8 octets", `${good} c02008 0000000000000000`, 32],
    ["LARGE_COMMUNITY empty", `${good} c02000`, 32],
    ["the last attribute longer than the list", `${good} c00808 00000001`, 0],
    ["one octet left in the list", `${good} 40`, 0],
    ["an extended length cut off", `${good} d00800`, 0],
  ])("%s", (_what, list, code, options = internal) => {
    const octets = update({ attributes: list, nlri: "18c63364" });
    const decoder = decode(octets, options);
    expect(decoder.treatAsWithdraw).toBe(true);
    expect(decoder.problems).toHaveLength(1);
    expect(decoder.problems[0]).toMatchObject({ code, action: "treat-as-withdraw" });
    expect(ranges(decoder, octets).announced.map(([family, nlri]) => [family, nlri])).toEqual([[0, "18c63364"]]);
  });

  it("in an UPDATE of both families withdraws both", () => {
    const octets = update({ attributes: `${mpReach} 40010103 ${path} ${nextHop}`, nlri: "00" });
    const decoder = decode(octets);
    expect([decoder.treatAsWithdraw, decoder.announcedCount]).toEqual([true, 2]);
  });

  it.each([
    ["unspecified", "00".repeat(16)],
    ["loopback", `${"00".repeat(15)}01`],
    ["multicast", `ff02${"00".repeat(13)}01`],
  ])("IPv6 next hop %s", (_what, address) => {
    const decoder = decode(update({ attributes: `${origin} ${path} 800e17 0002 01 10 ${address} 00 0820` }));
    expect([decoder.treatAsWithdraw, decoder.announcedCount]).toEqual([true, 1]);
  });

  it("MP_REACH_NLRI with wrong flags still names its prefixes", () => {
    const octets = update({ attributes: `${mpReach.replace("800e", "c00e")} ${origin} ${path}` });
    const decoder = decode(octets);
    expect(decoder.treatAsWithdraw).toBe(true);
    expect(ranges(decoder, octets).announced[0]).toEqual([1, "4020010db800000001", global]);
  });

  it("a wrong NEXT_HOP beside MP_REACH_NLRI alone is ignored (RFC 4760 section 3)", () => {
    const decoder = decode(update({ attributes: `${mpReach} ${origin} ${path} 400304 00000000` }));
    expect([decoder.treatAsWithdraw, decoder.problems]).toEqual([false, []]);
    expect(canonical(decoder)).toContain(global);
  });

  it("NEXT_HOP is not needed without classic NLRI, nothing is needed to withdraw", () => {
    expect(decode(update({ attributes: `${mpReach} ${origin} ${path}` })).treatAsWithdraw).toBe(false);
    expect(decode(update({ withdrawn: "00" })).treatAsWithdraw).toBe(false);
    expect(decode(update({ attributes: "800f04 0002 01 00" })).treatAsWithdraw).toBe(false);
  });
});

describe("faults that discard an attribute (RFC 7606)", () => {
  it.each<[string, string, number, string, UpdateDecoderOptions?]>([
    ["ATOMIC_AGGREGATE of 1 octet", "400601 00", 6, ""],
    ["AGGREGATOR of 6 octets on a 4-octet session", "c00706 fde9 c0000209", 7, ""],
    ["AGGREGATOR with AS 0", "c00708 00000000 c0000209", 7, ""],
    ["LOCAL_PREF from outside, whatever it is", "c00503 000000", 5, "", external],
    ["ORIGINATOR_ID from outside", "800904 0a000001", 9, "", external],
    ["CLUSTER_LIST from outside", "800a05 0a00000100", 10, "", external],
    ["a second MULTI_EXIT_DISC: the first counts", "800404 00000001 800404 00000002", 4, "8004000400000001"],
    ["a second ORIGIN, itself wrong", "40010109", 1, ""],
    ["a second unknown attribute", "c02301 01 c02301 02", 35, "e023000101"],
  ])("%s", (_what, attributes, code, kept, options = internal) => {
    const octets = update({ attributes: `${good} ${attributes}`, nlri: "00" });
    const decoder = decode(octets, options);
    expect(decoder.treatAsWithdraw).toBe(false);
    expect(decoder.problems).toEqual([expect.objectContaining({ code, action: "attribute-discard" })]);
    expect(extra(attributes, options)).toBe(kept);
  });

  it("families that were not negotiated are passed over", () => {
    const octets = update({ attributes: `${mpReach} ${good} 800f04 0002 01 00`, nlri: "00" });
    const decoder = decode(octets, { ...internal, families: ["ipv4-unicast"] });
    expect(ranges(decoder, octets)).toMatchObject({ withdrawn: [], announced: [[0, "00", "c0000201"]] });
    expect(decoder.problems.map(({ code, action }) => [code, action])).toEqual([
      [15, "attribute-discard"],
      [14, "attribute-discard"],
    ]);
    const ipv6 = decode(update({ withdrawn: "00", attributes: `${mpReach} ${origin} ${path}`, nlri: "00" }), {
      ...internal,
      families: ["ipv6-unicast"],
    });
    expect([ipv6.announcedCount, ipv6.announcedFamily[0], ipv6.withdrawnCount, ipv6.treatAsWithdraw]).toEqual([1, 1, 0, false]);
    const vpn = decode(update({ attributes: `800e05 0019 41 ff 00 ${good}`, nlri: "00" }));
    expect([vpn.announcedCount, vpn.treatAsWithdraw]).toEqual([1, false]);
  });

  it("problems of one message are bounded", () => {
    const decoder = decode(update({ attributes: `${good} ${"c02300".repeat(500)}`, nlri: "00" }));
    expect(decoder.problems).toHaveLength(16);
    expect(decoder.treatAsWithdraw).toBe(false);
  });
});

describe("faults that end the session (RFC 7606)", () => {
  it.each<[string, Uint8Array, { code: number; subcode: number; data?: string }]>([
    ["withdrawn routes longer than the message", message(2, "0001 0000"), { code: 3, subcode: 1 }],
    ["attributes longer than the message", message(2, "0000 0001"), { code: 3, subcode: 1 }],
    ["MP_REACH_NLRI twice", update({ attributes: `${mpReach} ${mpReach} ${good}` }), { code: 3, subcode: 1 }],
    ["MP_UNREACH_NLRI twice", update({ attributes: "800f03 0002 01 800f03 0002 01" }), { code: 3, subcode: 1 }],
    ["NLRI length 33", update({ attributes: good, nlri: "21 0a00000000" }), { code: 3, subcode: 10 }],
    ["NLRI cut off", update({ attributes: good, nlri: "00 18 0a00" }), { code: 3, subcode: 10 }],
    ["withdrawn length 33", update({ withdrawn: "21 0a00000000" }), { code: 3, subcode: 10 }],
    ["withdrawn cut off", update({ withdrawn: "18 0a00" }), { code: 3, subcode: 10 }],
    [
      "MP_REACH_NLRI with an IPv6 next hop of 4 octets",
      update({ attributes: `800e09 0002 01 04 c0000201 00 ${good}` }),
      { code: 3, subcode: 9, data: "800e0900020104c000020100" },
    ],
    ["MP_REACH_NLRI with a next hop beyond its end", update({ attributes: "800e05 0002 01 10 20" }), { code: 3, subcode: 9 }],
    ["MP_REACH_NLRI of 4 octets", update({ attributes: "800e04 0002 01 10" }), { code: 3, subcode: 9 }],
    ["MP_REACH_NLRI with prefix length 129", update({ attributes: `800e16 0002 01 10 ${global} 00 81` }), { code: 3, subcode: 9 }],
    ["MP_REACH_NLRI with NLRI cut off", update({ attributes: `800e16 0002 01 10 ${global} 00 08` }), { code: 3, subcode: 9 }],
    ["MP_UNREACH_NLRI of 2 octets", update({ attributes: "800f02 0002" }), { code: 3, subcode: 9, data: "800f020002" }],
    [
      "MP_UNREACH_NLRI with NLRI cut off",
      update({ attributes: "900f0005 0002 01 10 20" }),
      { code: 3, subcode: 9, data: "900f00050002011020" },
    ],
    [
      "an unknown well-known attribute (RFC 4271 section 6.3)",
      update({ attributes: `${good} 506300020102`, nlri: "00" }),
      { code: 3, subcode: 2, data: "506300020102" },
    ],
    ["a wrong attribute and no NLRI at all (section 5.2)", update({ attributes: "40010109" }), { code: 3, subcode: 6, data: "40010109" }],
    ["an attribute list cut off and no NLRI", update({ withdrawn: "00", attributes: "4001" }), { code: 3, subcode: 1, data: "4001" }],
    [
      "a wrong attribute and an empty MP_REACH_NLRI",
      update({ attributes: `800e15 0002 01 10 ${global} 00 40010109` }),
      { code: 3, subcode: 6 },
    ],
  ])("%s", (_what, octets, expected) => {
    expect(messageError(() => decode(octets))).toMatchObject(expected);
  });

  it("does not when only withdrawn routes come in a wrongly flagged MP_UNREACH_NLRI", () => {
    const octets = update({ attributes: "c00f04 0002 01 00" });
    expect(ranges(decode(octets), octets).withdrawn).toEqual([[1, "00"]]);
  });
});
