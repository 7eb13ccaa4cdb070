/**
 * What the engine asks of the machine: commands, processes in network namespaces, and finding out who lives where. Everything goes through
 * iproute2 and /proc, not through podlane's own kernel code: the lab that tests the product must not depend on it.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

const NETNS_FOLDER = "/run/netns";

export function netnsPath(namespace: string): string {
  return `${NETNS_FOLDER}/${namespace}`;
}

/** A command that ended with an error: which, how, and what it said. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code: number | string;
  readonly stdout: string;

  constructor(command: string, code: number | string, stdout: string, stderr: string) {
    super(
      `\`${command}\` ended with ${typeof code === "number" ? `status ${code}` : code}: ${(stderr || stdout).trim() || "(it said nothing)"}`,
    );
    this.code = code;
    this.stdout = stdout;
  }
}

export interface RunOptions {
  stdin?: string;
  env?: Record<string, string>;
  /** Milliseconds; default 20 s. */
  timeout?: number;
  signal?: AbortSignal;
}

/** Runs a command to its end and returns its standard output. Throws CommandError. */
export function run(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      {
        encoding: "utf8",
        maxBuffer: 64 << 20,
        timeout: options.timeout ?? 20_000,
        killSignal: "SIGKILL",
        signal: options.signal,
        env: options.env === undefined ? process.env : { ...process.env, ...options.env },
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve(stdout);
        const code = error.killed ? `no answer within ${options.timeout ?? 20_000} ms` : (error.code ?? "a signal");
        reject(new CommandError([command, ...args].join(" "), code, stdout, stderr));
      },
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(options.stdin ?? "");
  });
}

/** Arguments that run a command in a namespace: nsenter, because `ip netns exec` mounts /sys anew each time. */
export function inNamespace(namespace: string, command: string, args: string[]): [string, string[]] {
  return ["nsenter", [`--net=${netnsPath(namespace)}`, "--", command, ...args]];
}

export function runIn(namespace: string, command: string, args: string[], options?: RunOptions): Promise<string> {
  return run(...inNamespace(namespace, command, args), options);
}

/** `ip -batch` in a namespace, or in our own: one process for many changes. */
export async function ipBatch(namespace: string | undefined, lines: string[], options: RunOptions = {}): Promise<void> {
  if (lines.length === 0) return;
  const args = namespace === undefined ? ["-batch", "-"] : ["-n", namespace, "-batch", "-"];
  await run("ip", args, { ...options, stdin: `${lines.join("\n")}\n` });
}

/** Starts a process that outlives us, its output going to a file. Returns its process id. */
export function startDaemon(
  namespace: string,
  command: string,
  args: string[],
  logFile: string,
  env: Record<string, string> = {},
): ProcessId {
  const log = openSync(logFile, "a");
  try {
    const [nsenter, all] = inNamespace(namespace, command, args);
    const child: ChildProcess = spawn(nsenter, all, { detached: true, stdio: ["ignore", log, log], env: { ...process.env, ...env } });
    child.on("error", () => {});
    child.unref();
    if (child.pid === undefined) throw new Error(`${command} cannot be started: is nsenter (util-linux) installed?`);
    return { pid: child.pid, started: startTime(child.pid) ?? "" };
  } finally {
    closeSync(log);
  }
}

/** A process id alone can be given to another process; together with the start time it cannot. */
export interface ProcessId {
  pid: number;
  /** Field 22 of /proc/PID/stat. */
  started: string;
}

export function isAlive(id: ProcessId): boolean {
  const now = startTime(id.pid);
  return now !== undefined && (id.started === "" || now === id.started);
}

/** Undefined for a process that is gone or a zombie. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export function signal(id: ProcessId, name: NodeJS.Signals): boolean {
  if (!isAlive(id)) return false;
  try {
    return process.kill(id.pid, name);
  } catch {
    return false;
  }
}

/** Waits until a condition holds; asks every `interval` ms. False when `timeout` ms passed without. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  timeout: number,
  interval = 25,
  abort?: AbortSignal,
): Promise<boolean> {
  const end = performance.now() + timeout;
  for (;;) {
    if (await condition()) return true;
    abort?.throwIfAborted();
    if (performance.now() >= end) return false;
    await new Promise(resolve => setTimeout(resolve, interval));
  }
}

/** Names of the namespaces under /run/netns that begin with the prefix. */
export function listNamespaces(prefix: string): string[] {
  if (!existsSync(NETNS_FOLDER)) return [];
  return readdirSync(NETNS_FOLDER)
    .filter(name => name.startsWith(prefix))
    .sort();
}

/** All processes whose network namespace is one of these, whoever started them. One pass over /proc. */
export function processesIn(namespaces: string[]): number[] {
  const inodes = new Set<string>();
  for (const name of namespaces) {
    try {
      inodes.add(`net:[${statSync(netnsPath(name)).ino}]`);
    } catch {
      // Gone meanwhile: nobody lives there.
    }
  }
  if (inodes.size === 0) return [];
  return readdirSync("/proc")
    .filter(entry => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .map(Number)
    .filter(pid => {
      try {
        return inodes.has(readlinkSync(`/proc/${pid}/ns/net`));
      } catch {
        return false;
      }
    });
}

/** Kills all that runs in the namespaces and deletes them with their links. Returns how many namespaces there were. */
export async function removeNamespaces(namespaces: string[]): Promise<number> {
  const present = namespaces.filter(name => existsSync(netnsPath(name)));
  const gone = await until(() => {
    const pids = processesIn(present);
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // Ended by itself.
      }
    }
    return pids.length === 0;
  }, 10_000);
  if (!gone) throw new Error(`processes in ${present.join(", ")} do not end after SIGKILL: ${processesIn(present).join(", ")}`);
  await ipBatch(
    undefined,
    present.map(name => `netns delete ${name}`),
  );
  return present.length;
}

/** Sets sysctls (dotted names) in a namespace; a name the kernel lacks is an error that names it. */
export async function sysctls(namespace: string, values: Record<string, string | number>, options?: RunOptions): Promise<void> {
  const script = Object.entries(values)
    .map(([name, value]) => `echo ${value} > /proc/sys/${name.replaceAll(".", "/")}`)
    .join(" && ");
  await runIn(namespace, "sh", ["-c", script], options);
}
