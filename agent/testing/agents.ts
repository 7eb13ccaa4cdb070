/** Real agents in network namespaces of their own, as an operator starts them: for the tests of agent/ and cli/. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { loadPlan, planPath } from "../saved-plan.ts";

/** $PODLANE_MAIN: the bundle, for the same tests. */
const usualMain = process.env.PODLANE_MAIN ?? join(import.meta.dirname, "../../cli/main.ts");

export interface RunningAgent {
  process: ChildProcess;
  /** What it logged: one JSON object per line. */
  log: Record<string, unknown>[];
  /** Everything on standard error that is no JSON. */
  noise: string[];
  /** Resolves when it has ended: the exit code, or the signal that killed it. */
  ended: Promise<number | NodeJS.Signals>;
}

export interface Answer {
  status: number;
  stdout: string;
  stderr: string;
}

let made = 0;

/** Commands that print what the path of their name answers, as it is. */
const looks = new Set(["peers", "problems", "status"]);

/** Two namespaces joined by a veth pair: 192.0.2.1 in the first, 192.0.2.2 in the second. */
export class Pair {
  readonly folder = mkdtempSync(join(tmpdir(), "podlane-agents-"));
  readonly names: [string, string];
  readonly #agents: RunningAgent[] = [];
  readonly #main: string;

  /** `main`: the program to start; absent: that of this checkout. */
  constructor(main = usualMain) {
    this.#main = main;
    const id = `pl-${process.pid}-${made++}`;
    this.names = [`${id}a`, `${id}b`];
    for (const name of this.names) ip("netns", "add", name);
    ip("link", "add", "eth0", "netns", this.names[0], "type", "veth", "peer", "name", "eth0", "netns", this.names[1]);
    this.names.forEach((name, at) => {
      ip("-n", name, "address", "add", `192.0.2.${at + 1}/24`, "dev", "eth0");
      ip("-n", name, "link", "set", "eth0", "up");
      ip("-n", name, "link", "set", "lo", "up");
    });
    this.write("nodes.yaml", nodes);
  }

  get config(): string {
    return join(this.folder, "config");
  }

  socket(at: 0 | 1): string {
    return join(this.folder, `run${at}`, "agent.sock");
  }

  state(at: 0 | 1): string {
    return join(this.folder, `state${at}`);
  }

  write(file: string, text: string): void {
    mkdirSync(this.config, { recursive: true });
    writeFileSync(join(this.config, file), text);
  }

  /** `more` comes last, so that it overrides. `env`: beside that of this process. */
  start(at: 0 | 1, more: string[] = [], env: Record<string, string> = {}): RunningAgent {
    const own = ["--node", `node${at + 1}`, "--config", this.config, "--state", this.state(at), "--socket", this.socket(at)];
    const agent = startAgent(this.names[at], [...own, ...more], env, this.#main);
    this.#agents.push(agent);
    return agent;
  }

  /** Runs `podlane …` against the agent of a node and waits for its end. */
  async podlane(at: 0 | 1, ...words: string[]): Promise<Answer> {
    return podlane(this.#main, ...words, "--socket", this.socket(at));
  }

  /** The JSON that `podlane … --json` prints; undefined while the agent does not answer. What tests look at ten times a second is asked without the program. */
  async ask<View>(at: 0 | 1, ...words: string[]): Promise<View | undefined> {
    if (words.length === 1 && looks.has(words[0])) return askAgent<View>(this.socket(at), `/v1/${words[0]}`);
    const { status, stdout } = await this.podlane(at, ...words, "--json");
    return status === 0 ? JSON.parse(stdout) : undefined;
  }

  /** Destinations of the kernel routes with the protocol number of the agent's plan. */
  kernelRoutes(at: 0 | 1): string[] {
    const path = planPath(this.state(at));
    if (!existsSync(path)) return [];
    const protocol = String(loadPlan(path, `node${at + 1}`)?.plan.speaker?.fib.protocol);
    const routes: { dst: string; protocol: string }[] = JSON.parse(ip("-n", this.names[at], "-j", "-N", "route", "show", "table", "main"));
    return routes
      .filter(route => route.protocol === protocol)
      .map(route => route.dst)
      .sort();
  }

  async close(): Promise<void> {
    for (const { process: child } of this.#agents) child.kill("SIGKILL");
    await Promise.all(this.#agents.map(one => one.ended));
    for (const name of this.names) ip("netns", "delete", name);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** `podlane agent` in a namespace, with these options. */
export function startAgent(netns: string, options: readonly string[], env: Record<string, string> = {}, main = usualMain): RunningAgent {
  const shown = ["--log-level", "debug", "--log-format", "json"];
  // What the caller gives comes last, so that it overrides.
  const words = ["netns", "exec", netns, process.execPath, main, "agent", ...shown, ...options];
  const child = spawn("ip", words, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...env } });
  const log: RunningAgent["log"] = [];
  const noise: string[] = [];
  let rest = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("{")) log.push(JSON.parse(line));
      else noise.push(line);
    }
  });
  const ended = once(child, "close").then(([code, signal]) => code ?? signal);
  return { process: child, log, noise, ended };
}

/** What the agent answers to a GET; undefined while it does not. */
export async function askAgent<View>(socketPath: string, path: string): Promise<View | undefined> {
  try {
    // On a connection of its own, as each call of the program has: one that is kept would hold up an agent that ends.
    const asked = request({ socketPath, path, agent: false }).end();
    const [answer] = await once(asked, "response");
    const body = await text(answer);
    return answer.statusCode === 200 ? JSON.parse(body) : undefined;
  } catch {
    return undefined;
  }
}

async function podlane(main: string, ...words: string[]): Promise<Answer> {
  const child = spawn(process.execPath, [main, ...words], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, FORCE_COLOR: undefined },
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", text => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", text => {
    stderr += text;
  });
  const [status] = await once(child, "close");
  return { status, stdout, stderr };
}

export function ip(...words: string[]): string {
  return execFileSync("ip", words, { encoding: "utf8" });
}

const nodes = [1, 2]
  .map(
    number => `
apiVersion: v1
kind: Node
metadata: { name: node${number} }
spec: { podCIDRs: [10.244.${number}.0/24] }
status: { addresses: [{ type: InternalIP, address: 192.0.2.${number} }] }
`,
  )
  .join("---");
