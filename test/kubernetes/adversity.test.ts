/**
 * What goes wrong in clusters, and what it costs on podlane: packets, sessions, routes. One cluster, podlane as its DaemonSet; each test mends what it
 * did. Needs root on Linux.
 */
import { renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, expect, onTestFailed, test, vi } from "vitest";
import { missingCluster } from "../../lab/kubernetes/programs.ts";
import { webServer } from "../../lab/kubernetes/tools-image.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { Cluster, type ClusterNode } from "./cluster.ts";
import { type Cost, type End, Witness } from "./witness.ts";

// Much longer than on a quiet machine.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 240_000 });
const missing = missingCluster();
const podsOf = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb";
/** Milliseconds that the API server stays away; $PODLANE_AWAY: seconds. */
const AWAY = Number(process.env.PODLANE_AWAY ?? 30) * 1000;

let cluster: Cluster;

beforeAll(async () => {
  if (missing) return;
  cluster = await Cluster.startWithImage(3);
  await cluster.install();
  await cluster.ready(60_000);
  const selector = { matchLabels: { app: "web" } };
  const template = webServer("web", { pod: { tolerations: [{ operator: "Exists" }] } });
  await cluster.api("POST", "/apis/apps/v1/namespaces/default/daemonsets", { metadata: { name: "web" }, spec: { selector, template } });
});
afterAll(() => cluster?.close());

beforeEach(context => {
  if (missing) context.skip(missing);
  onTestFailed(async () => console.error(await cluster.report()));
});

/** A pod on each node, that answers; all sessions are up. */
async function settled(): Promise<End[]> {
  let ends: End[] = [];
  await until(
    "a pod on each node is ready, and all sessions are up",
    async () => {
      const pods = (await cluster.api("GET", podsOf)).items.filter(ready);
      if (pods.length !== cluster.nodes.length) return false;
      const found: End[] = [];
      for (const node of cluster.nodes) {
        if (!(await node.converged())) return false;
        const { attachments = [] } = (await node.agent("/v1/attachments")) ?? {};
        for (const one of attachments) {
          const pod = pods.find(({ metadata }: { metadata: { uid: string } }) => metadata.uid === one.pod.uid);
          if (pod) found.push({ node, netns: one.netns, addresses: pod.status.podIPs.map(({ ip }: { ip: string }) => ip) });
        }
      }
      ends = found;
      return found.length === cluster.nodes.length;
    },
    120_000,
  );
  return ends;
}

// biome-ignore lint/suspicious/noExplicitAny: as the API server gives it.
function ready({ status, metadata }: any): boolean {
  const isReady = status.conditions?.some((one: { type: string; status: string }) => one.type === "Ready" && one.status === "True");
  return isReady && metadata.deletionTimestamp === undefined;
}

async function killAgent(node: ClusterNode): Promise<void> {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a shell's.
  const kill = 'for one in /proc/[0-9]*; do [ "$(readlink $one/exe)" = /usr/bin/node ] && kill -9 ${one#/proc/}; done; true';
  const before = (await node.agent("/v1/status"))?.startedAt;
  await node.must(["sh", "-c", kill]);
  await until(
    `the kubelet of ${node.name} starts the agent again`,
    async () => {
      const { startedAt = before } = (await node.agent("/v1/status")) ?? {};
      return startedAt !== before;
    },
    60_000,
  );
}

async function apiAnswers(): Promise<void> {
  await until(
    "the API server is ready",
    async () => (await cluster.access.call("GET", "/readyz").catch(() => undefined))?.status === 200,
    90_000,
  );
}

/** For docs/kubernetes.md. */
async function tell(what: string, witness: Witness): Promise<Cost> {
  const cost = await witness.end();
  const { sent, lost, losses, reset, withdrawn } = cost;
  const lines = [...losses.map(one => `lost ${one}`), ...withdrawn.map(one => `withdrawn: ${one}`), ...witness.said];
  console.error(
    [`${what}: ${lost} of ${sent} packets lost, ${reset.length} sessions begun anew: ${reset.join(", ")}`, ...lines].join("\n  "),
  );
  return cost;
}

const inUse = async (node: ClusterNode) => (await node.agent("/v1/status"))?.config.inUse;

/** Every agent has what the API server says, and nothing is wrong. */
async function followed(): Promise<void> {
  for (const node of cluster.nodes) {
    await until(`${node.name} follows the API server`, async () => (await inUse(node)) === "source", 120_000);
    await until(`nothing is wrong on ${node.name}`, async () => (await node.agent("/v1/problems"))?.problems.length === 0, 120_000);
  }
}

