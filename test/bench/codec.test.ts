/** bench/codec.ts as its user runs it: also where the recorded session is not at hand. Never how long it took. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const bench = join(import.meta.dirname, "../../bench/codec.ts");

function run(...args: string[]) {
  const env = { ...process.env, PODLANE_SHARED: "/nonexistent" };
  return spawnSync(process.execPath, [bench, ...args], { encoding: "utf8", timeout: 60_000, env });
}

describe("bench codec", () => {
  it("makes a session of the recorded one's size where there is none, and says so", () => {
    const { stdout, stderr, status } = run("--rounds", "1", "--json");
    expect([stderr, status]).toEqual(["", 0]);
    const { session, figures } = JSON.parse(stdout);
    expect(session).toContain("a made session of 89,679 UPDATEs: there is no recorded one at /nonexistent/");
    expect(figures.map((figure: { updates: number }) => figure.updates)).toEqual([89_679, 89_679, 89_679, 89_679]);
    expect(figures.map((figure: { prefixes: number }) => figure.prefixes)).toEqual([0, 577_737, 577_737, 577_737]);
    // Every prefix and attribute comes out as it went in.
    expect(figures[2].octets).toBe(figures[0].octets);
  });

  it("refuses a file that is no recording, in words", () => {
    const { stderr, status } = run("--file", import.meta.filename);
    expect([stderr, status]).toEqual([expect.stringContaining("codec.test.ts cannot be read as a recorded session: "), 2]);
  });
});
