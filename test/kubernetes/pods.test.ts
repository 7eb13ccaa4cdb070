/** podlane as the pod network of real containerd, kubelet and kube-proxy: three nodes, the agents fed by files. Needs root on Linux. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFailed, test, vi } from "vitest";
import { addressOf } from "../../cni/ipam/book.ts";
import { missingCluster } from "../../lab/kubernetes/programs.ts";
import { webServer } from "../../lab/kubernetes/tools-image.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { contains, formatAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import { Cluster, type ClusterNode } from "./cluster.ts";

// Much longer than on a quiet machine.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 });
const missing = missingCluster();
const apps = "/apis/apps/v1/namespaces/default/deployments";
const services = "/api/v1/namespaces/default/services";

interface Pod {
  app: string;
  name: string;
  node: ClusterNode;
  /** IPv4, IPv6. */
  addresses: [string, string];
  netns: string;
}

let cluster: Cluster;
const deployed = new Set<string>();

beforeAll(async () => {
  if (!missing) cluster = await Cluster.start(3);
});
afterAll(() => cluster?.close());

beforeEach(context => {
  if (missing) context.skip(missing);
  onTestFailed(async () => console.error(await cluster.report()));
});
afterEach(async () => {
  for (const node of cluster?.nodes ?? []) node.startAgent();
  await undeploy(...deployed);
});

/** Pods that say their name and who asks, `GET /cgi-bin/who`; probed by the kubelet. */
async function deploy(app: string, replicas: number, more: { node?: string; hostPort?: number } = {}): Promise<Pod[]> {
  deployed.add(app);
  const container = {
    ports: [{ containerPort: 80, ...(more.hostPort && { hostPort: more.hostPort }) }],
    livenessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1, failureThreshold: 2 },
  };
  const spread = { maxSkew: 1, topologyKey: "kubernetes.io/hostname", whenUnsatisfiable: "DoNotSchedule" };
  const labels = { app };
  const pod = more.node
    ? { nodeSelector: { "kubernetes.io/hostname": more.node } }
    : { topologySpreadConstraints: [{ ...spread, labelSelector: { matchLabels: labels } }] };
  const strategy = { rollingUpdate: { maxSurge: "50%", maxUnavailable: 0 } };
  await cluster.api("POST", apps, {
    metadata: { name: app },
    spec: { replicas, strategy, selector: { matchLabels: labels }, template: webServer(app, { container, pod }) },
  });
  return ready(app, replicas);
}

/** Waits until exactly `count` pods of the deployment are there and Ready. */
async function ready(app: string, count: number): Promise<Pod[]> {
  const isReady = ({ metadata, status }: Awaited<ReturnType<Cluster["pods"]>>[0]) =>
    !metadata.deletionTimestamp &&
    status.conditions?.some((one: { type: string; status: string }) => one.type === "Ready" && one.status === "True");
  await until(
    `${count} pods of ${app} are ready`,
    async () => {
      const pods = await cluster.pods(app);
      return pods.length === count && pods.every(isReady);
    },
    60_000,
  );
  const attached = new Map<string, string>();
  for (const node of cluster.nodes) for (const one of await node.attachments()) attached.set(one.pod.uid, one.netns);
  return (await cluster.pods(app)).map(({ metadata, spec, status }) => ({
    app,
    name: metadata.name,
    node: cluster.node(spec.nodeName),
    addresses: status.podIPs.map(({ ip }: { ip: string }) => ip),
    netns: attached.get(metadata.uid) ?? "",
  }));
}

/** Deletes deployments and their Services; waits until their pods are gone, for Kubernetes at least. */
async function undeploy(...names: string[]): Promise<void> {
  for (const app of names) {
    deployed.delete(app);
    await cluster.api("DELETE", `${apps}/${app}?propagationPolicy=Background`);
    await cluster.api("DELETE", `${services}/${app}`);
  }
  for (const app of names) await until(`the pods of ${app} are gone`, async () => (await cluster.pods(app)).length === 0, 45_000);
}

