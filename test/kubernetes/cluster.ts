/**
 * A real dual-stack Kubernetes on this machine (lab/kubernetes): a control plane and nodes, each in namespaces of its own, with podlane as processes fed by files,
 * or as deploy/podlane.yaml installs it. Nothing is pulled; nothing is left after close(), and what a killed test left is removed by the next.
 */
import { execFileSync } from "node:child_process";
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPlugin } from "../../cni/plugin/build.ts";
import { answerOf } from "../../lab/kubernetes/answer.ts";
import { type ApiServerAccess, startControlPlane } from "../../lab/kubernetes/control-plane.ts";
import { listGroups, removeGroups } from "../../lab/kubernetes/groups.ts";
import { placeImage } from "../../lab/kubernetes/kept.ts";
import { type Daemon, Machine } from "../../lab/kubernetes/machine.ts";
import { KubernetesNode } from "../../lab/kubernetes/node.ts";
import { programsFolder } from "../../lab/kubernetes/programs.ts";
import { makeToolsImage } from "../../lab/kubernetes/tools-image.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { TestNetwork } from "../network.ts";
import { installCrds } from "./install-crds.ts";

const podlane = join(import.meta.dirname, "../../cli/main.ts");
const manifest = join(import.meta.dirname, "../../deploy/podlane.yaml");
const CONTROL = 10;
/** Milliseconds, for an answer of an agent. */
const ANSWER_BOUND = 20_000;
/** Of a host on the wire that routes what the nodes have no other route for: test/kubernetes/tor.ts. */
export const ROUTER = 1;

const conflist = {
  cniVersion: "1.0.0",
  name: "podlane",
  plugins: [{ type: "podlane" }, { type: "portmap", capabilities: { portMappings: true } }],
};

// biome-ignore lint/suspicious/noExplicitAny: objects as the API server gives them.
type Json = any;

interface ClusterOptions {
  /** "processes": podlane beside the kubelets, from source, fed by files. "none": nodes without a pod network. */
  network: "processes" | "none";
  /** Of agents that are processes. Default: files. */
  objects?: "files" | "API server";
  /** Beside the one of the pods. */
  images?: readonly string[];
  /** That Services and pods have first. Default: IPv4. */
  family?: "IPv4" | "IPv6";
}

export class Cluster {
  readonly nodes: ClusterNode[] = [];
  readonly folder: string;
  readonly network = new TestNetwork();
  readonly images: string[];
  readonly objects: ClusterOptions["objects"];
  readonly #family: "IPv4" | "IPv6";
  readonly #wire: string;
  readonly #control: Machine;
  #access: ApiServerAccess | undefined;
  #ports = 0;

  /** With `count` nodes, named n1 …: all Ready and every agent's sessions established, where there are agents. */
  static async start(count: number, options: ClusterOptions = { network: "processes" }): Promise<Cluster> {
    sweepLeftovers();
    const cluster = new Cluster(options);
    try {
      await cluster.#start(count, options);
      return cluster;
    } catch (error) {
      const logs = cluster.logs();
      await cluster.close();
      throw new Error(`the cluster does not start: ${(error as Error).message}\n${logs}`, { cause: error });
    }
  }

