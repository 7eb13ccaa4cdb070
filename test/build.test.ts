/** What `npm run build` makes does what the source does. All tests of agent/ run against it too: `PODLANE_MAIN=build/main.js npm test -- agent/`. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Pair } from "../agent/testing/agents.ts";
import { build } from "../scripts/build.ts";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "podlane-build-"));
const built = join(folder, "out");

beforeAll(() => build(built), 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const env = { ...process.env, PODLANE_NODE: process.execPath, FORCE_COLOR: undefined };
const fromSource = (...words: string[]) => execFileSync(process.execPath, [join(root, "cli/main.ts"), ...words], { encoding: "utf8", env });
const fromBuild = (...words: string[]) => execFileSync(join(built, "podlane"), words, { encoding: "utf8", env, cwd: "/" });

test("says the same, also of a file that is read in a thread of its own", () => {
  const objects = join(folder, "objects");
  mkdirSync(objects);
  const node = (n: number) => ({
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${n}` },
    spec: { podCIDRs: [`10.244.${n}.0/24`] },
    status: { addresses: [{ type: "InternalIP", address: `192.0.2.${n}` }] },
  });
  const text = Array.from({ length: 250 }, (_, n) => JSON.stringify(node(n + 1), undefined, 2)).join("\n---\n");
  expect(text.length).toBeGreaterThan(64 * 1024);
  writeFileSync(join(objects, "nodes.yaml"), text);
  for (const words of [
    ["--version"],
    ["--help"],
    ["validate", objects, "--json"],
    ["plan", "--config", objects, "--node", "node7", "--json"],
  ])
    expect(fromBuild(...words)).toBe(fromSource(...words));
});

test("is a plugin of kubectl as well, and keeps Kubernetes' client in a file of its own", () => {
  const help = execFileSync(join(built, "kubectl-podlane"), ["peers", "--help"], { encoding: "utf8", env, cwd: "/" });
  expect(help).toContain("Usage: kubectl podlane peers");
  const files = readdirSync(built).filter(name => name.endsWith(".js"));
  const withClient = files.filter(name => readFileSync(join(built, name), "utf8").includes("loadFromClusterAndUser("));
  const main = readFileSync(join(built, "main.js"), "utf8");
  expect(withClient).toHaveLength(1);
  expect(main).not.toMatch(new RegExp(`^import .*${withClient[0]}`, "m"));
});

test("who wants no metrics loads nothing for them", () => {
  const holding = readdirSync(built).filter(
    file => file.endsWith(".js") && readFileSync(join(built, file), "utf8").includes("PROMETHEUS_CONTENT_TYPE"),
  );
  expect(holding).toHaveLength(1);
  const [name] = holding;
  const others = readdirSync(built).filter(file => file.endsWith(".js") && file !== name);
  const imports = others.flatMap(file =>
    readFileSync(join(built, file), "utf8")
      .split("\n")
      .filter(line => line.includes(name)),
  );
  expect(imports).toHaveLength(1);
  expect(imports[0]).toContain(`await import("./${name}")`);
});

describe("the agent", () => {
  test("has sessions and routes, answers, and attaches by the executable that was built", async context => {
    context.skip(process.getuid?.() !== 0, "network namespaces need root");
    const pair = new Pair(join(built, "main.js"));
    try {
      pair.start(0, ["--metrics-listen", "127.0.0.1:9479"]);
      pair.start(1);
      const within = { timeout: 60_000, interval: 100 };
      await expect.poll(() => pair.kernelRoutes(1), within).toContain("10.244.1.0/24");
      expect(await pair.ask(0, "status")).toMatchObject({ node: "node1", attachments: 0 });
      const ask = `fetch("http://127.0.0.1:9479/metrics").then(answer => answer.text()).then(console.log)`;
      const metrics = execFileSync("ip", ["netns", "exec", pair.names[0], process.execPath, "-e", ask], { encoding: "utf8" });
      expect(metrics).toContain('podlane_sessions{state="Established"} 1\n');
      const plugin = join(built, "cni/podlane");
      const config = JSON.stringify({ cniVersion: "1.1.0", name: "pods", type: "podlane", socket: pair.socket(0) });
      const status = execFileSync(plugin, {
        input: config,
        env: { CNI_COMMAND: "STATUS", CNI_PATH: join(built, "cni") },
        encoding: "utf8",
      });
      expect(status).toBe("");
    } finally {
      await pair.close();
    }
  }, 60_000);
});
