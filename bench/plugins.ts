/** Ways to attach pods, side by side: podlane in both of its modes, and Debian's plugins that do the same. Each has a node of its own, a real network namespace. */
import fs from "node:fs";
import { type Outcome, runPlugin, TestNode } from "../test/cni/harness.ts";

const DEBIAN = "/usr/lib/cni";

export const kinds = ["podlane, bridge", "podlane, routed", "bridge + host-local", "ptp + host-local"] as const;
/** The same with NetworkPolicies in the pods' namespace, of which one selects them. */
const policed = { "podlane, bridge, 1 policy": 1, "podlane, bridge, 500 policies": 500, "podlane, routed, 500 policies": 500 } as const;
export type PluginName = (typeof kinds)[number] | keyof typeof policed;

/** So many addresses that no side has to wait for one. */
const ranges = ["10.80.0.0/16", "fd80::/64"];

/** Beginnings of the names that pods have here: see PolicyFeed of the test's agent. */
export const POD_NAMES = ["first", "one", "many"];

export class Plugin {
  readonly name: PluginName;
  readonly node: TestNode;
  readonly #ranges: readonly string[];

  /** `podCidrs`: of the node's pods. */
  constructor(name: PluginName, podCidrs: readonly string[] = ranges) {
    this.name = name;
    this.#ranges = podCidrs;
    this.node = new TestNode({ podCidrs: [...podCidrs], mode: name.includes("routed") ? "routed" : "bridge" });
    const count = name in policed ? policed[name as keyof typeof policed] : 0;
    // As the agent has it: pods are guarded by nftables before they are answered for.
    this.node.options = { netfilter: true, ...(count > 0 && { policed: { count, names: POD_NAMES } }) };
  }

  get isOurs(): boolean {
    return this.name.startsWith("podlane");
  }

  /** `config`: laid over the network's configuration. */
  call(command: "ADD" | "DEL", container: string, netns: string, config: object = {}): Promise<Outcome> {
    const { node } = this;
    const env = {
      PATH: process.env.PATH ?? "",
      CNI_COMMAND: command,
      CNI_CONTAINERID: container,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${container}`,
      CNI_NETNS: netns,
      CNI_IFNAME: "eth0",
      CNI_PATH: DEBIAN,
    };
    const own = this.isOurs ? node.config({ cniVersion: "1.0.0" }) : this.#reference();
    // All through nsenter(1), which the references need: its start counts for all.
    return runPlugin(this.#executable, env, JSON.stringify({ ...own, ...config }), node.netns);
  }

  /** Throws where the call fails: a bench of errors says nothing. */
  async timed(command: "ADD" | "DEL", container: string, netns: string): Promise<number> {
    const started = performance.now();
    const outcome = await this.call(command, container, netns);
    const milliseconds = performance.now() - started;
    if (outcome.status !== 0) throw new Error(`${this.name} ${command}: ${outcome.stdout}`);
    return milliseconds;
  }

  get #executable(): string {
    if (this.isOurs) return this.node.plugin;
    return `${DEBIAN}/${this.name.split(" ")[0]}`;
  }

  #reference(): object {
    const ipam = { type: "host-local", ranges: this.#ranges.map(subnet => [{ subnet }]), dataDir: `${this.node.directory}/host-local` };
    const common = { cniVersion: "1.0.0", name: "reference" };
    if (this.name === "ptp + host-local") {
      const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
      return { ...common, type: "ptp", ipam: { ...ipam, routes } };
    }
    return { ...common, type: "bridge", bridge: "ref0", isDefaultGateway: true, hairpinMode: true, ipam };
  }
}

/** Throws where Debian's plugins are not installed. */
export function needReferences(): void {
  for (const name of ["bridge", "ptp", "host-local"])
    if (!fs.existsSync(`${DEBIAN}/${name}`)) throw new Error(`no ${DEBIAN}/${name}: apt-get install containernetworking-plugins`);
}

/** Runs with all of them, agents started where there are some, each with a pod that stays, and removes them. */
export async function withPlugins(run: (plugins: readonly Plugin[]) => Promise<void>, withPolicies = false): Promise<void> {
  needReferences();
  const plugins: Plugin[] = [];
  try {
    for (const name of [...kinds, ...(withPolicies ? (Object.keys(policed) as PluginName[]) : [])]) {
      const plugin = new Plugin(name);
      plugins.push(plugin);
      if (plugin.isOurs) await plugin.node.start();
      // Nodes are rarely empty: the first pod makes what all have together.
      await plugin.timed("ADD", "first0", plugin.node.pod());
    }
    await run(plugins);
  } finally {
    for (const { node } of plugins) await node.close();
  }
}
