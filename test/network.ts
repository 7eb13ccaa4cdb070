/**
 * Namespaces, cables and switches for one test: names that no other test has, and nothing left behind, also after a failure or a crash
 * of the test process. Needs root; uses iproute2.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

/** One end of a cable. */
export interface Attachment {
  namespace: string;
  /** Name of the device there, at most 15 characters. */
  device: string;
  /** With prefix length: "10.0.0.1/24", "2001:db8::1/64". IPv6 addresses are usable at once. */
  addresses?: string[];
}

const PREFIX = "plt";
let sequence = 0;
let prepared = false;
const alive = new Set<TestNetwork>();

/** `using network = new TestNetwork()` or dispose() in afterAll. */
export class TestNetwork implements Disposable {
  readonly #id = `${PREFIX}-${process.pid}-${sequence++}`;
  readonly #namespaces = new Set<string>();

  constructor() {
    if (!prepared) prepare();
    alive.add(this);
  }

  /** A new namespace with its loopback up; returns its name for the other methods. */
  namespace(label: string): string {
    const name = `${this.#id}-${label}`;
    ip("netns", "add", name);
    this.#namespaces.add(name);
    ip("-n", name, "link", "set", "lo", "up");
    return name;
  }

  /** For kernel/'s and the session's `netns` options. */
  path(namespace: string): string {
    return `/run/netns/${namespace}`;
  }

  /** A cable between two namespaces, both ends up. */
  link(a: Attachment, b: Attachment): void {
    ip("-n", a.namespace, "link", "add", a.device, "type", "veth", "peer", "name", b.device, "netns", b.namespace);
    for (const end of [a, b]) this.#bringUp(end);
  }

  /** A switch: a bridge in a namespace of its own with a cable to each of `ends`. Returns the namespace of the bridge. */
  bridge(label: string, ends: Attachment[]): string {
    const namespace = this.namespace(label);
    ip("-n", namespace, "link", "add", "br0", "type", "bridge", "forward_delay", "0");
    ip("-n", namespace, "link", "set", "br0", "up");
    ends.forEach((end, port) => {
      this.link(end, { namespace, device: `port${port}` });
      ip("-n", namespace, "link", "set", `port${port}`, "master", "br0");
    });
    return namespace;
  }

  addAddress(namespace: string, device: string, address: string): void {
    ip("-n", namespace, "address", "add", address, "dev", device, ...(address.includes(":") ? ["nodad"] : []));
  }

  /** Runs a program there and returns what it printed. Throws when it fails. */
  exec(namespace: string, program: string, ...args: string[]): string {
    const all = ["netns", "exec", namespace, program, ...args];
    // Room for a table of many thousand routes.
    return execFileSync("ip", all, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 64 * 1024 * 1024 });
  }

  /** Deletes the namespaces with all that is in them. Processes that still run there keep theirs until they end. */
  dispose(): void {
    for (const name of this.#namespaces) {
      try {
        ip("netns", "delete", name);
      } catch {
        // It is gone already.
      }
    }
    this.#namespaces.clear();
    alive.delete(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #bringUp({ namespace, device, addresses = [] }: Attachment): void {
    // A second, generated link-local address would become the source of connections as soon as its duplicate detection has ended.
    if (addresses.some(address => address.startsWith("fe80:"))) ip("-n", namespace, "link", "set", device, "addrgenmode", "none");
    for (const address of addresses) this.addAddress(namespace, device, address);
    ip("-n", namespace, "link", "set", device, "up");
  }
}

function prepare(): void {
  prepared = true;
  sweep();
  process.once("exit", () => {
    for (const network of alive) network.dispose();
  });
}

function ip(...args: string[]): string {
  try {
    return execFileSync("ip", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    throw new Error(`ip ${args.join(" ")}: ${(error as { stderr?: string }).stderr?.trim() || (error as Error).message}`, { cause: error });
  }
}

/** Namespaces of test processes that were killed before they could clean up. */
function sweep(): void {
  for (const line of ip("netns", "list").split("\n")) {
    const [name] = line.split(" ");
    const owner = new RegExp(`^${PREFIX}-(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    try {
      ip("netns", "delete", name);
    } catch {
      // Another test process was faster.
    }
  }
}
