/**
 * A node and its pods as real network namespaces, and the container runtime's side of CNI: the executable, called with
 * environment and standard input. Everything has names of this process and is removed by close().
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { buildPlugin, pluginFiles } from "../../cni/plugin/build.ts";
import type { AttachmentView, AttachProblem, PodPlan } from "../../cni/types.ts";
import { keptFolder } from "../../lab/kubernetes/kept.ts";

const repository = path.resolve(import.meta.dirname, "../..");
export const node = path.join(repository, "node_modules/.bin/node");

export interface Call {
  container?: string;
  ifname?: string;
  netns?: string;
  args?: string;
  /** Laid over the network's configuration. */
  config?: object;
  /** In place of the configuration. */
  stdin?: string;
  env?: Record<string, string>;
}

export interface Outcome {
  status: number | null;
  stdout: string;
  stderr: string;
  // biome-ignore lint/suspicious/noExplicitAny: results are looked at field by field
  json: any;
}

let counter = 0;

/** Compiles it once for all tests of a run. */
function install(directory: string, kind: "cc" | "node"): string {
  if (kind === "node" || keptFolder === undefined) return buildPlugin(directory, kind);
  const kept = path.join(keptFolder, "plugin");
  const [name] = pluginFiles;
  if (!fs.existsSync(path.join(kept, name))) buildPlugin(kept, kind);
  fs.mkdirSync(directory, { recursive: true });
  fs.copyFileSync(path.join(kept, name), path.join(directory, name));
  return path.join(directory, name);
}

export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new Error("these tests make network namespaces and need root");
}

const defaultPlan: PodPlan = {
  podCidrs: ["10.77.0.0/24", "fd77::/64"],
  mode: "bridge",
  bridgeName: "podlane0",
  mtu: "auto",
  hairpin: true,
};

/** One node: its namespace, its agent, its pods. */
export class TestNode {
  readonly id = `pl-${process.pid}-${counter++}`;
  readonly netns = `/run/netns/${this.id}`;
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-cni-"));
  readonly socket = path.join(this.directory, "agent.sock");
  readonly queue = path.join(this.directory, "state/del-queue");
  readonly stateDir = path.join(this.directory, "state");
  readonly plugin: string;
  plan: PodPlan;
  log = "";
  /** More options for the handler. */
  options: object = { quarantine: 0 };
  #agent: ChildProcess | undefined;
  #pods = new Set<string>();

  constructor(plan: Partial<PodPlan> = {}, kind: "cc" | "node" = "cc") {
    this.plan = { ...defaultPlan, ...plan };
    this.plugin = install(path.join(this.directory, "bin"), kind);
    ip("netns", "add", this.id);
    this.exec("ip", "link", "set", "lo", "up");
  }

