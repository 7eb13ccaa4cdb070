/**
 * What Kubernetes itself tests of NetworkPolicy, and the conformance suite of ClusterNetworkPolicy, on a cluster of this machine: in either mode, and with
 * either family first. Takes the Go module proxy once and an hour each time, and is asked for by PODLANE_UPSTREAM=1. Needs root on Linux.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFailed, test, vi } from "vitest";
import { missingCluster, programsFolder } from "../../lab/kubernetes/programs.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { Cluster } from "../kubernetes/cluster.ts";
import { buildUpstream, findGo, type UpstreamPrograms } from "./programs.ts";

const HOUR = 3_600_000;
const NODES = 3;
/** Logs of the suites, for whoever wants to know more than that one failed. */
const reports = join(import.meta.dirname, "../../build/upstream/reports");

const go = findGo();
const missing =
  (process.env.PODLANE_UPSTREAM !== "1" && "others' suites take the Go module proxy and an hour: PODLANE_UPSTREAM=1 runs them") ||
  (go === undefined && "no go: install Go 1.26 or later") ||
  missingCluster();

vi.setConfig({ testTimeout: 3 * HOUR, hookTimeout: HOUR });

interface Result {
  name: string;
  outcome: "passed" | "failed" | "skipped";
}

let programs: UpstreamPrograms;
beforeAll(() => {
  if (!missing) programs = buildUpstream(go!, kubernetesVersion());
});
beforeEach(context => context.skip(Boolean(missing), missing || undefined));

describe.each([
  { mode: "Bridge", family: "IPv4" },
  { mode: "Routed", family: "IPv6" },
] as const)("in mode $mode with $family first", ({ mode, family }) => {
  const folder = join(reports, `${mode}-${family}`);
  let cluster: Cluster;

  beforeAll(async () => {
    if (missing) return;
    mkdirSync(folder, { recursive: true });
    cluster = await Cluster.start(NODES, { network: "processes", objects: "API server", images: programs.images, family });
    await cluster.access.applyManifest(readFileSync(programs.definition, "utf8"));
    await cluster.api("POST", "/apis/podlane.io/v1alpha1/podnetworks", {
      apiVersion: "podlane.io/v1alpha1",
      kind: "PodNetwork",
      metadata: { name: "pods" },
      spec: { nodeSelector: {}, mode },
    });
    // What was installed after they had started, agents look for every few minutes.
    for (const node of cluster.nodes) {
      await node.killAgent();
      node.startAgent();
      await until(`all sessions of ${node.name} are up`, () => node.converged(), 60_000);
    }
  });
  afterAll(() => cluster?.close());

  /** Runs a suite where it reaches the API server. What it prints is kept in `log`. */
  async function run(log: string, words: string[]): Promise<void> {
    const script = `KUBECONFIG=${cluster.access.kubeconfig} exec "$@" > ${join(folder, log)} 2>&1`;
    await cluster.outside.run(["sh", "-c", script, "sh", ...words], { limit: 3 * HOUR });
  }

  function judge(suite: string, results: readonly Result[], started: number): void {
    const by = (outcome: Result["outcome"]) => results.filter(one => one.outcome === outcome).map(one => one.name);
    const minutes = Math.round((performance.now() - started) / 60_000);
    const counts = (["passed", "failed", "skipped"] as const).map(outcome => `${by(outcome).length} ${outcome}`);
    console.info(`${suite}, mode ${mode}, ${family} first: ${counts.join(", ")}, ${minutes} min; ${folder}`);
    onTestFailed(async () => console.error(await cluster.report()));
    expect(by("failed")).toEqual([]);
    expect(by("passed").length).toBeGreaterThan(0);
  }

  test("NetworkPolicy passes Kubernetes' tests", async () => {
    const started = performance.now();
    // All of them wait for time-outs more than they reckon.
    const how = ["--procs=4", "--focus=Netpol", "--timeout=3h", "--no-color"];
    await run("e2e.log", [programs.ginkgo, ...how, `--output-dir=${folder}`, "--json-report=e2e.json", programs.e2e]);
    judge("NetworkPolicy", ginkgoResults(join(folder, "e2e.json")), started);
  });

  test("ClusterNetworkPolicy passes its conformance suite", async () => {
    const started = performance.now();
    await run("conformance.log", [programs.conformance, "-test.v", "-test.run=^TestConformance$", "-all-features", "-test.timeout=3h"]);
    judge("ClusterNetworkPolicy", goResults(join(folder, "conformance.log")), started);
  });
});

function kubernetesVersion(): string {
  const folder = programsFolder(join(reports, "bin"));
  return execFileSync(join(folder, "kube-apiserver"), ["--version"], { encoding: "utf8" })
    .trim()
    .replace(/^Kubernetes v/, "");
}

interface Spec {
  ContainerHierarchyTexts: string[] | null;
  LeafNodeType: string;
  LeafNodeText: string;
  State: string;
}

/** Whatever fails outside of a test counts as one. */
function ginkgoResults(report: string): Result[] {
  const suites: { SpecReports: Spec[] }[] = JSON.parse(readFileSync(report, "utf8"));
  return suites
    .flatMap(suite => suite.SpecReports)
    .filter(spec => spec.LeafNodeType === "It" || spec.State === "failed")
    .map(spec => ({
      name: [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(" "),
      outcome: spec.State === "passed" || spec.State === "skipped" ? spec.State : "failed",
    }));
}

const outcomes = { PASS: "passed", FAIL: "failed", SKIP: "skipped" } as const;

/** Of each test without tests in it, as `go test -v` tells. */
function goResults(log: string): Result[] {
  const lines = Array.from(readFileSync(log, "utf8").matchAll(/^ *--- (PASS|FAIL|SKIP): (\S+) /gm), ([, outcome, name]) => ({
    name,
    outcome: outcomes[outcome as keyof typeof outcomes],
  }));
  return lines.filter(({ name }) => !lines.some(other => other.name.startsWith(`${name}/`)));
}
