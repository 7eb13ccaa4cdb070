/**
 * A real dual-stack Kubernetes on this machine: a control plane and nodes with containerd, kubelet, kube-proxy and a podlane agent, each in
 * namespaces of its own. Nothing is pulled; nothing is left after close(), and what a killed test left is removed by the next.
 */
import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPlugin } from "../../cni/plugin/build.ts";
import { TestNetwork } from "../network.ts";
import { sharedFile } from "../shared.ts";
import type { Answer } from "./api-server.ts";
import { apiFlags, conflist, containerdConfig, IMAGE, kubeconfig, kubeletConfig, managerFlags } from "./configuration.ts";
import { writeImage } from "./image.ts";
import { makeGroups, missingGroups, removeGroups, sweepLeftovers } from "./leftovers.ts";
import { type Daemon, Machine } from "./machine.ts";
import { until } from "./until.ts";

const unpack = sharedFile("kubernetes", "unpack");
const programs = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"];
const DEBIAN_PLUGINS = "/usr/lib/cni";
const podlane = join(import.meta.dirname, "../../cli/main.ts");

/** Why no cluster can be started here; undefined where one can. */
export function missingCluster(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "a cluster in namespaces needs root on Linux";
  if (!assetsFolder() && !unpack.exists) return `no kubelet: set KUBEBUILDER_ASSETS to a folder that holds ${programs.join(", ")}`;
  const needed: [string, string][] = [
    ["/usr/bin/containerd", "containerd"],
    ["/usr/sbin/runc", "runc"],
    ["/bin/busybox", "busybox-static"],
    [join(DEBIAN_PLUGINS, "portmap"), "containernetworking-plugins"],
    ["/usr/sbin/iptables", "iptables"],
    ["/usr/sbin/nft", "nftables"],
    ["/usr/bin/curl", "curl"],
  ];
  for (const [file, debian] of needed) if (!existsSync(file)) return `no ${file}: install ${debian}`;
  return missingGroups();
}

function assetsFolder(): string | undefined {
  const assets = process.env.KUBEBUILDER_ASSETS;
  return assets && programs.every(name => existsSync(join(assets, name))) ? assets : undefined;
}

// biome-ignore lint/suspicious/noExplicitAny: objects as the API server gives them.
type Json = any;

export class Cluster {
  readonly nodes: ClusterNode[] = [];
  readonly folder: string;
  readonly network = new TestNetwork();
  readonly #wire: string;
  readonly #control: Machine;
  #ports = 0;

  /** With `count` nodes, named n1 …, all Ready and every agent's sessions established. */
  static async start(count: number): Promise<Cluster> {
    sweepLeftovers();
    const cluster = new Cluster();
    try {
      await cluster.#start(count);
      return cluster;
    } catch (error) {
      const logs = cluster.logs();
      await cluster.close();
      throw new Error(`the cluster does not start: ${(error as Error).message}\n${logs}`, { cause: error });
    }
  }

  private constructor() {
    this.folder = mkdtempSync(join(tmpdir(), `podlane-cluster-${process.pid}-`));
    this.#wire = this.network.bridge("wire", []);
    this.#control = new Machine(this.network.namespace("cp"), join(this.folder, "cp"));
  }

  get programs(): string {
    return assetsFolder() ?? join(this.folder, "bin");
  }

