import { describe, expect, it } from "vitest";
import { fromHex } from "./fixtures.ts";
import {
  formatCommunity,
  formatExtendedCommunity,
  formatLargeCommunity,
  parseCommunity,
  parseLargeCommunity,
  WellKnownCommunity,
} from "./format.ts";

describe("communities as text", () => {
  it.each([
    [0, "0:0"],
    [0xfde90064, "65001:100"],
    [0xffffffff, "65535:65535"],
    [0xffff0000, "graceful-shutdown"],
    [0xffff0001, "accept-own"],
    [0xffff0006, "llgr-stale"],
    [0xffff0007, "no-llgr"],
    [0xffff029a, "blackhole"],
    [0xffffff01, "no-export"],
    [0xffffff02, "no-advertise"],
    [0xffffff03, "no-export-subconfed"],
    [0xffffff04, "nopeer"],
  ])("%i is %s, both ways", (value, text) => {
    expect(formatCommunity(value)).toBe(text);
    expect(parseCommunity(text)).toBe(value);
  });

  it("accepts a well-known one by number", () => {
    expect(parseCommunity("65535:666")).toBe(WellKnownCommunity.blackhole);
  });

  it.each(["", "1", "1:", ":1", "1:2:3", "65536:1", "1:65536", "01:1", "-1:1", "1:1 ", "no_export", "constructor", "99999999999:1"])(
    "refuses %j",
    text => {
      expect(parseCommunity(text)).toBeUndefined();
    },
  );

  it("reads and writes large ones", () => {
    expect(parseLargeCommunity("4294967295:0:1")).toEqual([0xffffffff, 0, 1]);
    expect(formatLargeCommunity([0xffffffff, 0, 1])).toBe("4294967295:0:1");
    for (const text of ["", "1:2", "1:2:3:4", "4294967296:1:1", "1:01:1", "a:b:c"]) expect(parseLargeCommunity(text)).toBeUndefined();
  });

  it.each([
    ["0002fde900000064", "rt:65001:100"],
    ["4003fde900000064", "soo:65001:100"],
    ["0102c00002010007", "rt:192.0.2.1:7"],
    ["0202000111700007", "rt:70000:7"],
    ["4004fde94cee6b28", "lb:65001:125000000"],
    ["00045ba03f000000", "lb:23456:0.5"],
    ["0204000111700007", "0x0204000111700007"],
    ["030c000000000008", "0x030c000000000008"],
  ])("extended %s is %s", (octets, text) => {
    expect(formatExtendedCommunity(fromHex(octets))).toBe(text);
  });
});
