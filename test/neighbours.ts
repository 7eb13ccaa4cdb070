/**
 * Real BGP daemons as neighbours in tests: Debian's FRR, BIRD, GoBGP and OpenBGPD, each started alone in a namespace from the text of its
 * configuration, ready when its control socket answers, and ended with everything it started. PODLANE_NEIGHBOURS names another root
 * directory to take the daemons from, for example one with another Debian release: they run in it by chroot.
 */
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

export interface Neighbour {
  readonly pid: number;
  /** Asks the daemon as its operator does: vtysh, birdc, gobgp, bgpctl with these words. Rejects with what it printed when that fails. */
  query(command: string): Promise<string>;
  /** What it printed so far, at most the last 256 KiB. */
  log(): string;
  /** It holds its connections but says nothing more. */
  freeze(): void;
  thaw(): void;
  /** Ends it as its service manager does. */
  stop(): Promise<void>;
  /** Ends it as a power failure of the process would. */
  kill(): Promise<void>;
}

/** FRR's bgpd without zebra. `config`: frr.conf lines. */
export async function startFrr(namespace: string, config: string): Promise<Neighbour> {
  const v6OverV4 = await frrOption(namespace, "--v6-with-v4-nexthop");
  return start("FRR bgpd", namespace, "/usr/lib/frr/bgpd", directory => {
    const file = write(directory, "bgpd.conf", config);
    const identity = ["-i", join(directory, "pid"), "--vty_socket", directory];
    return {
      command: [
        "/usr/lib/frr/bgpd",
        "-n",
        "-S",
        "-Z",
        // Without zebra it knows no interface, and later versions then refuse IPv6 routes on a session over IPv4.
        ...v6OverV4,
        "-f",
        file,
        ...identity,
        "-P",
        "0",
        "--log",
        "stdout",
        "--log-level",
        "informational",
      ],
      client: words => ["vtysh", "--vty_socket", directory, "-d", "bgpd", "-c", words],
      ready: "show version",
    };
  });
}

/** The same with zebra, so that what bgpd learns is in the kernel of the namespace, and with bfdd if asked for. */
export function startFrrWithZebra(namespace: string, config: string, { bfd = false } = {}): Promise<Neighbour> {
  return start("FRR", namespace, "/usr/lib/frr/zebra", directory => {
    const file = write(directory, "bgpd.conf", config);
    const common = (daemon: string) => ["-P", "0", "--vty_socket", directory, "-i", join(directory, `${daemon}.pid`)];
    const way = ["-z", join(directory, "zserv.api")];
    const zebra = ["/usr/lib/frr/zebra", ...common("zebra"), ...way, "-f", write(directory, "zebra.conf", "")];
    const bgpd = ["/usr/lib/frr/bgpd", ...common("bgpd"), ...way, "-f", file, "--log", "stdout", "--log-level", "informational"];
    const bfdd = ["/usr/lib/frr/bfdd", ...common("bfdd"), ...way, "--bfdctl", join(directory, "bfdd.sock")];
    // One after the other: who finds no zebra, or no bfdd behind it, tries again only after ten seconds.
    const listens = (socket: string) => `until [ -S ${join(directory, socket)} ]; do sleep 0.05; done`;
    const before = bfd ? `${listens("zserv.api")}; ${bfdd.join(" ")} & ${listens("bfdd.vty")};` : "";
    return {
      // All in one group, which ends as a whole; zebra is always the user frr.
      command: ["sh", "-c", `chown -R frr:frr ${directory}; ${zebra.join(" ")} & ${before} exec ${bgpd.join(" ")}`],
      client: words => ["vtysh", "--vty_socket", directory, "-d", "bgpd", "-c", words],
      ready: "show version",
    };
  });
}

/** The option where this version of bgpd has it, else nothing. */
async function frrOption(namespace: string, option: string): Promise<string[]> {
  const [program, ...args] = inside(namespace, ["/usr/lib/frr/bgpd", "--help"]);
  // A bgpd that is missing or broken is reported by start().
  const { stdout } = await promisify(execFile)(program, args).catch(() => ({ stdout: "" }));
  return stdout.includes(option) ? [option] : [];
}

