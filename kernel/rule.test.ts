import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { RTPROT_PODLANE } from "./constants.ts";
import { describeKernel, testNetns } from "./testnetns.ts";
import type { Rule } from "./types.ts";

interface IpRule {
  priority: number;
  src: string;
  srclen?: number;
  dst?: string;
  dstlen?: number;
  iif?: string;
  oif?: string;
  fwmark?: string;
  table?: string;
  protocol?: string;
  not?: null;
  suppress_prefixlen?: number;
}

describeKernel("rules", () => {
  const four: Rule = {
    family: 4,
    priority: 1000,
    table: 100_000,
    source: { address: parseAddress("10.1.0.0"), length: 16 },
    destination: { address: parseAddress("10.2.3.0"), length: 24 },
    inputInterface: "lo",
    mark: 0x2a,
    protocol: RTPROT_PODLANE,
  };
  const six: Rule = {
    family: 6,
    priority: 0xfffffff0,
    table: 77,
    source: { address: parseAddress("fd00::1"), length: 128 },
    outputInterface: "eth7",
    protocol: RTPROT_PODLANE,
  };

  test("rules are added as asked, listed as ip-rule(8) lists them, and deleted", () => {
    const { netlink, json } = testNetns();
    netlink.addRule(four);
    netlink.addRule(six);
    expect(json<IpRule>("rule show priority 1000")).toMatchObject([
      { src: "10.1.0.0", srclen: 16, dst: "10.2.3.0", dstlen: 24, iif: "lo", fwmark: "0x2a", table: "100000", protocol: "201" },
    ]);
    expect(json<IpRule>("-6 rule show priority 4294967280")).toMatchObject([{ src: "fd00::1", oif: "eth7", table: "77", protocol: "201" }]);
    expect(netlink.rules(4).filter(rule => rule.protocol === RTPROT_PODLANE)).toEqual([four]);
    expect(netlink.rules(6).filter(rule => rule.protocol === RTPROT_PODLANE)).toEqual([six]);
    expect(netlink.rules(4).map(rule => rule.priority)).toEqual(json<IpRule>("rule show").map(rule => rule.priority));
    netlink.deleteRule(four);
    netlink.deleteRule(six);
    expect([...netlink.rules(4), ...netlink.rules(6)].some(rule => rule.protocol === RTPROT_PODLANE)).toBe(false);
  });

  test("one that takes what does not match, and one that passes short routes over", () => {
    const { netlink, json } = testNetns();
    const rules = ([4, 6] as const).flatMap((family): Rule[] => {
      const common = { family, table: 254, protocol: RTPROT_PODLANE, inverted: true, inputInterface: "lo" };
      return [
        { ...common, priority: 900, suppressPrefixLength: 0 },
        { ...common, priority: 901, table: 20179 },
      ];
    });
    for (const rule of rules) netlink.addRule(rule);
    for (const family of [4, 6] as const) {
      expect(json<IpRule>(`-${family} rule show priority 900`)).toMatchObject([
        { not: null, iif: "lo", table: "main", suppress_prefixlen: 0 },
      ]);
      expect(json<IpRule>(`-${family} rule show priority 901`)).toMatchObject([{ not: null, iif: "lo", table: "20179" }]);
      const found = netlink.rules(family).filter(rule => rule.protocol === RTPROT_PODLANE);
      expect(found).toEqual(rules.filter(rule => rule.family === family));
    }
    const [first, ...others] = rules;
    expect(() => netlink.addRule(first)).toThrow(/^add IPv4 rule 900 not iif lo lookup 254 suppress_prefixlength 0: .*\(EEXIST\)$/);
    netlink.deleteRule(first);
    for (const rule of others) netlink.deleteRule(rule);
    expect([...netlink.rules(4), ...netlink.rules(6)].some(rule => rule.protocol === RTPROT_PODLANE)).toBe(false);
  });

  test("the kernel's own rules are listed; a goto rule has no table", () => {
    const { netlink, ip } = testNetns();
    ip("rule add priority 5 goto 32766");
    expect(netlink.rules(4)).toEqual([
      { family: 4, priority: 0, table: 255, protocol: 2 },
      { family: 4, priority: 5, table: 0, protocol: 0 },
      { family: 4, priority: 32766, table: 254, protocol: 2 },
      { family: 4, priority: 32767, table: 253, protocol: 2 },
    ]);
    expect(netlink.rules(6).map(rule => rule.table)).toEqual([255, 254]);
  });

  test("the same rule twice, and one that is not there, are errors in words", () => {
    const { netlink } = testNetns();
    netlink.addRule(four);
    expect(() => netlink.addRule(four)).toThrow(
      /^add IPv4 rule 1000 from 10\.1\.0\.0\/16 to 10\.2\.3\.0\/24 iif lo fwmark 0x2a lookup 100000: .*\(EEXIST\)$/,
    );
    expect(() => netlink.deleteRule(six)).toThrow(/^delete IPv6 rule .*\(ENOENT\)$/);
  });
});
