/** A real agent with a real neighbour, scraped over HTTP and HTTPS as Prometheus would, and a rival on its port. Needs root on Linux. */
import { execFileSync, spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { PeersView, ProblemsView, StatusView } from "../../agent/api/views.ts";
import { MetricRows } from "../../agent/metrics/table.ts";
import { certificates } from "../../agent/metrics/testing.ts";
import { Pair } from "../../agent/testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 100 };
const PORT = 9479;

let pair: Pair;
let folder: string;
beforeAll(() => {
  folder = certificates();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

/** As another host of the network asks: from the namespace of the second node. Undefined: no answer. */
function fetched(url: string, from: 0 | 1 = 1, tls: Record<string, string> = {}): { status: number; text: string } | undefined {
  const program = `
    const { request } = await import(process.argv[1].startsWith("https") ? "node:https" : "node:http");
    const { readFileSync } = await import("node:fs");
    const files = Object.fromEntries(Object.entries(JSON.parse(process.argv[2])).map(([name, path]) => [name, readFileSync(path)]));
    request(process.argv[1], { ...files, agent: false, timeout: 5000 }, async response => {
      let text = "";
      for await (const chunk of response.setEncoding("utf8")) text += chunk;
      console.log(JSON.stringify({ status: response.statusCode, text }));
    }).on("error", () => process.exit(0)).end();`;
  const words = ["netns", "exec", pair.names[from], process.execPath, "--input-type=module", "-e", program, url, JSON.stringify(tls)];
  const answer = execFileSync("ip", words, { encoding: "utf8" });
  return answer === "" ? undefined : JSON.parse(answer);
}

const value = (text: string, series: string) => {
  const line = text.split("\n").find(one => one.startsWith(`${series} `));
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
};

test("an agent says of its session, routes and pods what podlane status says", async ctx => {
  const agent = pair.start(0, ["--metrics-listen", `192.0.2.1:${PORT}`]);
  pair.start(1);
  await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
  const at = `http://192.0.2.1:${PORT}`;
  expect(fetched(`${at}/healthz`)).toEqual({ status: 200, text: "ok\n" });
  expect(fetched(`${at}/readyz`)).toEqual({ status: 200, text: "ready\n" });
  const { status, text } = fetched(`${at}/metrics`)!;
  expect(status).toBe(200);
  const shown = (await pair.ask<StatusView>(0, "status"))!;
  const [{ name, address }] = (await pair.ask<PeersView>(0, "peers"))!.peers;
  const told = {
    'podlane_sessions{state="Established"}': 1,
    'podlane_session_transitions_total{state="Established"}': 1,
    [`podlane_neighbor_state{neighbor="${name}"}`]: 6,
    [`podlane_neighbor_prefixes{neighbor="${name}",family="ipv4-unicast",direction="accepted"}`]: 1,
    [`podlane_neighbor_prefixes{neighbor="${name}",family="ipv4-unicast",direction="sent"}`]: 1,
    'podlane_table_best_paths{family="ipv4-unicast"}': 2,
    'podlane_kernel_routes{state="installed"}': shown.speaker!.fib!.installed,
    'podlane_kernel_routes{state="failed"}': 0,
    'podlane_plan_in_use{origin="source"}': 1,
    'podlane_pod_addresses{range="10.244.1.0/24",family="ipv4",state="free"}': 253,
    podlane_ready: 1,
    podlane_source_age_seconds: undefined,
  };
  expect(Object.fromEntries(Object.keys(told).map(series => [series, value(text, series)]))).toEqual(told);
  expect(text).toMatch(
    new RegExp(`^podlane_neighbor_info\\{neighbor="${name}",address="${address}",asn="64512",object="[^"]*"\\} 1$`, "m"),
  );
  expect(value(text, "podlane_process_resident_memory_bytes")).toBeGreaterThan(10_000_000);
  for (const row of MetricRows) expect(text).toContain(`# TYPE ${row.name} ${row.type}`);
  expect(agent.log.filter(line => String(line.msg).includes("without TLS"))).toHaveLength(1);
  expect(agent.noise).toEqual([]);
  const checked = promtool(text);
  if (checked === undefined) ctx.skip("promtool is not installed (Debian package prometheus)");
  expect(checked).toBe("");
});

test("over HTTPS with a client certificate, which is renewed under the running agent", async () => {
  const at = (name: string) => join(folder, name);
  const tls = ["--metrics-tls-cert", at("server.crt"), "--metrics-tls-key", at("server.key"), "--metrics-tls-client-ca", at("ca.crt")];
  const agent = pair.start(0, ["--metrics-listen", `192.0.2.1:${PORT}`, ...tls]);
  const url = `https://192.0.2.1:${PORT}`;
  const client = { ca: at("ca.crt"), cert: at("client.crt"), key: at("client.key") };
  await expect.poll(() => fetched(`${url}/metrics`, 1, client)?.status, within).toBe(200);
  expect(fetched(`${url}/metrics`, 1, { ca: at("ca.crt") })?.status).toBe(403);
  expect(fetched(`${url}/healthz`, 1, { ca: at("ca.crt") })?.status).toBe(200);
  expect(fetched(`http://192.0.2.1:${PORT}/metrics`)).toBeUndefined();
  expect(agent.log.map(line => line.msg)).not.toContainEqual(expect.stringContaining("without TLS"));
  expect(JSON.stringify(agent.log)).not.toContain(readFileSync(at("server.key"), "utf8").split("\n")[1]);
});

test("a port that another process has is a problem, and the node routes all the same", async () => {
  const hold = `require("node:net").createServer().listen(${PORT}, "127.0.0.1", () => console.log("ready"))`;
  const rival = spawn("ip", ["netns", "exec", pair.names[0], process.execPath, "-e", hold], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await new Promise(resolve => rival.stdout.once("data", resolve));
    pair.start(0, ["--metrics-listen", `127.0.0.1:${PORT}`]);
    pair.start(1);
    await expect.poll(() => pair.kernelRoutes(0), within).toContain("10.244.2.0/24");
    const reasons = async () => (await pair.ask<ProblemsView>(0, "problems"))?.problems.map(({ object, reason }) => `${object} ${reason}`);
    await expect.poll(reasons, within).toContain("metrics ListenFailed");
    rival.kill("SIGKILL");
    // It is tried again each 10 seconds.
    await expect.poll(reasons, { timeout: 40_000, interval: 200 }).not.toContain("metrics ListenFailed");
    expect(fetched(`http://127.0.0.1:${PORT}/healthz`, 0)?.status).toBe(200);
  } finally {
    rival.kill("SIGKILL");
  }
}, 90_000);

test("a configuration that cannot be used: alive and not ready", async () => {
  pair.write("nodes.yaml", "kind: Node\nmetadata: {");
  pair.start(0, ["--metrics-listen", `[::1]:${PORT}`]);
  await expect.poll(() => fetched(`http://[::1]:${PORT}/healthz`, 0)?.status, within).toBe(200);
  expect(fetched(`http://[::1]:${PORT}/readyz`, 0)).toMatchObject({ status: 503 });
  const { text } = fetched(`http://[::1]:${PORT}/metrics`, 0)!;
  expect([value(text, "podlane_ready"), value(text, 'podlane_sessions{state="Established"}')]).toEqual([0, undefined]);
  expect(text).toMatch(/^podlane_problems\{reason="\w+",severity="error"\} [1-9]/m);
});

/** What promtool finds wrong; undefined: it is not there. */
function promtool(text: string): string | undefined {
  try {
    return execFileSync("promtool", ["check", "metrics"], { input: text, encoding: "utf8", stdio: "pipe" });
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: string };
    return code === "ENOENT" ? undefined : String(stderr);
  }
}
