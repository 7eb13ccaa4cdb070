/** What is remembered of kernel parameters, as it is read again. That they are set back: test/uninstall.test.ts. */
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { formerSysctls } from "./former-sysctls.ts";

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-sysctls-"));
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

const bootId = fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
const good = { name: ["net", "ipv4", "ip_forward"], before: "0", value: "1" };
const read = (text: string) => {
  fs.writeFileSync(path.join(directory, "sysctls.json"), text);
  return formerSysctls(directory);
};

test("what this boot wrote is read, entry by entry", () => {
  expect(formerSysctls(directory)).toEqual([]);
  expect(read(JSON.stringify({ bootId, sysctls: [good, { name: "net", before: "0", value: "1" }, { name: ["net"] }] }))).toEqual([good]);
});

test.each<[string, string]>([
  ["another boot's", JSON.stringify({ bootId: "former", sysctls: [good] })],
  ["one without entries", JSON.stringify({ bootId })],
  ["half a file", '{"bootId"'],
  ["null", "null"],
])("%s is none", (_what, text) => {
  expect(read(text)).toEqual([]);
});
