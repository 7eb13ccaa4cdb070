/** deploy/alerts.yaml and deploy/dashboard.json name nothing that the agent does not say, and the alerts fire when they shall: by promtool. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it, test } from "vitest";
import { parse } from "yaml";
import { MetricRows } from "../../agent/metrics/table.ts";
import { Reasons } from "../../platform/problem.ts";
import { namesIn } from "./promql.ts";

const deploy = join(import.meta.dirname, "../../deploy");
const rulesFile = join(deploy, "alerts.yaml");

interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
  annotations: Record<string, string>;
}
const rules: Rule[] = (parse(readFileSync(rulesFile, "utf8")) as { groups: { rules: Rule[] }[] }).groups.flatMap(group => group.rules);

interface Panel {
  type: string;
  title: string;
  targets?: { expr: string; legendFormat: string }[];
}
const dashboard = JSON.parse(readFileSync(join(deploy, "dashboard.json"), "utf8")) as { panels: Panel[] };

/** What Prometheus adds to each series. */
const ofPrometheus = ["job", "instance"];

/** Labels of a series, or undefined where no row of the table makes it. */
function labelsOf(name: string): readonly string[] | undefined {
  if (name === "up") return ofPrometheus;
  const row = MetricRows.find(
    one => one.name === name || (one.type === "histogram" && name.replace(/_(bucket|sum|count)$/, "") === one.name),
  );
  return row && [...row.labels, ...ofPrometheus, ...(name.endsWith("_bucket") ? ["le"] : [])];
}

/** What is wrong with an expression and the texts that use labels of its result. */
function wrongNames(expression: string, texts: readonly string[]): string[] {
  const { metrics, grouped } = namesIn(expression);
  const wrong = metrics.flatMap(({ name, labels }) => {
    const known = labelsOf(name);
    return known
      ? labels.filter(label => !known.includes(label)).map(label => `${name} has no label ${label}`)
      : [`there is no metric ${name}`];
  });
  const all = metrics.flatMap(({ name }) => labelsOf(name) ?? []);
  const used = texts.flatMap(text => [...text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)].map(match => match[1]));
  return [...wrong, ...[...grouped, ...used].filter(label => !all.includes(label)).map(label => `no metric here has the label ${label}`)];
}

describe("names", () => {
  test("a wrong one is seen", () => {
    expect(wrongNames('sum by (a) (podlane_ready{b="1"}) / podlane_none', ["{{ $labels.c }}"])).toEqual([
      "podlane_ready has no label b",
      "there is no metric podlane_none",
      "no metric here has the label a",
      "no metric here has the label c",
    ]);
    expect(wrongNames('rate(podlane_cni_call_duration_seconds_bucket{le="1", job="x"}[5m])', ["{{verb}}"])).toEqual([]);
  });

  it.each(rules.map(rule => [rule.alert, rule] as const))(
    "alert %s uses metrics and labels that there are",
    (_name, { expr, annotations }) => {
      expect(wrongNames(expr, Object.values(annotations))).toEqual([]);
      for (const [, list] of expr.matchAll(/reason[=!]~?"([^"]*)"/g))
        for (const reason of list.split("|")) expect(Reasons as readonly string[]).toContain(reason);
    },
  );

  it.each(rules.map(rule => [rule.alert, rule] as const))("alert %s says what it is and which command to type", (_name, rule) => {
    expect(Object.keys(rule.annotations)).toEqual(["summary", "description", "runbook"]);
    expect(rule.annotations.runbook).toMatch(/podlane (status|problems|peers|peer|routes|pods)/);
    expect(["warning", "critical"]).toContain(rule.labels.severity);
  });

  test("docs/metrics.md lists the alerts with their severities", () => {
    const page = readFileSync(join(deploy, "../docs/metrics.md"), "utf8");
    const listed = [...page.matchAll(/^\| `(Podlane\w+)` \| (\w+) \|/gm)].map(([, alert, severity]) => `${alert} ${severity}`);
    expect(listed.sort()).toEqual(rules.map(({ alert, labels }) => `${alert} ${labels.severity}`).sort());
  });

  const panels = dashboard.panels.filter(({ type }) => type !== "row");
  it.each(panels.map(panel => [panel.title, panel] as const))(
    "panel %s uses metrics and labels that there are",
    (_title, { targets = [] }) => {
      expect(targets).not.toEqual([]);
      for (const { expr, legendFormat } of targets) expect(wrongNames(expr, [legendFormat])).toEqual([]);
    },
  );

  test("the dashboard has its rows", () => {
    expect(dashboard.panels.filter(({ type }) => type === "row").map(({ title }) => title)).toEqual([
      "Cluster",
      "Sessions",
      "Routes",
      "Pods",
      "Health of the agents",
    ]);
  });
});

