/** A node of a cluster: a machine with containerd, kubelet and kube-proxy at their usual paths. */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { containerdConfig, kubeletConfig, proxyFlags } from "./configuration.ts";
import { makeGroups } from "./groups.ts";
import { Machine, type MachineOptions } from "./machine.ts";
import { referencePlugin } from "./programs.ts";
import { until } from "./until.ts";

export interface NodeOptions extends MachineOptions {
  name: string;
  netns: string;
  folder: string;
  /** One of each family, the cluster's first one first. */
  addresses: [string, string];
  /** Control group of its pods. */
  group: string;
  /** Where Kubernetes' programs are. */
  programs: string;
  kubeconfig: string;
  /** Image archives; nothing is pulled. */
  images: readonly string[];
}

export class KubernetesNode extends Machine {
  readonly name: string;
  readonly group: string;
  readonly #node: NodeOptions;
  #imported = false;

  constructor(options: NodeOptions) {
    super(options.netns, options.folder, options);
    this.name = options.name;
    this.group = options.group;
    this.#node = options;
  }

  /** As the node sees /opt/cni/bin and /etc/cni/net.d. */
  get cni(): { bin: string; net: string } {
    return { bin: join(this.folder, "over/opt/upper/cni/bin"), net: join(this.folder, "over/etc/upper/cni/net.d") };
  }

  /** Boots the machine and starts all but a pod network. */
  async up(): Promise<void> {
    const { folder, addresses, group, programs, kubeconfig, images } = this.#node;
    // Before the machine has it as an upper layer.
    mkdirSync(this.cni.bin, { recursive: true });
    mkdirSync(this.cni.net, { recursive: true });
    hide("/etc/cni/net.d", this.cni.net);
    hide("/opt/cni/bin", this.cni.bin);
    for (const name of ["portmap", "loopback"]) {
      rmSync(join(this.cni.bin, name), { force: true });
      copyFileSync(referencePlugin(name), join(this.cni.bin, name));
    }
    writeFileSync(join(folder, "containerd.toml"), containerdConfig());
    writeFileSync(join(folder, "kubelet.yaml"), JSON.stringify(kubeletConfig(addresses[0], group)));
    makeGroups(group);
    await this.boot();
    const containerd = this.start("containerd", ["containerd", "--config", join(folder, "containerd.toml")]);
    await until(`containerd of ${this.name} answers`, async () => (await this.run(["ctr", "version"])).status === 0, 20_000).catch(
      error => {
        throw new Error(`${error.message}\n${containerd.log()}`);
      },
    );
    // What containerd has outlives the machine's power.
    if (!this.#imported)
      for (const image of images) await this.must(["ctr", "-n", "k8s.io", "images", "import", image], { limit: 120_000 });
    this.#imported = true;
    this.startKubelet();
    const proxy = [join(programs, "kube-proxy"), `--kubeconfig=${kubeconfig}`, `--hostname-override=${this.name}`];
    this.start("kube-proxy", [...proxy, ...proxyFlags]);
  }

  /** `name`: of the Node object. */
  startKubelet(name = this.name): void {
    const { folder, addresses, programs, kubeconfig } = this.#node;
    const flags = [`--kubeconfig=${kubeconfig}`, `--hostname-override=${name}`, `--config=${folder}/kubelet.yaml`];
    this.start("kubelet", [join(programs, "kubelet"), ...flags, `--node-ip=${addresses}`]);
  }
}

/** What this machine has in the folder, as podman's list, is no node's: a whiteout of overlayfs in the upper layer stands for each. */
function hide(folder: string, upper: string): void {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  for (const name of names) if (!existsSync(join(upper, name))) execFileSync("mknod", [join(upper, name), "c", "0", "0"]);
}