  /** Asks the API server as its administrator. Throws on any status of 300 and above but 404 and 409. */
  async api(method: string, path: string, body?: object): Promise<Json> {
    const { status, body: json } = await this.#call(method, path, body);
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

  /** A host outside of the pod network, on the nodes' wire. */
  get outside(): Machine {
    return this.#control;
  }

  /** Puts a namespace on the wire between the nodes. */
  plug(netns: string, octet: number): void {
    const port = `p${this.#ports++}`;
    this.network.link(
      { namespace: netns, device: "eth0", addresses: [`10.90.0.${octet}/24`, `fd00:90::${octet}/64`] },
      { namespace: this.#wire, device: port },
    );
    this.network.exec(this.#wire, "ip", "link", "set", port, "master", "br0");
  }

  /** For a test that failed: what runs, what the agents hold, and the ends of all logs. */
  async report(): Promise<string> {
    const { stdout } = await this.#control.run([
      join(this.programs, "kubectl"),
      `--kubeconfig=${this.kubeconfig}`,
      "get",
      "pods,events",
      "-o",
      "wide",
    ]);
    const held = await Promise.all(
      this.nodes.map(async node => `${node.name}: ${JSON.stringify(await node.agent("/v1/attachments").catch(String))}`),
    );
    return [stdout.slice(-6000), ...held, this.logs()].join("\n");
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

  async #start(count: number): Promise<void> {
    if (!assetsFolder()) execFileSync(unpack.path, [this.programs]);
    const archive = this.#image();
    await this.#startControl();
    await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const node = new ClusterNode(this, i + 1, archive);
        this.nodes.push(node);
        await node.up();
      }),
    );
    this.nodes.sort((a, b) => a.octet - b.octet);
    await until("every node has its pod ranges", async () => {
      const { items } = await this.api("GET", "/api/v1/nodes");
      return items.length === count && items.every((node: Json) => node.spec.podCIDRs?.length === 2);
    });
    await this.writeNodes();
    for (const node of this.nodes) node.startAgent();
    await until("every node is Ready", async () => {
      const { items } = await this.api("GET", "/api/v1/nodes");
      return items.every((node: Json) => node.status.conditions.some((one: Json) => one.type === "Ready" && one.status === "True"));
    });
    for (const node of this.nodes) await until(`all sessions of ${node.name} are up`, () => node.converged(), 30_000);
  }

  /** What the agents read: the Node objects as the API server has them, written as docs/kubernetes.md says. */
  async writeNodes(): Promise<void> {
    const kubectl = `${join(this.programs, "kubectl")} --kubeconfig=${this.kubeconfig}`;
    const script = `mkdir -p ${this.config} && cd ${this.config} && ${kubectl} get nodes -o json > .nodes && mv .nodes nodes.json`;
    await this.#control.must(["sh", "-c", script]);
  }

  get config(): string {
    return join(this.folder, "config");
  }

  get kubeconfig(): string {
    return join(this.folder, "admin.conf");
  }

  async #startControl(): Promise<void> {
    const { folder } = this;
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    writeFileSync(join(folder, "sa.key"), privateKey.export({ type: "pkcs1", format: "pem" }));
    writeFileSync(join(folder, "sa.pub"), publicKey.export({ type: "spki", format: "pem" }));
    writeFileSync(join(folder, "tokens.csv"), 'test,admin,admin,"system:masters"\n');
    writeFileSync(this.kubeconfig, kubeconfig(join(folder, "cp/apiserver.crt")));
    const control = this.#control;
    this.plug(control.netns, 10);
    await control.boot();
    const program = (name: string) => join(this.programs, name);
    control.start("etcd", [program("etcd"), `--data-dir=${folder}/cp/etcd`, "--unsafe-no-fsync", "--log-level=warn"]);
    control.start("apiserver", [program("kube-apiserver"), ...apiFlags(folder)]);
    const socket = join(folder, "api.sock");
    await until("the API server made its certificate", () => existsSync(join(folder, "cp/apiserver.crt")), 60_000);
    control.start("proxy", [
      program("kubectl"),
      `--kubeconfig=${this.kubeconfig}`,
      "proxy",
      `--unix-socket=${socket}`,
      "--reject-paths=^$",
    ]);
    await until("the API server is ready", async () => (await this.#call("GET", "/readyz").catch(() => undefined))?.status === 200, 60_000);
    control.start("manager", [program("kube-controller-manager"), `--kubeconfig=${this.kubeconfig}`, ...managerFlags]);
    control.start("scheduler", [program("kube-scheduler"), `--kubeconfig=${this.kubeconfig}`, "--leader-elect=false"]);
    const account = "/api/v1/namespaces/default/serviceaccounts/default";
    await until("the default service account is there", async () => (await this.#call("GET", account)).status === 200);
  }

  #image(): string {
    const folder = join(this.folder, "image");
    mkdirSync(join(folder, "root/bin"), { recursive: true });
    mkdirSync(join(folder, "root/www/cgi-bin"), { recursive: true });
    copyFileSync("/bin/busybox", join(folder, "root/bin/busybox"));
    for (const applet of ["sh", "httpd", "sleep"]) symlinkSync("busybox", join(folder, "root/bin", applet));
    writeFileSync(join(folder, "root/www/index.html"), "podlane\n");
    writeFileSync(
      join(folder, "root/www/cgi-bin/who"),
      '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%s %s\\n" "$HOSTNAME" "$REMOTE_ADDR"\n',
      { mode: 0o755 },
    );
    return writeImage(folder, IMAGE, ["/bin/sleep", "1000000"]);
  }

  #call(method: string, path: string, body?: object): Promise<Answer> {
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: join(this.folder, "api.sock"), method, path, headers: { "content-type": type } }, response => {
        const chunks: Buffer[] = [];
        response.on("data", chunk => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () => {
          const text = Buffer.concat(chunks).toString();
          const json = response.headers["content-type"]?.includes("json");
          resolve({ status: response.statusCode ?? 0, body: json ? JSON.parse(text) : text });
        });
      });
      sent.on("error", reject);
      sent.end(body && JSON.stringify(body));
    });
  }
}

