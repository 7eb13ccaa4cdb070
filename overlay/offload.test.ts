import { expect, test } from "vitest";
import { leavesChecksums } from "./offload.ts";

test.each([
  ["4.19.0-26-amd64", false],
  ["5.4.0-1117-azure", false],
  ["5.6.19", false],
  ["5.7.0-rc1", true],
  ["5.15.0-91-generic", true],
  ["6.1", true],
  ["no number", false],
])("Auto with kernel %s: %s", (release, expected) => {
  expect(leavesChecksums("Auto", release)).toBe(expected);
});

test("who says On or Off is not asked for the kernel", () => {
  expect(leavesChecksums("On", "4.19.0")).toBe(true);
  expect(leavesChecksums("Off", "6.12.0")).toBe(false);
});