/** Kills the agent of a node whose API server does not help it, and attaches a pod there. */
async function restartAlone(node: ClusterNode): Promise<void> {
  await killAgent(node);
  await until("it uses the plan that it saved", async () => (await inUse(node)) === "saved");
  for (const one of cluster.nodes) await until(`the sessions of ${one.name} are up`, () => one.converged());
  await node.must(["sh", "-c", "touch /run/netns/alone; unshare --net=/run/netns/alone true"]);
  const config = '{"cniVersion":"1.0.0","name":"podlane","type":"podlane"}';
  const call = (command: string) => {
    const variables = `CNI_COMMAND=${command} CNI_CONTAINERID=alone CNI_NETNS=/run/netns/alone CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin`;
    return node.must(["sh", "-c", `echo '${config}' | ${variables} /opt/cni/bin/podlane`]);
  };
  expect(await call("ADD")).toContain('"address"');
  await call("DEL");
  await node.must(["sh", "-c", "umount /run/netns/alone; rm /run/netns/alone"]);
}

test("an agent that is killed costs no packet", async () => {
  const witness = new Witness(cluster);
  await witness.begin(await settled());
  await killAgent(cluster.node("n2"));
  await settled();
  await followed();
  const cost = await tell("agent killed", witness);
  expect(cost).toMatchObject({ lost: 0, withdrawn: [] });
  expect(cost.reset.filter(one => !one.includes("n2"))).toEqual([]);
});

test("an API server that is away costs nothing, and an agent that starts meanwhile serves pods", async () => {
  const plane = cluster.outside;
  const witness = new Witness(cluster);
  await witness.begin(await settled());
  await plane.daemon("kube-apiserver").kill("SIGKILL");
  const since = Date.now();
  await restartAlone(cluster.node("n2"));
  await delay(Math.max(0, since + AWAY - Date.now()));
  await witness.look();
  plane.again("kube-apiserver");
  await apiAnswers();
  await followed();
  const cost = await tell(`API server away for ${AWAY / 1000} s, agent of n2 killed`, witness);
  expect(cost).toMatchObject({ lost: 0, withdrawn: [] });
  expect(cost.reset.filter(one => !one.includes("n2"))).toEqual([]);
  const said = witness.said.join("\n");
  expect(said).toContain("n1 warning ApiServerUnreachable");
  expect(said).toContain("n2 error ConfigurationHeld configuration: the configuration cannot be read: using the last good plan");
}, 900_000);

test("an etcd that is emptied and restored takes nothing from anybody meanwhile", async () => {
  const plane = cluster.outside;
  const witness = new Witness(cluster);
  await witness.begin(await settled());
  const data = join(plane.folder, "etcd");
  const exchange = async (change: () => void) => {
    await plane.daemon("kube-apiserver").kill("SIGKILL");
    await plane.daemon("etcd").kill("SIGTERM");
    change();
    plane.again("etcd");
    plane.again("kube-apiserver");
    await apiAnswers();
  };
  await exchange(() => renameSync(data, `${data}.away`));
  expect((await cluster.api("GET", "/api/v1/nodes")).items).toEqual([]);
  const refused = async () => JSON.stringify(await cluster.node("n1").agent("/v1/problems")).includes("401");
  await until("the agents are refused", refused, 60_000);
  await restartAlone(cluster.node("n2"));
  await witness.look();
  await exchange(() => {
    renameSync(data, `${data}.emptied`);
    renameSync(`${data}.away`, data);
  });
  // Their informers are at versions of the emptied store, and wait for them: Kubernetes asks for their restart after a restore.
  for (const name of ["kube-controller-manager", "kube-scheduler"]) {
    await plane.daemon(name).kill("SIGKILL");
    plane.again(name);
  }
  await followed();
  const cost = await tell("etcd emptied and restored, agent of n2 killed", witness);
  await settled();
  expect(cost).toMatchObject({ lost: 0, withdrawn: [] });
  expect(cost.reset.filter(one => !one.includes("n2"))).toEqual([]);
});

const rangesOf = async (name: string): Promise<string[]> => (await cluster.api("GET", `/api/v1/nodes/${name}`)).spec?.podCIDRs ?? [];

async function registered(name: string): Promise<string[]> {
  await until(`the node ${name} has its ranges`, async () => (await rangesOf(name)).length === 2, 60_000);
  return rangesOf(name);
}

/** Its pods are made anew, with addresses of its present range. */
async function replacePods(node: string): Promise<void> {
  for (const pod of (await cluster.api("GET", podsOf)).items)
    if (pod.spec.nodeName === node) await cluster.api("DELETE", `/api/v1/namespaces/default/pods/${pod.metadata.name}`);
  await settled();
}

