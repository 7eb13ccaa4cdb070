/** NetworkPolicy on real containerd, kubelet and kube-proxy: two nodes, the agents fed by the API server, traffic of both families. Needs root on Linux. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFailed, test, vi } from "vitest";
import { IMAGE } from "../../lab/kubernetes/configuration.ts";
import { missingCluster } from "../../lab/kubernetes/programs.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { Cluster, type ClusterNode } from "./cluster.ts";

// Much longer than on a quiet machine.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 240_000 });
const missing = missingCluster();

interface Pod {
  name: string;
  namespace: string;
  node: ClusterNode;
  addresses: string[];
  netns: string;
}

let cluster: Cluster;
/** By name: `near` and `far` are clients on the node of `web` and on the other one, `other` is one in another namespace. */
const pods = new Map<string, Pod>();
const pod = (name: string) => pods.get(name)!;

beforeAll(async () => {
  if (missing) return;
  cluster = await Cluster.start(2, { network: "processes", objects: "API server" });
  await cluster.api("POST", "/api/v1/namespaces", { metadata: { name: "other", labels: { team: "other" } } });
  await Promise.all([
    make("web", { node: "n1", labels: { app: "web" } }),
    make("near", { node: "n1", labels: { app: "near" } }),
    make("far", { node: "n2", labels: { app: "far" } }),
    make("other", { node: "n2", namespace: "other", labels: { app: "far" } }),
    make("host", {
      node: "n2",
      labels: { app: "host" },
      spec: { hostNetwork: true, containers: [{ name: "web", image: IMAGE, command: ["sleep", "1000000"] }] },
    }),
  ]);
});
afterAll(() => cluster?.close());

beforeEach(context => {
  if (missing) context.skip(missing);
  onTestFailed(async () => {
    for (const node of cluster.nodes) console.error((await node.run(["nft", "list", "table", "inet", "podlane"])).stdout);
    console.error(await cluster.report());
  });
});
afterEach(async () => {
  for (const namespace of ["default", "other"]) {
    const { items = [] } = await cluster.api("GET", policiesOf(namespace));
    for (const { metadata } of items) await cluster.api("DELETE", `${policiesOf(namespace)}/${metadata.name}`);
  }
  if (cluster) await reaches({ near: true, far: true, other: true });
});

const policiesOf = (namespace: string) => `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`;

interface Wish {
  node: string;
  namespace?: string;
  labels: object;
  spec?: object;
}

function manifest(name: string, { node, labels, spec = {} }: Wish): object {
  const web = {
    name: "web",
    image: IMAGE,
    command: ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /www & httpd -f -p 8080 -h /www & wait"],
    ports: [{ name: "web", containerPort: 80 }],
    readinessProbe: { httpGet: { path: "/", port: 80 }, periodSeconds: 1, failureThreshold: 1 },
  };
  const usual = { containers: [web], nodeName: node, automountServiceAccountToken: false, terminationGracePeriodSeconds: 1 };
  return { metadata: { name, labels }, spec: { ...usual, ...spec } };
}

async function make(name: string, wish: Wish): Promise<Pod> {
  const { namespace = "default" } = wish;
  const path = `/api/v1/namespaces/${namespace}/pods`;
  await until(
    `a ServiceAccount in ${namespace}`,
    async () => (await cluster.api("GET", `/api/v1/namespaces/${namespace}/serviceaccounts/default`)).kind === "ServiceAccount",
  );
  await cluster.api("POST", path, manifest(name, wish));
  await until(`pod ${name} is ready`, async () => isReady(await cluster.api("GET", `${path}/${name}`)), 90_000);
  const { metadata, spec, status } = await cluster.api("GET", `${path}/${name}`);
  const node = cluster.node(spec.nodeName);
  const attached = (await node.attachments()).find(one => one.pod?.uid === metadata.uid);
  const made = { name, namespace, node, netns: attached?.netns, addresses: status.podIPs.map(({ ip }: { ip: string }) => ip) };
  pods.set(name, made);
  return made;
}

// biome-ignore lint/suspicious/noExplicitAny: objects as the API server gives them.
function isReady({ status }: any): boolean {
  return status?.conditions?.some((one: { type: string; status: string }) => one.type === "Ready" && one.status === "True") === true;
}

/** Whether each address answers. */
async function answers(from: { node: ClusterNode; netns?: string }, addresses: readonly string[], port = 80): Promise<boolean[]> {
  const curl = addresses.map(
    address => `curl -s -o /dev/null -m 1 http://${address.includes(":") ? `[${address}]` : address}:${port}/ && echo 1 || echo 0`,
  );
  const { stdout } = await from.node.run(["sh", "-c", curl.join("; ")], { netns: from.netns });
  return stdout
    .trim()
    .split("\n")
    .map(line => line === "1");
}