  /** `before`: shell commands in a mount namespace of the agent's own. */
  async start(before?: string): Promise<void> {
    const options = JSON.stringify({ socket: this.socket, stateDir: this.stateDir, plan: this.plan, ...this.options });
    const program = [node, path.join(import.meta.dirname, "agent.ts"), options];
    const wrapped = before === undefined ? program : ["unshare", "--mount", "sh", "-c", `${before}; exec "$@"`, "sh", ...program];
    const child = spawn("nsenter", [`--net=${this.netns}`, ...wrapped], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#agent = child;
    child.stderr.on("data", chunk => {
      this.log += chunk;
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout.once("data", () => resolve());
      child.once("exit", code => reject(new Error(`the agent ended with ${code}: ${this.log}`)));
    });
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const child = this.#agent;
    this.#agent = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise(resolve => child.once("exit", resolve));
    child.kill(signal);
    await ended;
  }

  /** Runs a program in the node's namespace; throws when it fails. */
  exec(program: string, ...args: string[]): string {
    return execFileSync("nsenter", [`--net=${this.netns}`, program, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  }

  /** Makes a pod's namespace and returns its path. */
  pod(name = `p${counter++}`): string {
    const full = `${this.id}-${name}`;
    ip("netns", "add", full);
    this.#pods.add(full);
    return `/run/netns/${full}`;
  }

  removePod(netns: string): void {
    const name = path.basename(netns);
    this.#pods.delete(name);
    ip("netns", "del", name);
  }

  config(extra: object = {}): object {
    return { cniVersion: "1.1.0", name: "pods", type: "podlane", socket: this.socket, queue: this.queue, ...extra };
  }

  call(command: string, call: Call = {}, plugin = this.plugin): Promise<Outcome> {
    const env: Record<string, string> = {
      PATH: process.env.PATH ?? "",
      CNI_COMMAND: command,
      CNI_PATH: path.dirname(plugin),
      PODLANE_SOCKET: this.socket,
      PODLANE_WAIT: "0",
      ...call.env,
    };
    if (call.container !== undefined) env.CNI_CONTAINERID = call.container;
    if (call.container !== undefined || call.ifname !== undefined) env.CNI_IFNAME = call.ifname ?? "eth0";
    if (call.netns !== undefined) env.CNI_NETNS = call.netns;
    if (call.args !== undefined) env.CNI_ARGS = call.args;
    return runPlugin(plugin, env, call.stdin ?? JSON.stringify(this.config(call.config)));
  }

  setPlan(plan: Partial<PodPlan>): Promise<AttachProblem[]> {
    this.plan = { ...this.plan, ...plan };
    return this.#control("PUT", "/plan", this.plan);
  }

  attachments(): Promise<AttachmentView[]> {
    return this.#control("GET", "/attachments");
  }

  held(): Promise<string[]> {
    return this.#control("GET", "/held");
  }

  problems(): Promise<AttachProblem[]> {
    return this.#control("GET", "/problems");
  }

  /** Packets that the guard dropped, by reason, as of the last time it was asked. */
  spoofed(): Promise<Record<string, number>> {
    return this.#control("GET", "/spoofed");
  }

  look(): Promise<AttachProblem[]> {
    return this.#control("POST", "/look");
  }

  sweep(): Promise<number> {
    return this.#control("POST", "/sweep");
  }

  takeBack(): Promise<void> {
    return this.#control("POST", "/take-back");
  }

  async close(): Promise<void> {
    await this.kill();
    for (const pod of this.#pods) spawnSync("ip", ["netns", "del", pod]);
    spawnSync("ip", ["netns", "del", this.id]);
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  #control<T>(method: string, url: string, body?: object): Promise<T> {
    return new Promise((resolve, reject) => {
      // A connection of its own: the server ends one that was idle while a test waited for a program.
      const request = http.request({ socketPath: this.socket, path: url, method, agent: false }, async response => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk);
        resolve(JSON.parse(Buffer.concat(chunks).toString()) as T);
      });
      request.on("error", reject);
      request.end(body === undefined ? "" : JSON.stringify(body));
    });
  }
}

/** Calls a CNI plugin as libcni does. */
export function runPlugin(plugin: string, env: Record<string, string>, stdin: string, netns?: string): Promise<Outcome> {
  const [program, args] = netns ? ["nsenter", [`--net=${netns}`, plugin]] : [plugin, []];
  return new Promise((resolve, reject) => {
    const child = spawn(program, args as string[], { env, stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", chunk => {
      stdout += chunk;
    });
    child.stderr.on("data", chunk => {
      stderr += chunk;
    });
    child.on("error", reject);
    child.stdin.on("error", () => undefined);
    child.on("close", status => {
      let json: unknown;
      try {
        json = JSON.parse(stdout);
      } catch {
        json = undefined;
      }
      resolve({ status, stdout, stderr, json });
    });
    child.stdin.end(stdin);
  });
}

/** Removes what libcni kept of a network's results, in its fixed place. */
export function forgetResults(network: string): void {
  const cache = "/var/lib/cni/results";
  if (fs.existsSync(cache)) for (const name of fs.readdirSync(cache)) if (name.startsWith(network)) fs.rmSync(path.join(cache, name));
  // Not there before; where somebody else uses it, it is not empty and stays.
  for (const directory of [cache, path.dirname(cache)]) {
    try {
      fs.rmdirSync(directory);
    } catch {
      break;
    }
  }
}

/** Runs a program in a namespace; returns the exit status and output. */
export function inNetns(netns: string, program: string, ...args: string[]): { status: number | null; stdout: string } {
  const { status, stdout } = spawnSync("nsenter", [`--net=${netns}`, program, ...args], { encoding: "utf8" });
  return { status, stdout };
}

/** Whether one echo request of at most three is answered. */
export function pings(netns: string, address: string): boolean {
  return inNetns(netns, "ping", "-c", "3", "-i", "0.2", "-W", "1", "-n", "-q", address.split("/")[0]).status === 0;
}

/** Waits until `condition` holds; throws after `limit` milliseconds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, limit = 10_000): Promise<void> {
  const deadline = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited ${limit} ms for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
}