  /** With nodes that have podlane's image, made here, and no network: install() brings it. */
  static async startWithImage(count: number): Promise<Cluster> {
    const folder = mkdtempSync(join(tmpdir(), "podlane-image-"));
    try {
      const image = join(folder, "podlane.tar");
      await placeImage(image);
      return await Cluster.start(count, { network: "none", images: [image] });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  private constructor({ images = [], objects, family = "IPv4" }: ClusterOptions) {
    this.objects = objects;
    this.#family = family;
    this.folder = mkdtempSync(join(tmpdir(), `podlane-cluster-${process.pid}-`));
    this.#wire = this.network.bridge("wire", []);
    this.#control = new Machine(this.network.namespace("cp"), join(this.folder, "cp"));
    this.images = [makeToolsImage(join(this.folder, "image")), ...images];
  }

  get programs(): string {
    return programsFolder(join(this.folder, "bin"));
  }

  get access(): ApiServerAccess {
    if (!this.#access) throw new Error("the control plane has not started");
    return this.#access;
  }

  /** Asks the API server as its administrator. Throws on any status of 300 and above but 404 and 409. */
  async api(method: string, path: string, body?: object): Promise<Json> {
    const { status, body: json } = await this.access.call(method, path, body);
    if (status >= 300 && status !== 404 && status !== 409) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(json)}`);
    return json;
  }

  /** Pods with `app=NAME`. */
  async pods(app: string): Promise<Json[]> {
    return (await this.api("GET", `/api/v1/namespaces/default/pods?labelSelector=app%3D${app}`)).items;
  }

  node(name: string): ClusterNode {
    const found = this.nodes.find(node => node.name === name);
    if (!found) throw new Error(`no node ${name}`);
    return found;
  }

  /** Of a host on the wire, of the cluster's first family first. */
  addresses(octet: number): [string, string] {
    const [ipv4, ipv6] = addressesOf(octet).map(text => text.split("/")[0]);
    return this.#family === "IPv6" ? [ipv6, ipv4] : [ipv4, ipv6];
  }

  /** A host outside of the pod network, on the nodes' wire. */
  get outside(): Machine {
    return this.#control;
  }

  /** Puts a namespace on the wire between the nodes. */
  plug(netns: string, octet: number): void {
    const port = `p${this.#ports++}`;
    this.network.link({ namespace: netns, device: "eth0", addresses: addressesOf(octet) }, { namespace: this.#wire, device: port });
    this.network.exec(this.#wire, "ip", "link", "set", port, "master", "br0");
  }

  /** For a test that failed: what runs, what the agents hold, and the ends of all logs. */
  async report(): Promise<string> {
    const text = await this.access.kubectl(["get", "pods,events", "--all-namespaces", "-o", "wide"]).catch(String);
    const held = await Promise.all(
      this.nodes.map(async node => `${node.name}: ${JSON.stringify(await node.agent("/v1/attachments").catch(String))}`),
    );
    return [text.slice(-6000), ...held, this.logs()].join("\n");
  }

  logs(): string {
    return [this.#control, ...this.nodes].map(machine => machine.logs()).join("\n");
  }

  async close(): Promise<void> {
    await Promise.all([this.#control, ...this.nodes].map(machine => machine.powerOff()));
    this.network.dispose();
    for (const node of this.nodes) await removeGroups(node.group);
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #start(count: number, { network }: ClusterOptions): Promise<void> {
    const { netns, folder } = this.#control;
    this.plug(netns, CONTROL);
    await this.#control.boot();
    const plane = { folder, programs: this.programs, netns, address: this.addresses(CONTROL)[0] };
    this.#access = await startControlPlane(plane, (name, words) => this.#control.start(name, words));
    await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const node = new ClusterNode(this, i + 1);
        this.nodes.push(node);
        if (network === "processes") node.installPlugin();
        await node.up();
      }),
    );
    this.nodes.sort((a, b) => a.octet - b.octet);
    await until("every node has its pod ranges", async () => {
      const { items } = await this.api("GET", "/api/v1/nodes");
      return items.length === count && items.every((node: Json) => node.spec.podCIDRs?.length === 2);
    });
    if (network === "none") return;
    if (this.objects === "API server") await installCrds(this.access);
    else await this.writeNodes();
    for (const node of this.nodes) node.startAgent();
    await this.ready();
    for (const node of this.nodes) await until(`all sessions of ${node.name} are up`, () => node.converged(), 30_000);
  }

  /** One node more, booted; its kubelet has been started. */
  async join(): Promise<ClusterNode> {
    const node = new ClusterNode(this, this.nodes.length + 1);
    this.nodes.push(node);
    await node.up();
    return node;
  }

  /** podlane as deploy/podlane.yaml has it. The image is to be among those of the nodes. */
  async install(): Promise<void> {
    await this.access.applyManifest(readFileSync(manifest, "utf8"));
  }

  /** Waits until every node is Ready. */
  async ready(limit = 30_000): Promise<void> {
    await until(
      "every node is Ready",
      async () => {
        const { items } = await this.api("GET", "/api/v1/nodes");
        return items.every((node: Json) => node.status.conditions.some((one: Json) => one.type === "Ready" && one.status === "True"));
      },
      limit,
    );
  }

  /** What agents that are fed by files read: the Node objects as the API server has them, written as docs/kubernetes.md says. */
  async writeNodes(): Promise<void> {
    const kubectl = `${join(this.programs, "kubectl")} --kubeconfig=${this.access.kubeconfig}`;
    const script = `mkdir -p ${this.config} && cd ${this.config} && ${kubectl} get nodes -o json > .nodes && mv .nodes nodes.json`;
    await this.#control.must(["sh", "-c", script]);
  }

  get config(): string {
    return join(this.folder, "config");
  }
}

function addressesOf(octet: number): [string, string] {
  return [`10.90.0.${octet}/24`, `fd00:90::${octet}/64`];
}

/** A node of a test's cluster, and an agent beside its kubelet. */
export class ClusterNode extends KubernetesNode {
  readonly octet: number;
  readonly #cluster: Cluster;
  #agent: Daemon | undefined;
  #lives = 0;
  /** When the kubelet was started last, of performance.now(). */
  kubeletStarted = 0;

  constructor(cluster: Cluster, number: number) {
    const name = `n${number}`;
    const octet = 10 + number;
    super({
      name,
      netns: "",
      folder: join(cluster.folder, name),
      addresses: cluster.addresses(octet),
      group: `podlane-${process.pid}-${cluster.folder.slice(-6)}-${name}`,
      programs: cluster.programs,
      kubeconfig: cluster.access.kubeconfig,
      images: cluster.images,
    });
    this.octet = octet;
    this.#cluster = cluster;
  }

  override start(name: string, words: string[], netns?: string): Daemon {
    if (name === "kubelet") this.kubeletStarted = performance.now();
    return super.start(name, words, netns);
  }

  override async up(): Promise<void> {
    this.netns = this.#cluster.network.namespace(`${this.name}-${this.#lives++}`);
    this.#cluster.plug(this.netns, this.octet);
    // Without any route a process of the node could not even try the address of a Service.
    for (const gateway of addressesOf(ROUTER))
      this.#cluster.network.exec(this.netns, "ip", "route", "add", "default", "via", gateway.split("/")[0]);
    await super.up();
  }

  /** As docs/kubernetes.md says for a node whose agent is no pod. */
  installPlugin(): void {
    buildPlugin(this.cni.bin);
    mkdirSync(this.cni.net, { recursive: true });
    writeFileSync(join(this.cni.net, "10-podlane.conflist"), JSON.stringify(conflist));
  }

  /** Unless it runs already. */
  startAgent(): void {
    if (this.#agent?.running()) return;
    const { objects, config, access } = this.#cluster;
    const source = objects === "API server" ? ["--kubeconfig", access.kubeconfig] : ["--config", config];
    const words = ["--node", this.name, ...source, "--log-level", "debug", "--log-format", "json"];
    this.#agent = this.start("agent", [process.execPath, podlane, "agent", ...words]);
  }

  async killAgent(): Promise<void> {
    await this.#agent?.kill("SIGKILL");
  }

  /** What the power button does; what stood in the kernel and in /run is gone. */
  async reboot(): Promise<void> {
    await this.loseAll();
    await this.up();
    this.startAgent();
  }

  /** Off, and nothing that stood in the kernel or in /run is there for up(). */
  async loseAll(): Promise<void> {
    await this.powerOff();
    await removeGroups(this.group);
    this.#cluster.network.exec(this.netns, "ip", "link", "delete", "eth0");
    execFileSync("ip", ["netns", "delete", this.netns]);
  }

  /** `GET PATH` of the agent's local API; undefined while no agent answers. */
  async agent(path: string): Promise<Json> {
    // As the node sees it. No program is started for each look: tests look ten times a second, at all nodes.
    const socketPath = `/proc/${this.pid}/root/run/podlane/agent.sock`;
    const asking = request({ socketPath, path, agent: false, signal: AbortSignal.timeout(ANSWER_BOUND) });
    const { status, body } = await answerOf(asking, undefined).catch(() => ({ status: 0, body: undefined }));
    return status === 200 ? body : undefined;
  }

  async attachments(): Promise<Json[]> {
    let found: Json[] | undefined;
    // One that is being replaced does not answer for a moment.
    await until(`the agent of ${this.name} answers`, async () => {
      found = (await this.agent("/v1/attachments"))?.attachments;
      return found !== undefined;
    });
    return found!;
  }

  /** Every session is established and every other node's ranges are in the kernel. */
  async converged(): Promise<boolean> {
    const peers: Json[] = (await this.agent("/v1/peers"))?.peers ?? [];
    const others = this.#cluster.nodes.length - 1;
    if (peers.filter(peer => peer.state === "Established").length < 2 * others) return false;
    const [four, six] = await Promise.all(["-4", "-6"].map(family => this.must(["ip", family, "route", "show", "proto", "201"])));
    return [four, six].every(text => text.split("\n").filter(line => /^\S+\/\d+ /.test(line)).length >= others);
  }
}

/** Groups and folders of test processes that were killed before they could clean up; their processes died with them. */
function sweepLeftovers(): void {
  const ownerGone = (name: string) => {
    const owner = /podlane-(?:cluster-)?(\d+)-/.exec(name)?.[1];
    return owner !== undefined && !existsSync(`/proc/${owner}`);
  };
  for (const group of listGroups("podlane-").filter(ownerGone)) void removeGroups(group).catch(() => undefined);
  for (const path of globSync(join(tmpdir(), "podlane-cluster-*")).filter(ownerGone)) rmSync(path, { recursive: true, force: true });
}