const folder = mkdtempSync(join(tmpdir(), "podlane-promtool-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function promtool(...words: string[]): { status: number | null; output: string; isMissing: boolean } {
  const { status, stdout, stderr, error } = spawnSync("promtool", words, { encoding: "utf8" });
  return { status, output: `${stdout}${stderr}`, isMissing: error !== undefined };
}

/** Without the labels of Prometheus: those of node1. The values are those of promtool: "0+1x60" grows by one each minute for an hour. */
type Series = Record<string, string>;

/** A node at which nothing is wrong. */
const healthy: Series = {
  up: "1x60",
  podlane_build_info: "1x60",
  podlane_ready: "1x60",
  'podlane_plan_in_use{origin="source"}': "1x60",
  'podlane_plan_in_use{origin="saved"}': "0x60",
  podlane_source_age_seconds: "5x60",
  'podlane_event_loop_delay_seconds{percentile="100"}': "0.01x60",
  'podlane_sessions{state="Established"}': "2x60",
  'podlane_neighbor_overdue{neighbor="tor-a"}': "0x60",
  'podlane_neighbor_overdue{neighbor="tor-b"}': "0x60",
  'podlane_neighbor_established_total{neighbor="tor-a"}': "1x60",
  'podlane_neighbor_prefixes{neighbor="tor-a", family="ipv4-unicast", direction="accepted"}': "10x60",
  'podlane_neighbor_prefixes{neighbor="tor-a", family="ipv4-unicast", direction="received"}': "99x60",
  'podlane_neighbor_prefix_limit{neighbor="tor-a", family="ipv4-unicast"}': "100x60",
  'podlane_kernel_routes{state="failed"}': "0x60",
  podlane_kernel_routes_repaired_total: "3x60",
  podlane_network_policy_in_force: "1x60",
  'podlane_decision_queue_prefixes{family="ipv4-unicast"}': "0 5000 0 5000 0 5000 0 5000 0x60",
  'podlane_send_queue_prefixes{family="ipv4-unicast"}': "0x60",
  'podlane_pod_addresses{range="10.244.1.0/24", family="ipv4", state="free"}': "100x60",
  'podlane_pod_addresses{range="10.244.1.0/24", family="ipv4", state="used"}': "153x60",
  'podlane_pod_addresses{range="10.244.9.0/24", family="ipv4", state="used"}': "20x60",
  'podlane_cni_calls_total{verb="ADD", code="0"}': "0+5x60",
  'podlane_cni_calls_total{verb="ADD", code="11"}': "1x60",
};

/** What each alert is for: how the node differs from a healthy one, a minute at which it fires, and one before at which nothing does. */
const cases: Record<string, { differs: Series; fires: number; not: number }> = {
  PodlaneAgentDown: { differs: { up: "1x9 0x50" }, fires: 16, not: 14 },
  PodlaneAbsent: { differs: { podlane_build_info: "1x9 stale" }, fires: 17, not: 13 },
  PodlaneNotReady: { differs: { podlane_ready: "1x4 0x55" }, fires: 16, not: 14 },
  PodlaneProblems: { differs: { 'podlane_problems{reason="ListenFailed", severity="error"}': "2x60" }, fires: 16, not: 14 },
  PodlanePlanStale: { differs: { 'podlane_plan_in_use{origin="saved"}': "1x60" }, fires: 16, not: 14 },
  PodlaneSourceSilent: { differs: { podlane_source_age_seconds: "0+60x60" }, fires: 13, not: 11 },
  PodlaneEventLoopStalls: { differs: { 'podlane_event_loop_delay_seconds{percentile="100"}': "0x9 1.5 0x40" }, fires: 10, not: 9 },
  PodlaneFaults: { differs: { 'podlane_faults_total{place="decision"}': "_x9 1x50" }, fires: 11, not: 8 },
  PodlaneNoSession: {
    differs: { 'podlane_neighbor_overdue{neighbor="tor-a"}': "0x9 1x50", 'podlane_sessions{state="Established"}': "2x8 0x51" },
    fires: 13,
    not: 11,
  },
  PodlaneSessionDown: { differs: { 'podlane_neighbor_overdue{neighbor="tor-b"}': "0x9 1x50" }, fires: 13, not: 11 },
  PodlaneSessionFlaps: { differs: { 'podlane_neighbor_established_total{neighbor="tor-a"}': "1x9 2+1x50" }, fires: 16, not: 11 },
  PodlanePrefixLimitNear: {
    differs: { 'podlane_neighbor_prefixes{neighbor="tor-a", family="ipv4-unicast", direction="accepted"}': "10x9 95x50" },
    fires: 16,
    not: 14,
  },
  PodlaneKernelRoutesMissing: { differs: { 'podlane_kernel_routes{state="failed"}': "0x9 4x50" }, fires: 16, not: 14 },
  PodlaneKernelRoutesUndone: { differs: { podlane_kernel_routes_repaired_total: "3x9 4+2x50" }, fires: 20, not: 11 },
  PodlaneQueueStuck: { differs: { 'podlane_send_queue_prefixes{family="ipv4-unicast"}': "0x9 800x50" }, fires: 27, not: 23 },
  PodlaneAddressesNearlyUsedUp: {
    differs: { 'podlane_pod_addresses{range="10.244.1.0/24", family="ipv4", state="free"}': "100x9 10x50" },
    fires: 21,
    not: 19,
  },
  PodlaneAddressesUsedUp: {
    differs: { 'podlane_pod_addresses{range="10.244.1.0/24", family="ipv4", state="free"}': "100x9 0x50" },
    fires: 13,
    not: 11,
  },
  PodlanePacketFilter: {
    differs: { 'podlane_problems{reason="PacketFilterMissing", severity="warning"}': "_x10 1x49" },
    fires: 16,
    not: 14,
  },
  PodlanePoliciesNotInForce: { differs: { podlane_network_policy_in_force: "1x9 0x50" }, fires: 16, not: 14 },
  PodlaneCNIFailures: { differs: { 'podlane_cni_calls_total{verb="ADD", code="11"}': "1+2x60" }, fires: 20, not: 9 },
};

function withLabels(series: string): string {
  const [name, labels = ""] = series.split(/[{}]/);
  return `${name}{${[labels, 'job="podlane"', 'instance="node1"'].filter(Boolean).join(", ")}}`;
}

/** A file of promtool's unit tests; which alerts fire at a minute is asked of ALERTS. */
function testFile(name: string, differs: Series, expected: [minute: number, alerts: string[]][]): string {
  const file = join(folder, `${name}.yaml`);
  const series = Object.entries({ ...healthy, ...differs }).map(([key, values]) => ({ series: withLabels(key), values }));
  const asked = expected.map(([minute, alerts]) => ({
    expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
    eval_time: `${minute}m`,
    exp_samples: alerts.map(alert => ({ labels: `{alertname="${alert}"}`, value: 1 })),
  }));
  const content = {
    rule_files: [rulesFile],
    evaluation_interval: "1m",
    tests: [{ interval: "1m", input_series: series, promql_expr_test: asked }],
  };
  writeFileSync(file, JSON.stringify(content));
  return file;
}

describe("the alerts, by promtool", () => {
  beforeEach(ctx => {
    if (promtool("--version").isMissing) ctx.skip("promtool is not installed (Debian package prometheus)");
  });

  test("are rules", () => {
    expect(promtool("check", "rules", rulesFile)).toMatchObject({
      status: 0,
      output: expect.stringContaining(`${rules.length} rules found`),
    });
  });

  test("are silent while all is well", () => {
    const file = testFile(
      "healthy",
      {},
      [5, 20, 40, 59].map(minute => [minute, []]),
    );
    expect(promtool("test", "rules", file)).toMatchObject({ status: 0, output: expect.stringContaining("SUCCESS") });
  });

  test("have a case each", () => {
    expect(Object.keys(cases).sort()).toEqual(rules.map(({ alert }) => alert).sort());
  });

  it.each(Object.entries(cases))("%s fires in time, and alone", (alert, { differs, fires, not }) => {
    const file = testFile(alert, differs, [
      [not, []],
      [fires, [alert]],
    ]);
    const { status, output } = promtool("test", "rules", file);
    expect(output).toContain("SUCCESS");
    expect(status).toBe(0);
  });

  test("say which node and which neighbour", () => {
    const file = join(folder, "texts.yaml");
    const series = { series: 'podlane_neighbor_overdue{job="podlane", instance="node1", neighbor="tor-a"}', values: "1x10" };
    const { annotations } = rules.find(rule => rule.alert === "PodlaneSessionDown")!;
    const filled = (text: string) => text.replaceAll("{{ $labels.instance }}", "node1").replaceAll("{{ $labels.neighbor }}", "tor-a");
    const exp_alerts = [
      {
        exp_labels: { job: "podlane", instance: "node1", neighbor: "tor-a", severity: "warning" },
        exp_annotations: Object.fromEntries(Object.entries(annotations).map(([key, text]) => [key, filled(text)])),
      },
    ];
    const tests = [
      { interval: "1m", input_series: [series], alert_rule_test: [{ eval_time: "5m", alertname: "PodlaneSessionDown", exp_alerts }] },
    ];
    writeFileSync(file, JSON.stringify({ rule_files: [rulesFile], evaluation_interval: "1m", tests }));
    expect(promtool("test", "rules", file)).toMatchObject({ status: 0, output: expect.stringContaining("SUCCESS") });
  });
});
