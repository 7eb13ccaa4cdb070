/** Ways to attach pods, side by side: podlane in both of its modes, and Debian's plugins that do the same. Each has a node of its own, a real network namespace. */
import fs from "node:fs";
import { type Outcome, runPlugin, TestNode } from "../test/cni/harness.ts";

const DEBIAN = "/usr/lib/cni";

const kinds = ["podlane, bridge", "podlane, routed", "bridge + host-local", "ptp + host-local"] as const;
export type PluginName = (typeof kinds)[number];

/** So many addresses that no side has to wait for one. */
const ranges = ["10.80.0.0/16", "fd80::/64"];

export class Plugin {
  readonly name: PluginName;
  readonly node: TestNode;

  constructor(name: PluginName) {
    this.name = name;
    this.node = new TestNode({ podCidrs: ranges, mode: name === "podlane, routed" ? "routed" : "bridge" });
    // As the agent has it: pods are guarded by nftables before they are answered for.
    this.node.options = { netfilter: true };
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
    const ipam = { type: "host-local", ranges: ranges.map(subnet => [{ subnet }]), dataDir: `${this.node.directory}/host-local` };
    const common = { cniVersion: "1.0.0", name: "reference" };
    if (this.name === "ptp + host-local") {
      const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
      return { ...common, type: "ptp", ipam: { ...ipam, routes } };
    }
    return { ...common, type: "bridge", bridge: "ref0", isDefaultGateway: true, hairpinMode: true, ipam };
  }
}

/** Runs with all of them, agents started where there are some, and removes them. */
export async function withPlugins(run: (plugins: readonly Plugin[]) => Promise<void>): Promise<void> {
  for (const name of ["bridge", "ptp", "host-local"])
    if (!fs.existsSync(`${DEBIAN}/${name}`)) throw new Error(`no ${DEBIAN}/${name}: apt-get install containernetworking-plugins`);
  const plugins: Plugin[] = [];
  try {
    for (const name of kinds) {
      const plugin = new Plugin(name);
      plugins.push(plugin);
      if (plugin.isOurs) await plugin.node.start();
    }
    await run(plugins);
  } finally {
    for (const { node } of plugins) await node.close();
  }
}
