/** `podlane` on a workstation, as a process with a kubeconfig, and a real API server. With a kubelet: cli-node.test.ts. */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { apiVersion } from "../../config/resources/common.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds } from "./install-crds.ts";
import { writeKubeconfig } from "./kubeconfig.ts";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });
const missing = missingApiServer();
const main = join(import.meta.dirname, "../../cli/main.ts");
const folder = mkdtempSync(join(tmpdir(), "podlane-cli-"));
const administrator = join(folder, "administrator");
const nobody = join(folder, "nobody");
const states = `/apis/${apiVersion}/nodestates`;
const pods = "/api/v1/namespaces/podlane-system/pods";

let server: ApiServer;
beforeEach(context => context.skip(missing !== undefined, missing));
beforeAll(async () => {
  if (missing) return;
  server = await startApiServer({ tokens: ['nobody,nobody,nobody,"nobodies"'] });
  await writeKubeconfig(administrator, server.credentials());
  await writeKubeconfig(
    nobody,
    server.credentials(() => "nobody"),
  );
});
afterAll(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

function podlane(kubeconfig: string, ...words: string[]): Promise<Result> {
  const env = { ...process.env, KUBECONFIG: kubeconfig, FORCE_COLOR: undefined };
  return new Promise(resolve =>
    execFile(process.execPath, [main, ...words], { env }, (error, stdout, stderr) =>
      resolve({ status: error ? Number(error.code) : 0, stdout, stderr }),
    ),
  );
}

async function create(path: string, object: object): Promise<void> {
  const { status, body } = await server.call("POST", path, object);
  expect(status, JSON.stringify(body)).toBe(201);
}

const refused = (text: string) => ({ status: 1, stdout: "", stderr: expect.stringContaining(text) });

describe("the cluster", () => {
  test("is not podlane's, without its kinds", async () => {
    expect(await podlane(administrator, "cluster")).toEqual(refused("knows no NodeStates"));
  });

  describe("of three nodes", () => {
    beforeAll(async () => {
      if (missing) return;
      await installCrds(server);
      for (const name of ["n1", "n2", "n3"]) await create("/api/v1/nodes", { metadata: { name } });
      const since = "2026-05-04T11:57:55Z";
      const session = (name: string, state: string) => ({ name, address: "192.0.2.1", state, reason: "hold timer expired", since });
      const ready = (status: string) => ({
        ...{ type: "Ready", status, reason: "Serving", message: "attaches pods", lastTransitionTime: since },
        observedGeneration: 1,
      });
      const problem = (node: string) => ({
        ...{ severity: "warning", reason: "NotUsed", object: `Node/${node}`, field: "spec.podCIDRs[2]" },
        ...{ message: `${node} does not use it`, remedy: "take it away" },
      });
      const status: Record<string, object> = {
        n1: { conditions: [ready("True")], sessions: [session("n2", "Established")], learned: { installed: 2 }, problems: [problem("n1")] },
        n2: { conditions: [ready("True")], sessions: [session("n1", "Active")], problems: [problem("n2")] },
      };
      for (const [name, one] of Object.entries(status)) {
        await create(states, { apiVersion, kind: "NodeState", metadata: { name } });
        expect(await server.call("PATCH", `${states}/${name}/status`, { status: one })).toMatchObject({ status: 200 });
      }
    });

    test("is shown with the worst node first, also one that has no agent", async () => {
      const { status, stdout, stderr } = await podlane(administrator, "cluster");
      expect([status, stderr]).toEqual([0, ""]);
      const lines = stdout.split("\n");
      expect(lines.slice(0, 3)).toEqual([
        "nodes     2 of 3 ready; 1 without a report",
        "sessions  1 of 2 established",
        "problems  1 warning: see podlane cluster --problems",
      ]);
      expect(lines.slice(5, 8).map(line => line.split(/ {2,}/).filter(Boolean))).toEqual([
        ["n3", "-", "-", "-", "-", "no agent has reported for this node"],
        ["n2", "yes", "0/1", "-", "1", expect.stringMatching(/^\d+ (d|h)/), "n1: hold timer expired"],
        ["n1", "yes", "1/1", "2", "1", expect.stringMatching(/^\d+ (d|h)/)],
      ]);
      expect(await podlane(administrator, "cluster", "--exit-code")).toMatchObject({ status: 1 });
    });

    test("tells each problem once, and all of it to programs", async () => {
      const { stdout } = await podlane(administrator, "cluster", "--problems");
      expect(stdout).toContain("n1 does not use it (on 2 nodes: n1, n2)");
      const view = JSON.parse((await podlane(administrator, "cluster", "--json")).stdout);
      expect(view.nodes[0]).toMatchObject({ name: "n3", reported: false, ready: "Unknown" });
      expect(view.problems).toEqual([expect.objectContaining({ nodes: ["n1", "n2"] })]);
    });

    test("names the versions of agents", async () => {
      const { stdout } = await podlane(administrator, "version", "--cluster");
      expect(stdout).toMatch(/^podlane \d.*\nunknown {2}agents on all 3 nodes\n$/);
    });

    test("is read in pages, also what has outlived its node", async () => {
      const names = Array.from({ length: 450 }, (_, n) => `gone${n}`);
      await Promise.all(names.map(name => create(states, { apiVersion, kind: "NodeState", metadata: { name } })));
      const { nodes } = JSON.parse((await podlane(administrator, "cluster", "--json")).stdout);
      const gone = nodes.filter((row: { orphaned?: boolean }) => row.orphaned).map((row: { name: string }) => row.name);
      expect([nodes.length, gone]).toEqual([453, names]);
    });
  });
});

test("what the user may not do, or cannot reach, is said with what is missing", async () => {
  expect(await podlane(nobody, "cluster")).toEqual(refused("you may not list nodestates.podlane.io"));
  expect(await podlane(nobody, "peers", "--node", "n1")).toEqual(refused("you may not list pods in namespace podlane-system"));
  expect(await podlane(administrator, "cluster", "--context", "nowhere")).toEqual(refused("https://127.0.0.1:1 does not answer"));
  expect(await podlane(administrator, "status", "--node", "n1", "--context", "nowhere")).toEqual(refused("does not answer"));
  expect(await podlane(administrator, "cluster", "--context", "other")).toEqual(refused('the kubeconfig has no context "other"'));
  expect(await podlane(join(folder, "absent"), "cluster")).toEqual(refused("absent"));
  const { stderr } = await podlane(nobody, "cluster", "--json");
  expect(JSON.parse(stderr)).toEqual({ error: expect.stringContaining('User "nobody" cannot list'), remedy: expect.any(String) });
});

describe("the agent of a node", () => {
  beforeAll(async () => {
    if (missing) return;
    await create("/api/v1/namespaces", { metadata: { name: "podlane-system" } });
    await create("/api/v1/nodes", { metadata: { name: "m1" } });
  });

  test("is not there: no such node, no agents at all, none on this node, one that does not run", async () => {
    const ask = (...words: string[]) => podlane(administrator, "peers", "--node", ...words);
    expect(await ask("m9")).toEqual(refused('the cluster has no node "m9"'));
    expect(await ask("m1")).toEqual(refused("there are no agents in namespace podlane-system"));
    const account = "/api/v1/namespaces/podlane-system/serviceaccounts";
    await create(account, { metadata: { name: "default" } });
    const pod = (name: string, nodeName: string, component: string) => ({
      metadata: { name, labels: { "app.kubernetes.io/name": "podlane", "app.kubernetes.io/component": component } },
      spec: { nodeName, automountServiceAccountToken: false, containers: [{ name: "agent", image: "podlane" }] },
    });
    await create(pods, pod("podlane-a", "m2", "agent"));
    await create(pods, pod("podlane-uninstall", "m1", "uninstall"));
    expect(await ask("m1")).toEqual(refused("no agent is on node m1; pods of agents in namespace podlane-system: 1"));
    await create(pods, pod("podlane-b", "m1", "agent"));
    expect(await ask("m1")).toEqual(refused("the agent of m1 does not run: pod podlane-b is Pending"));
    expect(await ask("m1", "--namespace", "kube-system")).toEqual(refused("there are no agents in namespace kube-system"));
    const containerStatuses = [
      {
        ...{ name: "agent", image: "podlane", imageID: "", ready: false, restartCount: 0 },
        state: { waiting: { reason: "ErrImagePull", message: "no route to host" } },
      },
    ];
    await server.call("PATCH", `${pods}/podlane-b/status`, { status: { containerStatuses } });
    expect(await ask("m1")).toEqual(refused("pod podlane-b is Pending (ErrImagePull: no route to host)"));
  });

  test("runs, and the user may not run a command in its pod, or its kubelet does not answer", async () => {
    const name = "podlane-c";
    await create("/api/v1/nodes", { metadata: { name: "m3" } });
    const labels = { "app.kubernetes.io/name": "podlane" };
    const spec = { nodeName: "m3", automountServiceAccountToken: false, containers: [{ name: "agent", image: "podlane" }] };
    await create(pods, { metadata: { name, labels }, spec });
    const running = { name: "agent", image: "podlane", imageID: "", ready: true, restartCount: 0, state: { running: {} } };
    await server.call("PATCH", `${pods}/${name}/status`, { status: { phase: "Running", containerStatuses: [running] } });
    const role = { apiGroups: [""], resources: ["pods"], verbs: ["list"] };
    const access = "/apis/rbac.authorization.k8s.io/v1/namespaces/podlane-system";
    await create(`${access}/roles`, { metadata: { name: "looker" }, rules: [role] });
    const subjects = [{ kind: "User", name: "nobody", apiGroup: "rbac.authorization.k8s.io" }];
    const roleRef = { kind: "Role", name: "looker", apiGroup: "rbac.authorization.k8s.io" };
    await create(`${access}/rolebindings`, { metadata: { name: "looker" }, subjects, roleRef });
    await vi.waitFor(
      async () => expect(await podlane(nobody, "peers", "--node", "m3")).toEqual(refused("you may not create and get pods/exec")),
      { timeout: 20_000 },
    );
    expect(await podlane(administrator, "peers", "--node", "m3")).toEqual(refused("does not get to the kubelet of m3"));
  });
});
