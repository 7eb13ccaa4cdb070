/**
 * `podlane --node` against the agents of a cluster of real containerd and kubelet: through the API server and the kubelet into the agent's container, and as a plugin
 * of a real kubectl. Needs root on Linux.
 */
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFailed, test, vi } from "vitest";
import { parseAllDocuments } from "yaml";
import { version } from "../../agent/version.ts";
import { imageName } from "../../deploy/image.ts";
import { manifest } from "../../deploy/manifests.ts";
import { missingCluster } from "../../lab/kubernetes/programs.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { Cluster } from "./cluster.ts";

// Much longer than on a quiet machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 240_000 });
const missing = missingCluster();
const root = join(import.meta.dirname, "../..");

let cluster: Cluster;
let plugins: string;

beforeAll(async () => {
  if (missing) return;
  cluster = await Cluster.startWithImage(2);
  plugins = join(cluster.folder, "plugins");
  mkdirSync(plugins);
  symlinkSync(join(root, "scripts/podlane"), join(plugins, "kubectl-podlane"));
  await cluster.access.kubectl(["apply", "--server-side", "-f", "-"], agentsAlone());
  await cluster.access.kubectl(["-n", "podlane-system", "rollout", "status", "daemonset/podlane", "--timeout=60s"]);
  await until("the agents' sessions are up", async () => {
    const peers = (await cluster.nodes[0].agent("/v1/peers"))?.peers ?? [];
    return peers.length === 2 && peers.every(({ state }: { state: string }) => state === "Established");
  });
});
afterAll(() => cluster?.close());
beforeEach(context => {
  if (missing) context.skip(missing);
  onTestFailed(async () => console.error(await cluster.report()));
});

/** The manifest with agents that do what these tests ask for, and no more: they install nothing, and no probe ends them. */
function agentsAlone(): string {
  const objects = parseAllDocuments(manifest()).map(document => document.toJS());
  for (const { kind, spec } of objects) {
    if (kind !== "DaemonSet") continue;
    const { containers } = spec.template.spec;
    for (const probe of ["startupProbe", "livenessProbe", "readinessProbe"]) delete containers[0][probe];
    containers[0].args = ["agent", "--node=$(NODE_NAME)", "--kubernetes", "--socket=/run/podlane/agent.sock"];
  }
  return objects.map(object => JSON.stringify(object)).join("\n---\n");
}

const main = join(root, "cli/main.ts");
const command = (...words: string[]) => [process.execPath, main, ...words, "--kubeconfig", cluster.access.kubeconfig];
const podlane = (...words: string[]) => cluster.outside.run(command(...words));

test("asks the agents of all nodes about Services", async () => {
  const { status, stdout, stderr } = await podlane("services", "--all-nodes", "--json");
  expect([status, stderr]).toEqual([0, ""]);
  const { nodes } = JSON.parse(stdout);
  expect(nodes.map(({ node, view }: { node: string; view?: object }) => [node, view])).toMatchObject([
    ["n1", { node: "n1", services: [] }],
    ["n2", { node: "n2", services: [] }],
  ]);
});

test("asks the agent as if it were on its node", async () => {
  const { status, stdout, stderr } = await podlane("peers", "--node", "n1", "--json");
  expect([status, stderr]).toEqual([0, ""]);
  const names = (peers: { name: string }[]) => peers.map(peer => peer.name).sort();
  expect(names(JSON.parse(stdout).peers)).toEqual(names((await cluster.node("n1").agent("/v1/peers")).peers));
  const [name] = names(JSON.parse(stdout).peers);
  for (const words of [["peer", name], ["routes"], ["explain", "10.244.0.0/16"], ["pods"], ["problems"], ["plan"], ["reload"]])
    expect(await podlane(...words, "--node", "n1"), words.join(" ")).toMatchObject({ status: 0, stderr: "" });
  expect((await podlane("status", "--node", "n2")).stdout).toMatch(/^node +n2\n/);
  const { stdout: versions } = await podlane("version", "--node", "n2");
  expect(versions.split("\n")).toEqual([`podlane ${version}`, expect.stringMatching(/^API /), `${version}  agent of node n2`, ""]);
  const refused = await podlane("peer", "nobody", "--refresh", "in", "--node", "n1");
  expect(refused).toMatchObject({ status: 1, stdout: "", stderr: expect.stringContaining(`there is no neighbour "nobody"`) });
});

test("is a plugin of kubectl", async () => {
  const script = `PATH=${plugins}:${cluster.programs}:$PATH KUBECONFIG=${cluster.access.kubeconfig}; export PATH KUBECONFIG; kubectl podlane status --node n1 && kubectl podlane peers --help`;
  const stdout = await cluster.outside.must(["sh", "-c", script]);
  expect(stdout).toMatch(/^node +n1\n/);
  expect(stdout).toContain("Usage: kubectl podlane peers");
});

describe("events", () => {
  const relays = async () => {
    const stdout = await cluster.node("n1").must(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true"]);
    return stdout.match(/podlane api --json|main.js api --json/g)?.length ?? 0;
  };

  test("are followed, and who stops leaves no process behind", async () => {
    const following = cluster.outside.start("events", command("events", "--node", "n1", "--json"));
    await until("it runs in the pod", async () => (await relays()) > 0);
    await until("a reload is told", async () => {
      await podlane("reload", "--node", "n1");
      return /"type":"reload"/.test(following.log());
    });
    await following.kill("SIGINT");
    await until("nothing of it is left in the pod", async () => (await relays()) === 0);
  });

  test("end with the agent, which is a failure", async () => {
    const following = cluster.outside.start("ending", [
      ...["sh", "-c", '"$@"; echo "exit code $?"', "sh"],
      ...command("events", "--node", "n1"),
    ]);
    await until("it runs in the pod", async () => (await relays()) > 0);
    const pods = "/api/v1/namespaces/podlane-system/pods";
    const { items } = await cluster.api("GET", `${pods}?fieldSelector=spec.nodeName%3Dn1`);
    await cluster.api("DELETE", `${pods}/${items[0].metadata.name}`);
    await following.ended;
    // The last: the relay ran, and had not come to the agent yet. One that had, and no answer, says that it ended before.
    expect(following.log()).toMatch(/podlane: .*(ended|failed|broke off|no agent runs here).*exit code 1/s);
  });
});

test("says so where no agent listens in the pod", async () => {
  await cluster.api("POST", "/api/v1/namespaces", { metadata: { name: "other" } });
  const labels = { "app.kubernetes.io/name": "podlane" };
  const containers = [{ name: "agent", image: imageName, command: ["/usr/bin/node", "--eval", "setInterval(() => {}, 1e9)"] }];
  const spec = { nodeName: "n2", hostNetwork: true, automountServiceAccountToken: false, terminationGracePeriodSeconds: 0, containers };
  await until("the namespace has its account", async () => {
    return (await cluster.api("GET", "/api/v1/namespaces/other/serviceaccounts/default")).kind === "ServiceAccount";
  });
  await cluster.api("POST", "/api/v1/namespaces/other/pods", { metadata: { name: "podlane-x", labels }, spec });
  await until(
    "the pod runs",
    async () => (await cluster.api("GET", "/api/v1/namespaces/other/pods/podlane-x")).status?.phase === "Running",
  );
  const { status, stderr } = await podlane("peers", "--node", "n2", "--namespace", "other", "--json");
  expect(status).toBe(1);
  expect(JSON.parse(stderr).error).toBe("on node n2: no agent runs here: /run/podlane/agent.sock does not exist");
});
