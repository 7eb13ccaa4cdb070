/**
 * podlane as `kubectl apply -f deploy/podlane.yaml` installs it in a cluster of real containerd, kubelet and kube-proxy: the agents are pods of the image made here,
 * configured by custom resources. Needs root on Linux.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFailed, test, vi } from "vitest";
import type { Machine } from "../../lab/kubernetes/machine.ts";
import { missingCluster } from "../../lab/kubernetes/programs.ts";
import { webServer } from "../../lab/kubernetes/tools-image.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { Cluster } from "./cluster.ts";
import { startTor, torObjects } from "./tor.ts";

// Much longer than on a quiet machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 240_000 });
const missing = missingCluster() ?? (existsSync("/usr/lib/frr/bgpd") ? undefined : "the router is FRR: install frr");
const apps = "/apis/apps/v1/namespaces/default/deployments";
/** capabilities(7): NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_ADMIN. */
const capabilities = [10, 12, 13, 21];

let cluster: Cluster;
let tor: Machine;

beforeAll(async () => {
  if (missing) return;
  cluster = await Cluster.startWithImage(3);
  tor = await startTor(cluster);
  await cluster.install();
  await cluster.access.kubectl(["apply", "-f", "-"], torObjects.map(object => JSON.stringify(object)).join("\n---\n"));
});
afterAll(async () => {
  await tor?.powerOff();
  await cluster?.close();
});

beforeEach(context => {
  if (missing) context.skip(missing);
  onTestFailed(async () => console.error(await cluster.report()));
});

interface Web {
  name: string;
  node: string;
  /** IPv4, IPv6. */
  addresses: string[];
  netns: string;
}

