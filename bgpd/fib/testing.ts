/** A network namespace of a test's own with two veth pairs, and a door to its kernel as the FIB and the tracker get it. */
import { execFileSync } from "node:child_process";
import { expect } from "vitest";
import { type KernelAccess, type KernelEvent, openKernel, watchKernel } from "../../kernel/index.ts";
import { parsePrefix } from "../../net/address.ts";
import type { Logger } from "../../platform/log.ts";

/** rtm_protocol of the routes that a test takes for ours. */
export const PROTOCOL = 201;

export const silent: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => silent };

let count = 0;

export class TestNamespace {
  readonly name: string;
  readonly #closers: (() => void)[] = [];

  /** Links v0 (10.0.0.1/24, 2001:db8::1/64) and v1 (10.0.1.1/24, 2001:db8:0:1::1/64), each with its peer p0, p1 up in the same namespace. */
  constructor() {
    this.name = `pl-${process.pid}-fib${count++}`;
    execFileSync("ip", ["netns", "add", this.name]);
    this.ip("link set lo up");
    for (const n of [0, 1]) {
      this.ip(`link add v${n} type veth peer name p${n}`);
      this.ip(`link set p${n} up`);
      this.ip(`link set v${n} up`);
      this.ip(`addr add 10.0.${n}.1/24 dev v${n}`);
      this.ip(`addr add 2001:db8:0:${n}::1/64 dev v${n} nodad`);
    }
  }

  /** Runs ip(8) in the namespace; `batch`: lines for `ip -batch`. */
  ip(args: string, batch?: string): string {
    const words = ["-n", this.name, ...args.split(" ").filter(word => word !== "")];
    return execFileSync("ip", words, { encoding: "utf8", input: batch, stdio: ["pipe", "pipe", "pipe"], maxBuffer: 1 << 26 });
  }

  /** Lines of `ip route show` without decoration; the same for IPv6 where `prefix` has a colon. */
  routes(prefix: string): string[] {
    const text = this.ip(`${prefix.includes(":") ? "-6" : "-4"} route show ${prefix}`);
    return text
      .replaceAll(/\n\t/g, " ")
      .replaceAll(/ (pref medium|dead|linkdown)/g, "")
      .split("\n")
      .map(line => line.replaceAll(/ +/g, " ").trim())
      .filter(line => line !== "")
      .sort();
  }

  /** `ownEvents`: whether the events of our own writes come as well. */
  kernel(ownEvents = false): KernelAccess {
    const kernel = openKernel({ netns: `/run/netns/${this.name}`, ownEvents });
    this.#closers.push(() => kernel.close());
    return kernel;
  }

  /** All events of routes of our protocol from now on. */
  record(): RouteEvent[] {
    const events: RouteEvent[] = [];
    const listener = (batch: KernelEvent[]) => events.push(...batch.filter(isOurRoute));
    const watch = watchKernel({ netns: `/run/netns/${this.name}`, topics: ["route"] }, listener);
    this.#closers.push(() => watch.close());
    return events;
  }

  ifindex(name: string): number {
    return JSON.parse(this.ip(`-j link show ${name}`))[0].ifindex;
  }

  remove(): void {
    for (const close of this.#closers.reverse()) close();
    execFileSync("ip", ["netns", "delete", this.name]);
  }
}

export type RouteEvent = Extract<KernelEvent, { type: "route" }>;

export function isOurRoute(event: KernelEvent): event is RouteEvent {
  return event.type === "route" && event.route.protocol === PROTOCOL;
}

/** Waits until `check` no longer throws, and fails with what it threw last. */
export async function eventually(check: () => void, timeout = 10_000): Promise<void> {
  await expect.poll(() => attempt(check), { timeout, interval: 10 }).toBe("done");
}

function attempt(check: () => void): string {
  try {
    check();
    return "done";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

export const prefix = parsePrefix;