/** BIRD 2 or 3. `config`: bird.conf. */
export function startBird(namespace: string, config: string): Promise<Neighbour> {
  return start("BIRD", namespace, "/usr/sbin/bird", directory => {
    const file = write(directory, "bird.conf", `log stderr all;\n${config}`);
    const control = join(directory, "ctl");
    return {
      command: ["/usr/sbin/bird", "-f", "-c", file, "-s", control, "-P", join(directory, "pid")],
      client: words => ["/usr/sbin/birdc", "-s", control, ...words.split(" ")],
      ready: "show status",
    };
  });
}

/** GoBGP. `config`: YAML. */
export function startGobgp(namespace: string, config: string): Promise<Neighbour> {
  return start("GoBGP", namespace, "/usr/bin/gobgpd", directory => {
    const file = write(directory, "gobgpd.yaml", config);
    return {
      command: ["/usr/bin/gobgpd", "-t", "yaml", "-f", file, "--pprof-disable", "--log-plain"],
      client: words => ["/usr/bin/gobgp", ...words.split(" ")],
      ready: "global",
    };
  });
}

/** OpenBGPD that leaves the kernel's routes alone. `config`: bgpd.conf. */
export function startOpenbgpd(namespace: string, config: string): Promise<Neighbour> {
  return start("OpenBGPD", namespace, "/usr/sbin/bgpd", directory => {
    // Its unprivileged processes are locked into this directory.
    mkdirSync(outside("/run/openbgpd"), { recursive: true });
    const control = join(directory, "ctl");
    const file = write(directory, "bgpd.conf", `socket "${control}"\nfib-update no\n${config}`);
    return {
      command: ["/usr/sbin/bgpd", "-d", "-f", file],
      client: words => ["/usr/sbin/bgpctl", "-s", control, ...words.split(" ")],
      ready: "show",
    };
  });
}

/** Why a test with this daemon cannot run here; undefined = it can. */
export function missing(daemon: "frr" | "bird" | "gobgp" | "openbgpd"): string | undefined {
  const { file, name } = {
    frr: { file: "/usr/lib/frr/bgpd", name: "frr" },
    bird: { file: "/usr/sbin/bird", name: "bird2" },
    gobgp: { file: "/usr/bin/gobgpd", name: "gobgpd" },
    openbgpd: { file: "/usr/sbin/bgpd", name: "openbgpd" },
  }[daemon];
  if (!existsSync(outside(file))) return `${outside(file)} is not installed (Debian package ${name})`;
  return process.getuid?.() === 0 ? undefined : "network namespaces need root";
}

/** What a daemon says of its own version, such as "2.0.12"; undefined where it says none. Of the same root directory as the daemons. */
export function neighbourVersion(daemon: keyof typeof versionCommands): string | undefined {
  const command = versionCommands[daemon];
  const [program, ...args] = ROOT === "/" ? command : ["chroot", ROOT, ...command];
  // Some say it on standard output, some on standard error.
  const { stdout, stderr } = spawnSync(program, args, { encoding: "utf8", timeout: 10_000 });
  return /\d+\.\d[\w.-]*/.exec(`${stdout} ${stderr}`)?.[0];
}

const versionCommands = {
  frr: ["/usr/lib/frr/bgpd", "--version"],
  bird: ["/usr/sbin/bird", "--version"],
  gobgp: ["/usr/bin/gobgpd", "--version"],
  openbgpd: ["/usr/sbin/bgpd", "-V"],
};

interface Recipe {
  command: string[];
  /** Runs in the daemon's namespace and root directory, as `command` does. */
  client: (words: string) => string[];
  /** A query that succeeds as soon as the daemon works. */
  ready: string;
}

/** Milliseconds. */
const START_LIMIT = 20_000;
const STOP_LIMIT = 5_000;
const MAX_LOG = 256 * 1024;
const running = new Set<DaemonProcess>();
const ROOT = resolve(process.env.PODLANE_NEIGHBOURS || "/");

/** Where we see what the daemons see at `path`. */
function outside(path: string): string {
  return join(ROOT, path);
}

