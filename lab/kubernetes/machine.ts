/**
 * A machine of one's own for a node: network, process and mount namespaces (namespaces(7)), with /run, /var/lib, /var/log, /etc and /opt to itself, so that daemons
 * find the usual paths and all of them end with the machine: the kernel kills a process namespace with its first process. That dies with whoever booted
 * it, unless the machine is to outlive us. Needs root.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

interface Output {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Daemon {
  name: string;
  /** What was started. */
  words: readonly string[];
  /** Exit code or signal; resolves when it has ended. */
  ended: Promise<unknown>;
  running(): boolean;
  kill(signal: NodeJS.Signals): Promise<void>;
  log(): string;
}

export interface MachineOptions {
  /** A folder for /run that others see as well; default: a file system in memory. */
  run?: string;
  /** It and its daemons go on when we end. */
  outlives?: boolean;
}

export class Machine {
  /** Of its network namespace, as ip(8) names it. */
  netns: string;
  /** What survives a reboot: /var/lib is its folder `lib`. */
  readonly folder: string;
  readonly #options: MachineOptions;
  readonly #daemons = new Set<Daemon>();
  #outer: ChildProcess | undefined;
  #init = 0;

  constructor(netns: string, folder: string, options: MachineOptions = {}) {
    this.netns = netns;
    this.folder = folder;
    this.#options = options;
    for (const name of ["lib", "log", ...overlays.flatMap(one => [`over/${one}/upper`, `over/${one}/work`])])
      mkdirSync(join(folder, name), { recursive: true });
  }

  /** Of the process that holds the machine up, and ends it: as our process namespace knows it. */
  get pid(): number | undefined {
    return this.#outer?.pid;
  }

  async boot(): Promise<void> {
    const { run, outlives = false } = this.#options;
    const namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--propagation", "private"];
    const words = ["nsenter", `--net=/run/netns/${this.netns}`, ...namespaces, "sh", "-c", bootScript(this.folder, run)];
    const [program, ...rest] = outlives ? words : ["setpriv", "--pdeathsig", "KILL", ...words];
    const outer = spawn(program, rest, { stdio: ["ignore", "pipe", "pipe"], detached: outlives });
    this.#outer = outer;
    let errors = "";
    outer.stderr.on("data", chunk => {
      errors += chunk;
    });
    const [up] = await Promise.race([once(outer.stdout, "data"), once(outer, "close")]);
    if (String(up).trim() !== "up") throw new Error(`the machine ${this.netns} does not start: ${errors}`);
    this.#init = await onlyChild(outer.pid!);
    if (!outlives) return;
    outer.stdout.destroy();
    outer.stderr.destroy();
    outer.unref();
  }

  /** As when the power fails: every process and every mount is gone at once. */
  async powerOff(): Promise<void> {
    const outer = this.#outer;
    this.#outer = undefined;
    if (!outer) return;
    const gone = once(outer, "exit");
    if (outer.exitCode === null && outer.signalCode === null) {
      process.kill(this.#init || outer.pid!, "SIGKILL");
      await gone;
    }
    await Promise.all([...this.#daemons].map(daemon => daemon.ended));
    this.#daemons.clear();
  }

  /** Runs a program in the machine and returns what it printed; does not throw when it fails. `netns`: in a pod's namespace instead of the machine's. */
  async run(words: string[], { netns, limit = 20_000 }: { netns?: string; limit?: number } = {}): Promise<Output> {
    const child = spawn("nsenter", this.#enter([...(netns ? ["nsenter", `--net=${netns}`] : []), ...words]), {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: limit,
      killSignal: "SIGKILL",
    });
    const output: Output = { status: null, stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", text => {
      output.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", text => {
      output.stderr += text;
    });
    const [status] = await once(child, "close");
    return { ...output, status };
  }

  /** run() for what must succeed; returns standard output. */
  async must(words: string[], options: { netns?: string; limit?: number } = {}): Promise<string> {
    const { status, stdout, stderr } = await this.run(words, options);
    if (status !== 0) throw new Error(`${this.netns}: ${words.join(" ")} ended with ${status}: ${stderr || stdout}`);
    return stdout;
  }

  /** Starts a program that goes on until it is killed or the machine ends. Its output is in log(). `netns` as in run(). */
  start(name: string, words: string[], netns?: string): Daemon {
    const file = join(this.folder, `${name}.log`);
    const log = openSync(file, "a");
    const child = spawn("nsenter", this.#enter([...(netns ? ["nsenter", `--net=${netns}`] : []), ...words]), {
      stdio: ["ignore", log, log],
      detached: this.#options.outlives,
    });
    closeSync(log);
    if (this.#options.outlives) child.unref();
    const ended = once(child, "exit");
    const running = () => child.exitCode === null && child.signalCode === null;
    const kill = async (signal: NodeJS.Signals) => {
      if (!running()) return;
      process.kill(await onlyChild(child.pid!), signal);
      await ended;
    };
    const daemon: Daemon = { name, words, ended, running, kill, log: () => readFileSync(file, "utf8") };
    this.#daemons.add(daemon);
    return daemon;
  }

  /** The one that was started last by that name. */
  daemon(name: string): Daemon {
    const found = [...this.#daemons].findLast(one => one.name === name);
    if (!found) throw new Error(`the machine ${this.netns} has no ${name}`);
    return found;
  }

  /** Starts anew what has ended. */
  again(name: string): Daemon {
    return this.start(name, [...this.daemon(name).words]);
  }

  /** The ends of all daemons' logs, for a test that failed. */
  logs(): string {
    return [...this.#daemons].map(one => `--- ${this.netns} ${one.name}\n${one.log().slice(-1500)}`).join("\n");
  }

  #enter(words: string[]): string[] {
    if (!this.#outer) throw new Error(`the machine ${this.netns} is off`);
    return ["--target", String(this.#init), "--mount", "--net", "--pid", "--", ...words];
  }
}

/** What a node changes in these is its own. */
const overlays = ["etc", "opt"];

function bootScript(folder: string, run: string | undefined): string {
  const overlaid = overlays.map(
    one => `mount -t overlay overlay -o lowerdir=/${one},upperdir=${folder}/over/${one}/upper,workdir=${folder}/over/${one}/work /${one}`,
  );
  const steps = [
    "mount --make-rshared /",
    ...overlaid,
    // Before /run, which may hold the folder.
    `mount --bind ${folder}/lib /var/lib`,
    `mount --bind ${folder}/log /var/log`,
    `cat /proc/sys/kernel/random/uuid > ${folder}/boot-id`,
    `mount --bind ${folder}/boot-id /proc/sys/kernel/random/boot_id`,
    run === undefined ? "mount -t tmpfs tmpfs /run" : `mount --bind ${run} /run`,
    "mkdir -p /etc/cni/net.d /opt/cni/bin /run/lock",
    "echo up",
    "while :; do sleep 1000 & wait; done",
  ];
  return steps.join(" && ");
}

/** nsenter and unshare stay in front of a process that they started in another process namespace. */
async function onlyChild(pid: number): Promise<number> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    if (child) return Number(child);
    await delay(5);
  }
  throw new Error(`process ${pid} started nothing`);
}
