/** podman, whose CNI side is libcni with a folder and habits of its own: a network that podlane makes, containers from a folder; nothing is pulled. */
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { forgetResults, requireRoot, TestNode, until } from "./harness.ts";

const BUSYBOX = "/bin/busybox";
const RUNC = "/usr/sbin/runc";
/** The last one that still drives CNI. */
const LAST_WITH_CNI = 4;

beforeAll(requireRoot);
beforeEach(context => context.skip(missing() !== undefined, missing()));

function missing(): string | undefined {
  const { status, stdout } = spawnSync("podman", ["--version"], { encoding: "utf8" });
  if (status !== 0) return "no podman; install podman";
  if (Number(stdout.match(/\d+/)?.[0]) > LAST_WITH_CNI) return `${stdout.trim()} has no CNI: podman 5 took it out`;
  for (const [file, debian] of [
    [BUSYBOX, "busybox-static"],
    [RUNC, "runc"],
  ])
    if (!fs.existsSync(file)) return `no ${file}; install ${debian}`;
  return undefined;
}

/** podman on a node: its own storage, and the node's network namespace. */
class Podman {
  readonly network: string;
  readonly #node: TestNode;
  readonly #rootfs: string;

  constructor(node: TestNode) {
    this.#node = node;
    this.network = `${node.id}-net`;
    this.#rootfs = path.join(node.directory, "rootfs");
    const folder = path.join(node.directory, "net.d");
    fs.mkdirSync(folder);
    const capabilities = { ips: true, mac: true, portMappings: true };
    const plugin = { type: "podlane", socket: node.socket, queue: node.queue, capabilities };
    const list = { cniVersion: "1.0.0", name: this.network, plugins: [plugin] };
    fs.writeFileSync(path.join(folder, "10-podlane.conflist"), JSON.stringify(list));
    fs.writeFileSync(
      path.join(node.directory, "containers.conf"),
      `[network]
network_backend = "cni"
cni_plugin_dirs = ["${path.dirname(node.plugin)}"]
network_config_dir = "${folder}"
default_network = "${this.network}"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "${RUNC}"
`,
    );
    fs.mkdirSync(path.join(this.#rootfs, "bin"), { recursive: true });
    fs.copyFileSync(BUSYBOX, path.join(this.#rootfs, "bin/busybox"));
  }

  call(...words: string[]): string {
    const place = (name: string) => path.join(this.#node.directory, "podman", name);
    const options = ["--root", place("storage"), "--runroot", place("run"), "--tmpdir", place("tmp"), "--storage-driver", "vfs"];
    return execFileSync("nsenter", [`--net=${this.#node.netns}`, "podman", ...options, ...words], {
      encoding: "utf8",
      env: { ...process.env, CONTAINERS_CONF: path.join(this.#node.directory, "containers.conf"), PODLANE_WAIT: "0" },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  run(name: string, ...options: string[]): void {
    const program = ["--rootfs", this.#rootfs, "/bin/busybox", "sleep", "1000"];
    this.call("run", "--detach", "--cgroup-parent", `/${this.#node.id}`, "--name", name, ...options, ...program);
  }

  /** Throws where the program fails, as ping does when nobody answers. */
  inside(name: string, ...words: string[]): string {
    return this.call("exec", name, "/bin/busybox", ...words);
  }

  addresses(name: string): string[] {
    const networks = JSON.parse(this.call("inspect", name, "--format", "{{json .NetworkSettings.Networks}}"));
    const { IPAddress, GlobalIPv6Address } = networks[this.network];
    return [IPAddress, GlobalIPv6Address];
  }

  close(): void {
    this.call("rm", "--force", "--time", "0", "--all");
    forgetResults(this.network);
    for (const parent of fs.globSync(`/sys/fs/cgroup/{,*/}${this.#node.id}`)) {
      for (const child of fs.globSync(`${parent}/**/`).sort().reverse()) fs.rmdirSync(child);
      if (fs.existsSync(parent)) fs.rmdirSync(parent);
    }
  }
}

for (const mode of ["bridge", "routed"] as const) {
  test(`podman's containers in mode ${mode}: attached, reached, restarted, removed without a trace`, async () => {
    const node = new TestNode({ mode });
    onTestFinished(() => node.close());
    node.options = { quarantine: 0, netfilter: true };
    await node.start();
    const podman = new Podman(node);
    onTestFinished(() => podman.close());
    expect(podman.call("network", "ls", "--format", "{{.Name}} {{.Driver}}")).toBe(`${podman.network} podlane\n`);

    podman.run("a", "--publish", "8080:80");
    podman.run("b", "--network", `${podman.network}:ip=10.77.0.60,ip=fd77::60,mac=02:00:00:00:00:60`);
    expect([podman.addresses("a"), podman.addresses("b")]).toEqual([
      ["10.77.0.2", "fd77::2"],
      ["10.77.0.60", "fd77::60"],
    ]);
    expect(podman.inside("b", "ip", "link", "show", "eth0")).toContain("link/ether 02:00:00:00:00:60");
    for (const address of podman.addresses("b")) podman.inside("a", "ping", "-c", "3", "-W", "5", address);
    const guarded = () =>
      node.exec("nft", "list", "map", mode === "bridge" ? "bridge" : "inet", "podlane", "spoof-ports").match(/"pl[0-9a-f]{12}"/g);
    expect(guarded()).toHaveLength(2);
    expect(node.exec("nft", "list", "table", "inet", "podlane")).toContain("tcp . 8080 : 10.77.0.2");

    // What was asked for stays over a reload and a restart, and a container that is stopped has nothing.
    podman.call("network", "reload", "b");
    podman.call("restart", "--time", "0", "b");
    expect(podman.addresses("b")).toEqual(["10.77.0.60", "fd77::60"]);
    podman.call("stop", "--time", "0", "a");
    expect((await node.attachments()).map(({ addresses }) => addresses[0])).toEqual(["10.77.0.60/24"]);
    podman.call("start", "a");
    podman.inside("b", "ping", "-c", "3", "-W", "5", podman.addresses("a")[0]);

    podman.call("rm", "--force", "--time", "0", "a", "b");
    expect(await node.attachments()).toEqual([]);
    expect(node.exec("ip", "-br", "link")).not.toMatch(/^pl/m);
    await until("all rules of pods are gone", () => !/spoof-pl|10\.77\.0\./.test(node.exec("nft", "list", "ruleset")));
    expect(fs.readdirSync("/var/lib/cni/results").filter(name => name.startsWith(podman.network))).toEqual([]);
  }, 120_000);
}