test("a node that is deleted and added again with another range keeps its pods, and no other node notices", async () => {
  const node = cluster.node("n3");
  // Ranges are given in a row, which a manager that was restarted begins anew: the next is none of those in use now.
  await cluster.api("POST", "/api/v1/nodes", { metadata: { name: "spare" } });
  await registered("spare");
  await cluster.api("DELETE", "/api/v1/nodes/spare");
  const before = await rangesOf("n3");
  const witness = new Witness(cluster);
  await witness.begin(await settled());
  await node.daemon("kubelet").kill("SIGTERM");
  await cluster.api("DELETE", "/api/v1/nodes/n3");
  await until("the node knows that it is gone", async () =>
    JSON.stringify(await node.agent("/v1/problems")).includes("there is no Node object"),
  );
  await witness.look();
  node.startKubelet();
  const after = await registered("n3");
  expect(after).not.toEqual(before);
  await until("the agent has the new range", async () => JSON.stringify(await node.agent("/v1/plan")).includes(after[0]), 60_000);
  // Longer than a node that is gone is kept.
  await delay(12_000);
  await witness.look();
  const cost = await tell("node deleted and added again", witness);
  await replacePods("n3");
  await followed();
  expect(cost.reset).toEqual([]);
  expect(cost.losses.filter(one => !one.includes("n3"))).toEqual([]);
  expect(cost.lost).toBeLessThan(cost.sent / 20);
});

test("a node that is renamed costs its own pods alone, and the problems say what to do", async () => {
  const node = cluster.node("n3");
  const witness = new Witness(cluster);
  await witness.begin((await settled()).filter(end => end.node !== node));
  await node.daemon("kubelet").kill("SIGTERM");
  node.startKubelet("n3b");
  await registered("n3b");
  const isNow = (name: string) =>
    until(`the agent is that of ${name}`, async () => (await node.agent("/v1/status"))?.node === name, 90_000);
  await isNow("n3b");
  const others = async () => JSON.stringify(await cluster.node("n1").agent("/v1/problems"));
  await until("the others name both", async () => (await others()).includes("if one is the former name of the other, delete that Node"));
  await witness.look();
  await cluster.api("DELETE", "/api/v1/nodes/n3");
  await until("the others know it by its new name", async () => (await others()).includes("DuplicateAddress") === false);
  for (const one of cluster.nodes) await until(`the sessions of ${one.name} are up`, () => one.converged());
  const cost = await tell("node renamed", witness);
  await node.daemon("kubelet").kill("SIGTERM");
  await cluster.api("DELETE", "/api/v1/nodes/n3b");
  node.startKubelet();
  await registered("n3");
  await isNow("n3");
  await replacePods("n3");
  await followed();
  expect(cost.lost).toBe(0);
  expect(cost.reset.filter(one => !one.includes("n3"))).toEqual([]);
});

/** Of the whole process, as Node's own clock cannot be told otherwise. */
const dayAhead =
  "globalThis.Date=class extends Date{constructor(...a){a.length?super(...a):super(Date.now())}static now(){return super.now()+864e5}}";

test("a clock that is a day ahead costs nothing, and shows in the times alone", async () => {
  const node = cluster.node("n1");
  const witness = new Witness(cluster);
  await witness.begin(await settled());
  const startedAt = async () => (await node.agent("/v1/status"))?.startedAt;
  const replaceAgent = async () => {
    const before = await startedAt();
    await cluster.access.kubectl(["-n", "podlane-system", "delete", "pod", "--field-selector", "spec.nodeName=n1", "--wait=true"]);
    await until("another agent answers", async () => ((await startedAt()) ?? before) !== before, 60_000);
  };
  // Pods have the new template when they are made anew, and only that of n1 is.
  const patch = (...operations: object[]) =>
    cluster.access.kubectl([
      "-n",
      "podlane-system",
      "patch",
      "daemonset",
      "podlane",
      "--type=json",
      `--patch=${JSON.stringify(operations)}`,
    ]);
  const variables = "/spec/template/spec/containers/0/env";
  const shifted = { name: "NODE_OPTIONS", value: `--import=data:text/javascript,${encodeURIComponent(dayAhead)}` };
  await patch(
    { op: "replace", path: "/spec/updateStrategy", value: { type: "OnDelete" } },
    { op: "add", path: `${variables}/0`, value: shifted },
  );
  await replaceAgent();
  await settled();
  await followed();
  expect(Date.parse(await startedAt())).toBeGreaterThan(Date.now() + 80_000_000);
  const leases = "/apis/coordination.k8s.io/v1/namespaces/podlane-system/leases/podlane-controller";
  const renewed = async () => (await cluster.api("GET", leases)).spec?.renewTime;
  const before = await renewed();
  await until("somebody holds the Lease", async () => (await renewed()) !== before, 90_000);
  await witness.look();
  await patch({ op: "remove", path: `${variables}/0` });
  await replaceAgent();
  await patch({ op: "replace", path: "/spec/updateStrategy", value: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } } });
  await settled();
  await followed();
  const cost = await tell("clock of n1 a day ahead, its agent replaced twice", witness);
  expect(cost).toMatchObject({ lost: 0, withdrawn: [] });
  expect(cost.reset.filter(one => !one.includes("n1"))).toEqual([]);
});