/**
 * "ip netns exec" and all that follows become the command itself, so that signals reach it. The mounts are of the mount namespace that
 * "ip netns exec" makes and end with it, however it ends.
 */
function inside(namespace: string, command: string[]): string[] {
  const enter = ["ip", "netns", "exec", namespace];
  if (ROOT === "/") return [...enter, ...command];
  const mounts = `mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"`;
  return [...enter, "sh", "-c", mounts, ROOT, ...command];
}

async function start(name: string, namespace: string, program: string, recipe: (directory: string) => Recipe): Promise<Neighbour> {
  if (!existsSync(outside(program))) throw new Error(`${name}: ${outside(program)} is not installed`);
  const parent = ROOT === "/" ? tmpdir() : "/tmp";
  const directory = join(parent, basename(mkdtempSync(join(outside(parent), "podlane-neighbour-"))));
  chmodSync(outside(directory), 0o755);
  const daemon = new DaemonProcess(name, namespace, directory, recipe(directory));
  try {
    await daemon.ready();
    return daemon;
  } catch (error) {
    await daemon.kill();
    throw error;
  }
}

class DaemonProcess implements Neighbour {
  readonly #name: string;
  readonly #namespace: string;
  readonly #directory: string;
  readonly #recipe: Recipe;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #log = "";

  constructor(name: string, namespace: string, directory: string, recipe: Recipe) {
    this.#name = name;
    this.#namespace = namespace;
    this.#directory = directory;
    this.#recipe = recipe;
    const [program, ...args] = inside(namespace, recipe.command);
    // A group of its own, so that its helpers end with it.
    this.#child = spawn(program, args, { detached: true, stdio: ["ignore", "pipe", "pipe"] });
    const keep = (chunk: Buffer) => {
      this.#log = (this.#log + chunk.toString("utf8")).slice(-MAX_LOG);
    };
    this.#child.stdout?.on("data", keep);
    this.#child.stderr?.on("data", keep);
    this.#ended = new Promise(resolve => {
      this.#child.once("exit", () => resolve());
      this.#child.once("error", () => resolve());
    });
    if (running.size === 0) process.once("exit", endAll);
    running.add(this);
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.#name} could not be started`);
    return this.#child.pid;
  }

  async ready(): Promise<void> {
    const limit = Date.now() + START_LIMIT;
    for (let last = ""; ; await pause(20)) {
      if (this.#child.exitCode !== null || this.#child.pid === undefined) throw new Error(`${this.#name} ended at once:\n${this.#log}`);
      try {
        await this.query(this.#recipe.ready);
        return;
      } catch (error) {
        last = (error as Error).message;
      }
      if (Date.now() > limit) throw new Error(`${this.#name} does not answer within ${START_LIMIT} ms: ${last}\n${this.#log}`);
    }
  }

  query(command: string): Promise<string> {
    const [program, ...args] = inside(this.#namespace, this.#recipe.client(command));
    return new Promise((resolve, reject) => {
      execFile(program, args, { timeout: 10_000, maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
        if (error) reject(new Error(`${this.#name}: "${command}" failed: ${stdout}${stderr}`, { cause: error }));
        else resolve(stdout);
      });
    });
  }

  log(): string {
    return this.#log;
  }

  freeze(): void {
    this.signal("SIGSTOP");
  }

  thaw(): void {
    this.signal("SIGCONT");
  }

  async stop(): Promise<void> {
    this.signal("SIGCONT");
    this.signal("SIGTERM", "leader");
    await Promise.race([this.#ended, pause(STOP_LIMIT)]);
    await this.kill();
  }

  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.#ended;
    running.delete(this);
    if (running.size === 0) process.removeListener("exit", endAll);
    rmSync(outside(this.#directory), { recursive: true, force: true });
  }

  signal(signal: NodeJS.Signals, to: "group" | "leader" = "group"): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(to === "group" ? -this.#child.pid : this.#child.pid, signal);
    } catch {
      // It has ended.
    }
  }
}

function endAll(): void {
  for (const daemon of running) daemon.signal("SIGKILL");
}

function write(directory: string, name: string, text: string): string {
  const file = join(directory, name);
  writeFileSync(outside(file), text, { mode: 0o600 });
  return file;
}