/** Waits until those pods, and no others, reach `to`, in both families. */
async function reaches(expected: Record<string, boolean>, to = "web", port = 80): Promise<void> {
  const all = Object.keys(expected);
  const found = async () => {
    const each = await Promise.all(all.map(name => answers(pod(name), pod(to).addresses, port)));
    return Object.fromEntries(all.map((name, i) => [name, each[i].join()]));
  };
  const both = Object.fromEntries(all.map(name => [name, `${expected[name]},${expected[name]}`]));
  await expect.poll(found, { timeout: 20_000, interval: 50 }).toEqual(both);
}

async function apply(name: string, spec: object, namespace = "default"): Promise<void> {
  await cluster.api("DELETE", `${policiesOf(namespace)}/${name}`);
  await cluster.api("POST", policiesOf(namespace), { metadata: { name }, spec });
}

const web = { matchLabels: { app: "web" } };
const label = (path: string, labels: object) => cluster.api("PATCH", path, { metadata: { labels } });

describe("ingress", () => {
  test("is denied by default, but for the node itself, its probes, and the pod itself through a Service", async () => {
    const spec = { selector: { app: "web" }, ports: [{ port: 80 }], ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv4", "IPv6"] };
    const { spec: service } = await cluster.api("POST", "/api/v1/namespaces/default/services", { metadata: { name: "web" }, spec });
    await expect.poll(() => answers(pod("near"), service.clusterIPs), { timeout: 20_000 }).toEqual([true, true]);
    await apply("deny", { podSelector: {}, policyTypes: ["Ingress"] });
    await reaches({ near: false, far: false, other: false });
    expect(await answers(pod("near"), service.clusterIPs)).toEqual([false, false]);
    expect(await answers(pod("web"), service.clusterIPs)).toEqual([true, true]);
    expect(await answers({ node: pod("web").node }, pod("web").addresses)).toEqual([true, true]);
    expect(await answers({ node: pod("far").node }, pod("web").addresses)).toEqual([false, false]);
    expect(isReady(await cluster.api("GET", "/api/v1/namespaces/default/pods/web"))).toBe(true);
    const { allowed, ingress } = await pod("web").node.agent("/v1/connection?from=default/far&to=default/web&port=80");
    expect([allowed, ingress]).toEqual([false, { allowed: false, by: "isolated", isolatedBy: ["default/deny"] }]);
    const { policies } = await pod("web").node.agent("/v1/policies");
    expect(policies).toEqual([
      { policy: "default/deny", pods: ["default/near", "default/web"], dropped: { ingress: expect.any(Number), egress: 0 } },
    ]);
    expect(policies[0].dropped!.ingress).toBeGreaterThan(0);
    await cluster.api("DELETE", "/api/v1/namespaces/default/services/web");
  });

  test("follows the labels of pods and of namespaces", async () => {
    const team = { matchLabels: { team: "friend" } };
    await apply("allow", {
      podSelector: web,
      ingress: [{ from: [{ podSelector: { matchLabels: { role: "client" } } }, { namespaceSelector: team }] }],
    });
    await reaches({ near: false, far: false, other: false });
    await label("/api/v1/namespaces/default/pods/far", { role: "client" });
    await reaches({ near: false, far: true, other: false });
    await label("/api/v1/namespaces/other", { team: "friend" });
    await reaches({ near: false, far: true, other: true });
    await label("/api/v1/namespaces/default/pods/far", { role: null });
    await label("/api/v1/namespaces/other", { team: "other" });
    await reaches({ near: false, far: false, other: false });
  });

  test("is let in by named port, by number, and by block with exceptions", async () => {
    await apply("port", { podSelector: web, ingress: [{ ports: [{ port: "web" }] }] });
    await reaches({ near: false, far: false }, "web", 8080);
    await reaches({ near: true, far: true });
    await apply("port", { podSelector: web, ingress: [{ ports: [{ port: 8000, endPort: 9000 }] }] });
    await reaches({ near: true, far: true }, "web", 8080);
    await reaches({ near: false, far: false });
    const [four, six] = pod("far").addresses;
    const blocks = [{ ipBlock: { cidr: "0.0.0.0/0", except: [`${four}/32`] } }, { ipBlock: { cidr: "::/0", except: [`${six}/128`] } }];
    await apply("port", { podSelector: web, ingress: [{ from: blocks }] });
    await reaches({ near: true, far: false, other: true });
  });

  test("from a pod on the host network is that of its node, and no selector finds it", async () => {
    await apply("host", { podSelector: web, ingress: [{ from: [{ podSelector: {} }] }] });
    await reaches({ near: true, far: true, other: false });
    expect(await answers({ node: pod("host").node }, pod("web").addresses)).toEqual([false, false]);
  });
});

describe("egress", () => {
  test("is denied but to whom a rule names", async () => {
    await apply("out", {
      podSelector: { matchLabels: { app: "near" } },
      policyTypes: ["Egress"],
      egress: [{ to: [{ podSelector: web }], ports: [{ port: "web" }] }],
    });
    await reaches({ near: false }, "far");
    await reaches({ near: false }, "web", 8080);
    await reaches({ near: true, far: true });
    // The other way is not egress of it, and answers pass.
    await reaches({ web: true, far: true }, "near");
  });
});

describe("a pod that starts", () => {
  /** It says what it reached with its first packets. */
  async function firstPackets(name: string, labels: object): Promise<string> {
    const knock = pod("far").addresses.map(one => `busybox nc -w 2 ${one} 80 < /dev/null && echo -n open || echo -n closed`);
    const container = { name: "first", image: IMAGE, command: ["sh", "-c", `(${knock.join("; ")}) > /dev/termination-log 2> /dev/null`] };
    const path = "/api/v1/namespaces/default/pods";
    await cluster.api("POST", path, manifest(name, { node: "n1", labels, spec: { restartPolicy: "Never", containers: [container] } }));
    let message = "";
    await until(
      `pod ${name} has ended`,
      async () => {
        const { status } = await cluster.api("GET", `${path}/${name}`);
        message = status?.containerStatuses?.[0]?.state?.terminated?.message ?? "";
        return status?.phase === "Succeeded";
      },
      60_000,
    );
    await cluster.api("DELETE", `${path}/${name}`);
    return message;
  }

  test("is held by its policies from the first packet", async () => {
    expect(await firstPackets("first-open", { app: "first" })).toBe("openopen");
    await apply("out", { podSelector: { matchLabels: { app: "first" } }, policyTypes: ["Egress"] });
    for (let i = 0; i < 3; i++) expect(await firstPackets(`first-${i}`, { app: "first" })).toBe("closedclosed");
  });
});

describe("an agent that is killed", () => {
  test("leaves all rules in force, and follows what changed when it is back", async () => {
    await apply("deny", { podSelector: web, policyTypes: ["Ingress"] });
    await reaches({ near: false, far: false, other: false });
    const { node } = pod("web");
    await node.killAgent();
    await reaches({ near: false, far: false, other: false });
    node.startAgent();
    let isBack = false;
    // As long as it starts, and a little longer, nobody gets through.
    while (!isBack) {
      isBack = (await node.agent("/v1/status")) !== undefined;
      expect(await answers(pod("far"), pod("web").addresses)).toEqual([false, false]);
    }
    await until("the agent is back", () => node.converged(), 60_000);
    expect(await answers(pod("far"), pod("web").addresses)).toEqual([false, false]);
    await apply("deny", { podSelector: web, ingress: [{ from: [{ podSelector: { matchLabels: { app: "far" } } }] }] });
    await reaches({ near: false, far: true, other: false });
  });

  test("and starts while the API server is away opens nothing", async () => {
    await apply("deny", { podSelector: web, policyTypes: ["Ingress"] });
    await reaches({ near: false, far: false, other: false });
    const { node } = pod("web");
    const away = ["ip", "route", "add", "blackhole", "10.90.0.10/32"];
    await node.must(away);
    try {
      await node.killAgent();
      node.startAgent();
      const ask = "/v1/connection?from=default/far&to=default/web&port=80";
      await until("the agent is back", async () => (await node.agent("/v1/status")) !== undefined, 60_000);
      expect(await node.agent(ask)).toBeUndefined();
      for (const name of ["near", "far", "other"]) expect(await answers(pod(name), pod("web").addresses)).toEqual([false, false]);
      expect((await node.agent("/v1/status")).policies).toMatchObject({ inForce: false });
    } finally {
      await node.must(away.map(word => (word === "add" ? "delete" : word)));
    }
    await until("all is known again", async () => (await node.agent("/v1/status"))?.policies?.inForce === true, 60_000);
    await reaches({ near: false, far: false, other: false });
  });
});

test("a policy takes effect, and goes, within a moment", async () => {
  const times = { created: [] as number[], deleted: [] as number[] };
  const passes = async (wanted: boolean) => {
    const started = performance.now();
    while (true) {
      const { stdout } = await pod("far").node.run(
        ["sh", "-c", `curl -s -o /dev/null -m 0.05 http://${pod("web").addresses[0]}/ && echo 1 || echo 0`],
        { netns: pod("far").netns },
      );
      if ((stdout.trim() === "1") === wanted) return performance.now() - started;
    }
  };
  for (let i = 0; i < 10; i++) {
    await apply("deny", { podSelector: web, policyTypes: ["Ingress"] });
    times.created.push(await passes(false));
    await cluster.api("DELETE", `${policiesOf("default")}/deny`);
    times.deleted.push(await passes(true));
  }
  const line = (all: number[]) =>
    [...all]
      .sort((a, b) => a - b)
      .map(Math.round)
      .join(", ");
  console.info(
    `from the API server's answer until it is seen by a client that asks again and again, ms: created ${line(times.created)}; deleted ${line(times.deleted)}`,
  );
});
