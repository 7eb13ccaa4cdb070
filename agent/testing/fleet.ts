/** Some real agents in network namespaces on one switch, each with a configuration of its own, and pings between their pod subnets. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { askAgent, ip, type RunningAgent, startAgent } from "./agents.ts";

let made = 0;

/** Nodes are numbered from 1: node1 has 192.0.2.1, the pod subnet 10.244.1.0/24, and 10.244.1.1 on its loopback. */
export class Fleet {
  readonly #folder = mkdtempSync(join(tmpdir(), "podlane-fleet-"));
  readonly #id = `pl-${process.pid}-f${made++}`;
  readonly #agents = new Map<number, RunningAgent>();
  readonly #names: string[] = [];

  constructor(count: number) {
    this.#add("hub");
    ip("-n", this.#name("hub"), "link", "add", "br0", "up", "type", "bridge");
    for (let number = 1; number <= count; number++) {
      const name = this.#add(`n${number}`);
      ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", `p${number}`, "netns", this.#name("hub"));
      ip("-n", this.#name("hub"), "link", "set", `p${number}`, "master", "br0", "up");
      ip("-n", name, "address", "add", `192.0.2.${number}/24`, "dev", "eth0");
      ip("-n", name, "address", "add", `10.244.${number}.1/32`, "dev", "lo");
      for (const link of ["eth0", "lo"]) ip("-n", name, "link", "set", link, "up");
    }
  }

  /** One file of a node's configuration, at once. */
  write(number: number, file: string, content: string): void {
    const directory = this.#config(number);
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `.${file}`), content);
    renameSync(join(directory, `.${file}`), join(directory, file));
  }

  start(number: number): void {
    const own = ["--node", `node${number}`, "--config", this.#config(number), "--state", join(this.#folder, `state${number}`)];
    this.#agents.set(number, startAgent(this.#name(`n${number}`), [...own, "--socket", this.#socket(number)]));
  }

  /** What the agent answers; undefined while it does not. */
  ask<View>(number: number, path: string): Promise<View | undefined> {
    return askAgent<View>(this.#socket(number), path);
  }

  /** Pings from one node's loopback to another's, a hundred in a second. */
  ping(from: number, to: number): { stop(): Promise<{ sent: number; lost: number }> } {
    const words = ["netns", "exec", this.#name(`n${from}`), "ping", "-q", "-i", "0.01", "-I", `10.244.${from}.1`, `10.244.${to}.1`];
    const child = spawn("ip", words, { stdio: ["ignore", "pipe", "pipe"] });
    const told = text(child.stdout);
    const ended = once(child, "close");
    return {
      stop: async () => {
        child.kill("SIGINT");
        await ended;
        const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(await told) ?? [];
        return { sent: Number(sent), lost: Number(sent) - Number(received) };
      },
    };
  }

  async close(): Promise<void> {
    for (const { process: child } of this.#agents.values()) child.kill("SIGKILL");
    await Promise.all([...this.#agents.values()].map(one => one.ended));
    for (const name of this.#names) ip("netns", "delete", name);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #name(part: string): string {
    return `${this.#id}${part}`;
  }

  #add(part: string): string {
    ip("netns", "add", this.#name(part));
    this.#names.push(this.#name(part));
    return this.#name(part);
  }

  #config(number: number): string {
    return join(this.#folder, `config${number}`);
  }

  #socket(number: number): string {
    return join(this.#folder, `run${number}.sock`);
  }
}
