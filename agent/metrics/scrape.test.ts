/** What a scrape says: the text, its labels, its bounds. The server over it is in server.test.ts, a real agent in test/metrics.test.ts. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { systemClock } from "../../platform/clock.ts";
import type { Problem } from "../../platform/problem.ts";
import type { MetricsSubject } from "./figures.ts";
import { Scraper } from "./scrape.ts";
import { MetricRows } from "./table.ts";
import { figures, neighbor, subject } from "./testing.ts";

const scrape = async (change: Partial<MetricsSubject> = {}) => new Scraper(await subject(change), systemClock).scrape();
const linesOf = (text: string, name: string) => text.split("\n").filter(line => line.startsWith(`${name}{`) || line.startsWith(`${name} `));

describe("the table", () => {
  it("names each metric once, with its unit last, and has its labels in order", () => {
    const names = MetricRows.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, type, help } of MetricRows) {
      expect(name).toMatch(/^podlane_[a-z]+(_[a-z]+)*$/);
      expect(name.endsWith("_total"), name).toBe(type === "counter");
      expect(help).toMatch(/^[A-Z0-9].*\.$/);
    }
  });

  it("has a sample for each metric, with just the labels that it names", async () => {
    const text = await scrape();
    for (const { name, type, labels } of MetricRows) {
      const wanted = type === "histogram" ? [...labels, "le"] : labels;
      const lines = linesOf(text, type === "histogram" ? `${name}_bucket` : name);
      expect(lines, name).not.toEqual([]);
      for (const line of lines) expect([...line.matchAll(/([a-z]+)="(?:[^"\\]|\\.)*"/g)].map(match => match[1])).toEqual(wanted);
      expect(text.split("\n").filter(line => line.startsWith(`# TYPE ${name} `))).toEqual([`# TYPE ${name} ${type}`]);
    }
  });

  it("is accepted by promtool", async ctx => {
    const { status, error, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input: await scrape(), encoding: "utf8" });
    if (error) ctx.skip("promtool is not installed (Debian package prometheus)");
    expect([stdout, stderr, status]).toEqual(["", "", 0]);
  });
});

describe("a scrape", () => {
  it("says what the agent says", async () => {
    const text = await scrape();
    expect(linesOf(text, "podlane_sessions")).toContain('podlane_sessions{state="Established"} 1');
    expect(linesOf(text, "podlane_session_ends_total")).toEqual([
      'podlane_session_ends_total{what="session",reason="HoldTimerExpired",notification="sent"} 1',
    ]);
    expect(linesOf(text, "podlane_neighbor_state_timestamp_seconds")[0]).toBe(
      `podlane_neighbor_state_timestamp_seconds{neighbor="tor-a"} ${Date.parse("2026-01-02T03:04:05Z") / 1000}`,
    );
    expect(linesOf(text, "podlane_neighbor_overdue")).toEqual([
      'podlane_neighbor_overdue{neighbor="tor-a"} 0',
      'podlane_neighbor_overdue{neighbor="tor \\"b\\"\\\\\\n"} 1',
    ]);
    expect(linesOf(text, "podlane_problems")).toEqual(['podlane_problems{reason="SessionDown",severity="error"} 1']);
    expect(linesOf(text, "podlane_cni_call_duration_seconds_count")).toEqual(['podlane_cni_call_duration_seconds_count{verb="ADD"} 1']);
    expect(linesOf(text, "podlane_pod_addresses")).toContain('podlane_pod_addresses{range="10.244.1.0/24",family="ipv4",state="free"} 249');
    expect(linesOf(text, "podlane_neighbor_prefix_limit")).toHaveLength(2);
  });

  it("leaves out what is not known, and all of BGP where the node has no part in it", async () => {
    const silent = await figures({ speaker: undefined, sourceAge: undefined, faults: undefined, plan: { inUse: "none", age: Number.NaN } });
    const text = await scrape({ figures: () => silent, neighbors: () => [], findProblems: () => [] });
    for (const name of [
      "podlane_sessions",
      "podlane_source_age_seconds",
      "podlane_faults_total",
      "podlane_plan_age_seconds",
      "podlane_problems",
    ])
      expect(linesOf(text, name), name).toEqual([]);
    expect(text).not.toMatch(/nan|undefined/i);
    expect(linesOf(text, "podlane_plan_in_use")).toContain('podlane_plan_in_use{origin="none"} 1');
  });

  it("gives 1,024 neighbours series of their own, and adds up the others", async () => {
    const many = Array.from({ length: 1030 }, (_, at) => neighbor(`n${at}`));
    const text = await scrape({ neighbors: () => many });
    expect(linesOf(text, "podlane_neighbor_state")).toHaveLength(1024);
    expect(linesOf(text, "podlane_neighbor_established")).toHaveLength(1025);
    expect(linesOf(text, "podlane_neighbor_established").at(-1)).toBe('podlane_neighbor_established{neighbor="(others)"} 6');
    expect(linesOf(text, "podlane_neighbor_prefixes").slice(-6)).toContain(
      'podlane_neighbor_prefixes{neighbor="(others)",family="ipv6-unicast",direction="accepted"} 48',
    );
    // In pieces, and still one metric.
    expect(text.match(/^# (HELP|TYPE) podlane_neighbor_prefixes /gm)).toHaveLength(2);
  });

  it("counts problems alike together", async () => {
    const found: Problem = { severity: "warning", reason: "NoEffect", object: "Peer/a", field: "", message: "", remedy: "" };
    const text = await scrape({ findProblems: () => [[found, { ...found, object: "Peer/b" }], [], [{ ...found, severity: "error" }]] });
    expect(linesOf(text, "podlane_problems")).toEqual([
      'podlane_problems{reason="NoEffect",severity="warning"} 2',
      'podlane_problems{reason="NoEffect",severity="error"} 1',
    ]);
  });

  it("lets others have their turn: each step ends when its slice is over", async () => {
    let [now, steps, turns] = [0, 0, 0];
    const counting = { ...systemClock, monotonic: () => now };
    function* slow() {
      for (let n = 0; n < 50; n++) {
        now += 3;
        steps++;
        yield neighbor(`n${n}`);
      }
    }
    let ended = false;
    const tick = () => {
      turns++;
      if (!ended) setImmediate(tick);
    };
    setImmediate(tick);
    await new Scraper(await subject({ neighbors: slow }), counting).scrape();
    ended = true;
    expect(steps).toBe(50);
    expect(turns).toBeGreaterThanOrEqual(20);
  });
});
