import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Journal } from "./journal.ts";

let directory: string;
let file: string;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-journal-"));
  file = path.join(directory, "ledger");
});
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }));

function read(): { records: unknown[]; damage: string[] } {
  const journal = new Journal(file);
  journal.close();
  return journal.content;
}

test("what was appended is read again, in order", async () => {
  const journal = new Journal(file);
  journal.append([{ a: 1 }, { b: "zwei\n2" }]);
  journal.append([{ c: [3] }]);
  await journal.durable();
  journal.close();
  expect(read()).toEqual({ records: [{ a: 1 }, { b: "zwei\n2" }, { c: [3] }], damage: [] });
});

test("a file cut at any octet keeps every whole record, and can be written again", () => {
  const journal = new Journal(file);
  for (let i = 0; i < 5; i++) journal.append([{ i, text: "ü".repeat(i) }]);
  journal.close();
  const whole = fs.readFileSync(file);
  const ends = [...whole.entries()].filter(([, octet]) => octet === 10).map(([at]) => at + 1);
  for (let length = 0; length <= whole.length; length++) {
    fs.writeFileSync(file, whole.subarray(0, length));
    const again = new Journal(file);
    const kept = ends.filter(end => end <= length).length;
    expect(again.content).toEqual({ records: Array.from({ length: kept }, (_, i) => ({ i, text: "ü".repeat(i) })), damage: [] });
    again.append([{ after: length }]);
    again.close();
    expect(read().records.at(-1)).toEqual({ after: length });
  }
});

test("a damaged record in the middle is reported, kept aside, and costs no other record", () => {
  const journal = new Journal(file);
  journal.append([{ i: 0 }, { i: 1 }, { i: 2 }]);
  journal.close();
  const text = fs.readFileSync(file, "utf8");
  fs.writeFileSync(file, text.replace('{"i":1}', '{"i":7}'));
  expect(read()).toEqual({ records: [{ i: 0 }, { i: 2 }], damage: ["line 2 was damaged and is lost"] });
  expect(fs.existsSync(`${file}.damaged`)).toBe(true);
});

test("any single damaged octet costs at most two records", () => {
  const journal = new Journal(file);
  journal.append(Array.from({ length: 6 }, (_, i) => ({ i })));
  journal.close();
  const whole = fs.readFileSync(file);
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const bytes = Buffer.from(whole);
      bytes[at] ^= flip;
      fs.writeFileSync(file, bytes);
      const { records } = read();
      expect(records.length).toBeGreaterThanOrEqual(4);
      for (const record of records) expect(Object.keys(record as object)).toEqual(["i"]);
    }),
    { numRuns: 200 },
  );
});

test("rewriting replaces the history, also while others wait for the disk", async () => {
  const journal = new Journal(file);
  journal.append([{ old: 1 }]);
  const before = journal.durable();
  journal.compact([{ state: 1 }]);
  journal.append([{ later: 1 }]);
  await Promise.all([before, journal.durable()]);
  journal.close();
  expect(read().records).toEqual([{ state: 1 }, { later: 1 }]);
  expect(fs.readdirSync(directory)).toEqual(["ledger"]);
});

test("a folder that is gone is told, too", () => {
  const journal = new Journal(path.join(directory, "sub/ledger"));
  expect(journal.fullness()).toBeUndefined();
  fs.rmSync(path.join(directory, "sub"), { recursive: true });
  expect(journal.fullness()).toMatch(/cannot write .*ledger: ENOENT/);
  journal.compact([{ state: 1 }]);
  expect(journal.fullness()).toBeUndefined();
  journal.close();
});

test("the file asks for a rewrite once most of it is history", () => {
  const journal = new Journal(file);
  expect(journal.isMostlyHistory).toBe(false);
  const record = { text: "x".repeat(1000) };
  for (let i = 0; i < 300; i++) journal.append([record]);
  expect(journal.isMostlyHistory).toBe(true);
  journal.compact([record]);
  expect(journal.isMostlyHistory).toBe(false);
  journal.close();
});

test("a failed write leaves the file as it was", () => {
  fs.mkdirSync(path.join(directory, "sub"));
  expect(() => new Journal(path.join(directory, "sub"))).toThrow(/cannot open .*sub: it is not a regular file/);
  const nowhere = new Journal("/proc/ledger");
  expect(nowhere).toMatchObject({ isBroken: true, content: { records: [] } });
  expect(() => nowhere.append([{}])).toThrow(/cannot write \/proc\/ledger/);
  expect(() => nowhere.compact([{}])).toThrow(/cannot rewrite \/proc\/ledger/);
});

test.skipIf(process.getuid?.() !== 0)("a full disk is told, and the record is not half there (needs root to mount one)", () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=32k", "podlane-test", directory]);
  try {
    const journal = new Journal(file);
    let written = 0;
    const fill = () => {
      for (; ; written++) journal.append([{ text: "x".repeat(3000) }]);
    };
    expect(fill).toThrow(/cannot write .*no space left/i);
    expect(written).toBeGreaterThan(0);
    expect(read().records).toHaveLength(written);
    journal.append([{ small: 1 }]);
    journal.close();
    expect(read()).toMatchObject({ damage: [], records: { length: written + 1 } });
  } finally {
    execFileSync("umount", [directory]);
  }
});
