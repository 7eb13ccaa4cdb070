import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { unchangedRanges } from "./give-back.ts";

function mapping(range: string, rights: string, path: string, anonymous: number, swap = 0): string {
  return `${range} ${rights} 00000000 fe:01 1234                       ${path}\nSize:   100 kB\nRss:  80 kB\nAnonymous:    ${anonymous} kB\nSwap:    ${swap} kB\nVmFlags: rd mr\n`;
}

test("only what nobody may write and nobody has written is given back", () => {
  const smaps = [
    mapping("00400000-00500000", "r--p", "/bin/node", 0),
    mapping("00500000-00700000", "r-xp", "/bin/node", 0),
    // Relocated, then made read-only.
    mapping("00700000-00710000", "r--p", "/bin/node", 64),
    // The same, swapped out since.
    mapping("00740000-00750000", "r--p", "/bin/node", 0, 64),
    // A breakpoint stands in it.
    mapping("00720000-00730000", "r-xp", "/bin/node", 4),
    mapping("00710000-00720000", "rw-p", "/bin/node", 0),
    mapping("7f0000000000-7f0000100000", "r-xp", "/lib/libc.so.6", 0),
    mapping("7f0000100000-7f0000200000", "r--p", "", 0),
  ].join("");
  expect(unchangedRanges(smaps, "/bin/node")).toEqual([
    { start: 0x400000n, length: 0x100000n },
    { start: 0x500000n, length: 0x200000n },
  ]);
});

test("a process that gave its memory back has fewer pages of its executable, and goes on", context => {
  if (process.platform !== "linux") context.skip("/proc is Linux's");
  const file = JSON.stringify(join(import.meta.dirname, "give-back.ts"));
  const script = `
    import { readFileSync } from "node:fs";
    import { giveBackMemory } from ${file};
    const pages = () => Number(/RssFile:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
    const before = pages();
    await giveBackMemory();
    console.log(pages() < 0.8 * before, new Intl.DateTimeFormat("de").format(0), JSON.stringify(Object.keys(await import("node:zlib")).length > 0));`;
  const said = execFileSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  expect(said).toBe("true 1.1.1970 true\n");
});
