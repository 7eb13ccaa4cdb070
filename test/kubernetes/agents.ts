/** Agents as processes, each as in a pod of its own node, and each in a namespace whose loopback leads to a test's API server. Needs root. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { connect, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, startInCluster } from "../../bench/inside.ts";
import { listenSocket } from "../../kernel/index.ts";
import { parseAddress } from "../../net/address.ts";
import { TestNetwork } from "../network.ts";
import type { ApiServer } from "./api-server.ts";

const LOOPBACK = "127.0.0.1";
/** $PODLANE_MAIN: the bundle. */
const main = process.env.PODLANE_MAIN ?? join(import.meta.dirname, "../../cli/main.ts");

export class AgentProcesses {
  readonly #server: ApiServer;
  readonly #folder = mkdtempSync(join(tmpdir(), "podlane-agents-"));
  readonly #network = new TestNetwork();
  readonly #children = new Map<string, ChildProcess>();
  readonly #relays: Server[] = [];
  readonly #sockets = new Set<Socket>();

  constructor(server: ApiServer) {
    this.#server = server;
  }

  /** On a new node of this name. */
  async start(name: string): Promise<void> {
    const netns = this.#network.namespace(name);
    const address = `192.0.2.${this.#relays.length + 1}`;
    this.#network.addAddress(netns, "lo", `${address}/32`);
    const port = Number(new URL(this.#server.credentials().server).port);
    const listening = { netns: this.#network.path(netns), address: parseAddress(LOOPBACK), port };
    this.#relays.push(listenSocket(listening, near => this.#join(near, connect(port, LOOPBACK))).server);
    const node = { metadata: { name }, status: { addresses: [{ type: "InternalIP", address }] } };
    await create(this.#server, "/api/v1/nodes", node);
    const folder = join(this.#folder, name);
    mkdirSync(folder);
    const words = ["--node", name, "--state", join(folder, "state"), "--socket", join(folder, "agent.sock")];
    this.#children.set(name, await startInCluster(main, folder, this.#server, words, netns));
  }

  #join(...ends: [Socket, Socket]): void {
    ends.forEach((end, at) => {
      const other = ends[1 - at];
      this.#sockets.add(end);
      end.pipe(other);
      // A killed process resets its connections.
      end.on("error", () => {});
      end.on("close", () => {
        this.#sockets.delete(end);
        other.destroy();
      });
    });
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(node: string): Promise<void> {
    const child = this.#children.get(node);
    if (!child) throw new Error(`no agent runs on ${node}`);
    this.#children.delete(node);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#children.keys()].map(node => this.kill(node)));
    for (const relay of this.#relays) relay.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#network.dispose();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