/** A dual-stack Service for a deployment; returns its two addresses. */
async function serve(app: string): Promise<[string, string]> {
  const spec = { selector: { app }, ports: [{ port: 80 }], ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv4", "IPv6"] };
  return (await cluster.api("POST", services, { metadata: { name: app }, spec })).spec.clusterIPs;
}

/** What each address answers to a request from there: `POD ASKER`, or "-". In the order of the addresses. */
async function ask(from: { node: Cluster["outside"]; netns?: string }, addresses: string[], port = 80): Promise<string[]> {
  const curl = addresses.map(
    address => `curl -s -m 2 http://${address.includes(":") ? `[${address}]` : address}:${port}/cgi-bin/who || echo -`,
  );
  const { stdout } = await from.node.run(["sh", "-c", curl.join("; ")], { netns: from.netns });
  return stdout
    .trim()
    .split("\n")
    .map(line => line.replace("::ffff:", "").replace(/[[\]]/g, ""));
}

const gateway = (node: ClusterNode, family: 4 | 6) => (family === 4 ? `10.90.0.${node.octet}` : `fd00:90::${node.octet}`);

/** No address is held, and no pod's interface is left on any node. */
async function expectNothingLeft(): Promise<void> {
  for (const node of cluster.nodes) {
    await expect.poll(() => node.attachments(), { timeout: 10_000 }).toEqual([]);
    const links: { ifname: string }[] = JSON.parse(await node.must(["ip", "-j", "link", "show", "type", "veth"]));
    expect(links.map(link => link.ifname)).toEqual(["eth0"]);
  }
}

/** The agents hold exactly the addresses that Kubernetes shows, all different, each in its node's range. */
async function expectSameAddresses(pods: Pod[]): Promise<void> {
  for (const node of cluster.nodes) {
    const mine = pods.filter(pod => pod.node === node);
    const held = (await node.attachments()).map(one => one.addresses.map((text: string) => formatAddress(addressOf(text))));
    expect(held.map(pair => pair.join()).sort()).toEqual(mine.map(pod => pod.addresses.join()).sort());
    const ranges: string[] = (await cluster.api("GET", `/api/v1/nodes/${node.name}`)).spec.podCIDRs;
    for (const { addresses } of mine) {
      expect(addresses).toHaveLength(2);
      for (const [i, address] of addresses.entries()) expect(contains(parsePrefix(ranges[i]), parseAddress(address))).toBe(true);
    }
  }
  const all = pods.flatMap(pod => pod.addresses);
  expect(new Set(all).size).toBe(all.length);
}

describe("pods of a Deployment", () => {
  test("get addresses of both families and reach each other, and are reached, without NAT", async () => {
    const pods = await deploy("web", 6);
    for (const node of cluster.nodes) expect(pods.filter(pod => pod.node === node)).toHaveLength(2);
    await expectSameAddresses(pods);
    for (const from of pods) {
      for (const family of [0, 1]) {
        const targets = pods.map(pod => pod.addresses[family]);
        expect(await ask(from, targets), `from ${from.node.name}`).toEqual(pods.map(pod => `${pod.name} ${from.addresses[family]}`));
      }
    }
    for (const node of cluster.nodes) {
      const remote = pods.filter(pod => pod.node !== node);
      expect(
        await ask(
          { node },
          remote.map(pod => pod.addresses[0]),
        ),
      ).toEqual(remote.map(pod => `${pod.name} ${gateway(node, 4)}`));
      expect(
        await ask(
          { node },
          remote.map(pod => pod.addresses[1]),
        ),
      ).toEqual(remote.map(pod => `${pod.name} ${gateway(node, 6)}`));
    }
    await undeploy("web");
    await expectNothingLeft();
  });

  test("answer through a Service, also on their own node and to themselves", async () => {
    // The kernel's default, and what some distributions set: frames between the ports of a bridge pass kube-proxy's rules by.
    for (const family of ["ip", "ip6"])
      await cluster
        .node("n1")
        .must(["sh", "-c", `if [ -d /proc/sys/net/bridge ]; then echo 0 > /proc/sys/net/bridge/bridge-nf-call-${family}tables; fi`]);
    const backends = await Promise.all([deploy("spread", 3), deploy("near", 2, { node: "n1" }), deploy("alone", 1, { node: "n2" })]);
    const ways: { address: string; names: string[] }[] = [];
    for (const pods of backends) for (const address of await serve(pods[0].app)) ways.push({ address, names: pods.map(pod => pod.name) });
    const targets = ways.map(way => way.address);
    for (const from of backends.flat()) {
      // kube-proxy needs a moment to hear of a new Service; a way that does not work never answers.
      await expect.poll(() => ask(from, targets), { timeout: 10_000 }).not.toContain("-");
      for (let round = 0; round < 3; round++) {
        const answers = await ask(from, targets);
        for (const [i, { address, names }] of ways.entries())
          expect(names, `from ${from.name} to ${address}`).toContain(answers[i].split(" ")[0]);
      }
    }
  });

  test("answer on a host port, from outside and from pods", async () => {
    const [[pod], [other]] = await Promise.all([deploy("port", 1, { node: "n1", hostPort: 8080 }), deploy("other", 1, { node: "n2" })]);
    for (const family of [4, 6] as const) {
      const target = [gateway(pod.node, family)];
      const outside = family === 4 ? "10.90.0.10" : "fd00:90::10";
      expect(await ask({ node: cluster.outside }, target, 8080)).toEqual([`${pod.name} ${outside}`]);
      expect((await ask(other, target, 8080))[0]).toMatch(new RegExp(`^${pod.name} `));
    }
  });

  test("are replaced in a rolling restart of twenty, and no address is lost or given twice", async () => {
    const before = await deploy("many", 20);
    await expectSameAddresses(before);
    const restarted = { metadata: { annotations: { restarted: "now" } } };
    await cluster.api("PATCH", `${apps}/many`, { spec: { template: restarted } });
    await until(
      "the new pods took over",
      async () => {
        const { status } = await cluster.api("GET", `${apps}/many`);
        return status.observedGeneration > 1 && status.updatedReplicas === 20 && status.replicas === 20 && status.availableReplicas === 20;
      },
      60_000,
    );
    const after = await ready("many", 20);
    expect(after.filter(pod => before.some(old => old.name === pod.name))).toEqual([]);
    // Addresses rest after their last use, so the new pods have others.
    expect(after.filter(pod => before.some(old => old.addresses[0] === pod.addresses[0]))).toEqual([]);
    await expectSameAddresses(after);
    await undeploy("many");
    await expectNothingLeft();
  });
});

describe("an agent that is killed", () => {
  test("interrupts no pod; what is deleted meanwhile is released when it is back, and new pods start", async () => {
    const [pods, doomed] = await Promise.all([deploy("kept", 3), deploy("doomed", 2, { node: "n1" })]);
    const one = pods.find(pod => pod.node.name === "n1")!;
    const two = pods.find(pod => pod.node.name === "n2")!;
    const pings = one.addresses.map((_, i) =>
      one.node.start(`ping${i}`, ["ping", "-n", "-q", "-i", "0.05", "-W", "1", two.addresses[i]], one.netns),
    );
    const back = two.node.start("ping-back", ["ping", "-n", "-q", "-i", "0.05", one.addresses[0]], two.netns);
    const held = await one.node.attachments();
    const queued = doomed.map(pod => `${held.find(entry => entry.netns === pod.netns).containerId}@eth0`);
    await one.node.killAgent();
    await undeploy("doomed");
    // Beside others: the kubelet removes sandboxes of pods that went long ago once more when it collects garbage.
    expect((await one.node.must(["ls", "/var/lib/podlane/del-queue"])).trim().split("\n")).toEqual(expect.arrayContaining(queued));
    one.node.startAgent();
    await until("the agent is back", () => one.node.converged());
    expect(await one.node.must(["ls", "/var/lib/podlane/del-queue"])).toBe("");
    await expectSameAddresses(pods);
    const fresh = await deploy("fresh", 3);
    const ways = [fresh[0], one, two];
    for (const from of ways)
      for (const answer of await ask(
        from,
        fresh.flatMap(pod => pod.addresses),
      ))
        expect(answer).not.toBe("-");
    for (const ping of [...pings, back]) {
      await ping.kill("SIGINT");
      expect(ping.log()).toMatch(/ 0% packet loss/);
    }
  });
});

describe("a node that reboots", () => {
  test("gives its pods new addresses and leaks no old one", async () => {
    const before = await deploy("web", 6);
    const node = cluster.node("n2");
    await node.reboot();
    await until("the agent has its sessions again", () => node.converged());
    const restarted = () => cluster.pods("web").then(pods => pods.filter(pod => pod.spec.nodeName === "n2"));
    await until(
      "the pods of the node were started again",
      async () => {
        const pods = await restarted();
        return pods.every(pod => pod.status.containerStatuses?.[0].restartCount === 1 && pod.status.containerStatuses[0].ready);
      },
      60_000,
    );
    const after = await ready("web", 6);
    await expectSameAddresses(after);
    expect(after.map(pod => pod.name).sort()).toEqual(before.map(pod => pod.name).sort());
    for (const from of after)
      expect(
        await ask(
          from,
          after.map(pod => pod.addresses[0]),
        ),
      ).toEqual(after.map(pod => `${pod.name} ${from.addresses[0]}`));
    await undeploy("web");
    await expectNothingLeft();
  });
});