/** Two pods on each node. */
async function deploy(app: string): Promise<Web[]> {
  const spread = { maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule" };
  const selector = { matchLabels: { app } };
  const template = webServer(app, { pod: { topologySpreadConstraints: [{ ...spread, labelSelector: selector }] } });
  await cluster.api("POST", apps, { metadata: { name: app }, spec: { replicas: 6, selector, template } });
  await until(
    `the pods of ${app} are ready`,
    async () => {
      const { status = {} } = await cluster.api("GET", `${apps}/${app}`);
      return status.readyReplicas === 6;
    },
    60_000,
  );
  const attached = new Map<string, string>();
  for (const node of cluster.nodes) {
    for (const one of await node.attachments()) attached.set(one.pod.uid, one.netns);
  }
  return (await cluster.pods(app)).map(({ metadata, spec, status }) => ({
    name: metadata.name,
    node: spec.nodeName,
    addresses: status.podIPs.map(({ ip }: { ip: string }) => ip),
    netns: attached.get(metadata.uid) ?? "",
  }));
}

/** Who answers from there, "-" for nobody. */
async function ask(from: Machine, addresses: string[], netns?: string): Promise<string[]> {
  const url = (address: string) => `http://${address.includes(":") ? `[${address}]` : address}/cgi-bin/who`;
  const script = addresses.map(address => `curl -s -m 2 ${url(address)} || echo -`).join("; ");
  const { stdout } = await from.run(["sh", "-c", script], { netns, limit: 60_000 });
  return stdout
    .trim()
    .split("\n")
    .map(line => line.split(" ")[0]);
}

describe("after kubectl apply", () => {
  let pods: Web[];

  test("every node gets Ready, and a Deployment is reached from its pods, the nodes and the router", async () => {
    await cluster.ready();
    await cluster.access.kubectl(["-n", "podlane-system", "rollout", "status", "daemonset/podlane", "--timeout=60s"]);
    pods = await deploy("web");
    expect(pods.map(pod => pod.node).sort()).toEqual(["n1", "n1", "n2", "n2", "n3", "n3"]);
    const addresses = pods.flatMap(pod => pod.addresses);
    const names = pods.flatMap(pod => pod.addresses.map(() => pod.name));
    expect(addresses).toHaveLength(12);
    for (const pod of pods) expect(await ask(cluster.node(pod.node), addresses, pod.netns), `from ${pod.name}`).toEqual(names);
    for (const node of cluster.nodes) expect(await ask(node, addresses), `from ${node.name}`).toEqual(names);
    await expect.poll(() => ask(tor, addresses), { timeout: 30_000 }).toEqual(names);
  });

  test("agents have four capabilities, a root that is read-only, and nothing else of the host", async () => {
    const look = 'for one in /proc/[0-9]*; do [ "$(readlink $one/exe)" = /usr/bin/node ] && cat $one/status $one/mounts; done; true';
    const stdout = await cluster.nodes[0].must(["sh", "-c", look]);
    const bits = capabilities.reduce((all, bit) => all + 2 ** bit, 0);
    for (const kind of ["CapPrm", "CapEff", "CapBnd"])
      expect(stdout).toMatch(new RegExp(`${kind}:\\s+${bits.toString(16).padStart(16, "0")}`));
    expect(stdout).toMatch(/^overlay \/ overlay ro,/m);
    expect(stdout).toMatch(/Seccomp:\s+2/);
  });

  test("an agent writes the state of its own node and of no other", async () => {
    const own = (name: string) => ["-n", "podlane-system", "get", "pods", "--field-selector", `spec.nodeName=${name}`, "-o", "name"];
    const [pod] = (await cluster.access.kubectl(own("n1"))).trim().split("\n");
    const bound = ["--bound-object-kind=Pod", `--bound-object-name=${pod.split("/")[1]}`];
    const token = (await cluster.access.kubectl(["-n", "podlane-system", "create", "token", "podlane", ...bound])).trim();
    const condition = { type: "NetworkUnavailable", status: "False", reason: "Test", message: "" };
    const patch = JSON.stringify({ status: { conditions: [condition] } });
    const write = async (node: string) => {
      const headers = ["-H", `Authorization: Bearer ${token}`, "-H", "Content-Type: application/strategic-merge-patch+json"];
      const url = `https://10.90.0.10:6443/api/v1/nodes/${node}/status`;
      const authority = join(cluster.outside.folder, "apiserver.crt");
      const words = ["curl", "--silent", "--cacert", authority, "-X", "PATCH", ...headers, "--data", patch, url];
      return JSON.parse(await cluster.outside.must(words));
    };
    const refused = { kind: "Status", code: 403, message: expect.stringContaining("the agent of n1 may not write the state of n2") };
    expect(await write("n2")).toMatchObject(refused);
    expect(await write("n1")).toMatchObject({ kind: "Node", metadata: { name: "n1" } });
  });

  test("a rolling update of the agents loses no packet between pods, nor any new pod", async () => {
    const [one, two] = [pods.find(pod => pod.node === "n1")!, pods.find(pod => pod.node === "n2")!];
    const node = cluster.node("n1");
    const pings = two.addresses.map((address, at) =>
      node.start(`ping${at}`, ["ping", "-n", "-q", "-i", "0.05", "-W", "1", address], one.netns),
    );
    await cluster.access.kubectl(["-n", "podlane-system", "rollout", "restart", "daemonset/podlane"]);
    const during = deploy("during");
    await cluster.access.kubectl(["-n", "podlane-system", "rollout", "status", "daemonset/podlane", "--timeout=90s"]);
    expect(await during).toHaveLength(6);
    for (const ping of pings) {
      await ping.kill("SIGINT");
      expect(ping.log()).toMatch(/ 0% packet loss/);
    }
  });

  test("deploy/uninstall.yaml leaves nothing of podlane on any node", async () => {
    const kubectl = (...words: string[]) => cluster.access.kubectl(words);
    await kubectl("delete", "deployments", "--all", "--wait=true");
    for (const app of ["web", "during"])
      await until(`the pods of ${app} are gone`, async () => (await cluster.pods(app)).length === 0, 60_000);
    await kubectl("-n", "podlane-system", "delete", "daemonset", "podlane", "--cascade=foreground", "--timeout=60s");
    await kubectl("apply", "-f", join(import.meta.dirname, "../../deploy/uninstall.yaml"));
    await kubectl("-n", "podlane-system", "rollout", "status", "daemonset/podlane-uninstall", "--timeout=90s");
    for (const node of cluster.nodes) {
      const look =
        "ip -o link show type bridge; ip route show proto 201; ip -6 route show proto 201; cat /var/lib/podlane/* /run/podlane/*; true";
      expect(await node.must(["sh", "-c", look]), node.name).toBe("");
      expect(await node.must(["ls", "/opt/cni/bin", "/etc/cni/net.d"])).toBe("/etc/cni/net.d:\n\n/opt/cni/bin:\nloopback\nportmap\n");
    }
    await kubectl(
      "delete",
      "--ignore-not-found",
      "-f",
      join(import.meta.dirname, "../../deploy/uninstall.yaml"),
      "-f",
      join(import.meta.dirname, "../../deploy/podlane.yaml"),
    );
    expect(await kubectl("get", "customresourcedefinitions", "-o", "name")).toBe("");
  });
});