/** A node: containerd, kubelet and kube-proxy at their usual paths, and the agent beside them. */
export class ClusterNode extends Machine {
  readonly name: string;
  readonly octet: number;
  /** Of its pods, in every hierarchy. */
  readonly group: string;
  readonly #cluster: Cluster;
  readonly #archive: string;
  #agent: Daemon | undefined;
  #lives = 0;

  constructor(cluster: Cluster, number: number, archive: string) {
    const name = `n${number}`;
    super("", join(cluster.folder, name));
    this.name = name;
    this.octet = 10 + number;
    this.group = `podlane-${process.pid}-${cluster.folder.slice(-6)}-${name}`;
    this.#cluster = cluster;
    this.#archive = archive;
  }

  /** Boots the machine and starts all but the agent. */
  async up(): Promise<void> {
    const { folder, name } = this;
    this.netns = this.#cluster.network.namespace(`${name}-${this.#lives++}`);
    this.#cluster.plug(this.netns, this.octet);
    this.#installPlugins();
    writeFileSync(join(folder, "containerd.toml"), containerdConfig(folder));
    writeFileSync(join(folder, "kubelet.yaml"), JSON.stringify(kubeletConfig(this.octet, this.group)));
    makeGroups(this.group);
    await this.boot();
    const containerd = this.start("containerd", ["containerd", "--config", join(folder, "containerd.toml")]);
    await until(`containerd of ${name} answers`, async () => (await this.run(["ctr", "version"])).status === 0, 20_000).catch(error => {
      throw new Error(`${error.message}\n${containerd.log()}`);
    });
    await this.must(["ctr", "-n", "k8s.io", "images", "import", this.#archive]);
    const program = (what: string) => join(this.#cluster.programs, what);
    const common = [`--kubeconfig=${this.#cluster.kubeconfig}`, `--hostname-override=${name}`];
    const addresses = `10.90.0.${this.octet},fd00:90::${this.octet}`;
    this.start("kubelet", [program("kubelet"), ...common, `--config=${folder}/kubelet.yaml`, `--node-ip=${addresses}`]);
    const proxy = [
      "--proxy-mode=nftables",
      "--cluster-cidr=10.244.0.0/16,fd00:244::/48",
      "--conntrack-max-per-core=0",
      "--nodeport-addresses=primary",
    ];
    this.start("kube-proxy", [program("kube-proxy"), ...common, ...proxy]);
  }

  /** Unless it runs already. */
  startAgent(): void {
    if (this.#agent?.running()) return;
    const words = ["--node", this.name, "--config", this.#cluster.config, "--log-level", "debug", "--log-format", "json"];
    this.#agent = this.start("agent", [process.execPath, podlane, "agent", ...words]);
  }

  async killAgent(): Promise<void> {
    await this.#agent?.kill("SIGKILL");
  }

  /** What the power button does; what stood in the kernel and in /run is gone. */
  async reboot(): Promise<void> {
    await this.powerOff();
    await removeGroups(this.group);
    this.#cluster.network.exec(this.netns, "ip", "link", "delete", "eth0");
    execFileSync("ip", ["netns", "delete", this.netns]);
    await this.up();
    this.startAgent();
  }

  /** `GET PATH` of the agent's local API; undefined while no agent answers. */
  async agent(path: string): Promise<Json> {
    const { status, stdout } = await this.run([
      "curl",
      "--silent",
      "--fail",
      "--unix-socket",
      "/run/podlane/agent.sock",
      `http://agent${path}`,
    ]);
    return status === 0 ? JSON.parse(stdout) : undefined;
  }

  async attachments(): Promise<Json[]> {
    return (await this.agent("/v1/attachments")).attachments;
  }

  /** Every session is established and every other node's ranges are in the kernel. */
  async converged(): Promise<boolean> {
    const peers: Json[] = (await this.agent("/v1/peers"))?.peers ?? [];
    const others = this.#cluster.nodes.length - 1;
    if (peers.filter(peer => peer.state === "Established").length < 2 * others) return false;
    const [four, six] = await Promise.all(["-4", "-6"].map(family => this.must(["ip", family, "route", "show", "proto", "201"])));
    return [four, six].every(text => text.split("\n").filter(line => /^\S+\/\d+ /.test(line)).length >= others);
  }

  #installPlugins(): void {
    const bin = join(this.folder, "cni/bin");
    const net = join(this.folder, "cni/net.d");
    for (const one of [bin, net]) mkdirSync(one, { recursive: true });
    for (const name of ["portmap", "loopback"]) copyFileSync(join(DEBIAN_PLUGINS, name), join(bin, name));
    buildPlugin(bin);
    writeFileSync(join(net, "10-podlane.conflist"), JSON.stringify(conflist));
  }
}
