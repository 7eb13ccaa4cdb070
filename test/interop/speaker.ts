/** Drives speaker-process.ts: starts it in a namespace, asks it, stops it in every way; and configurations to begin a test with. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { NeighborConfig, NeighborFamilyConfig, NetworkConfig, SpeakerConfig } from "../../bgpd/config.ts";
import type { Family } from "../../bgpd/family.ts";
import type { NeighborSnapshot, RouteView } from "../../bgpd/snapshot.ts";
import { RTPROT_PODLANE } from "../../kernel/constants.ts";
import type { Answer, Methods } from "./speaker-process.ts";

type Call<M extends keyof Methods> = (...params: Parameters<Methods[M]>) => Promise<Awaited<ReturnType<Methods[M]>>>;

/** Milliseconds within which every request is answered. */
const ANSWER_LIMIT = 40_000;
const MAX_LOG = 256 * 1024;

export class SpeakerProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #serial = 0;
  #log = "";

  constructor(namespace: string, config: SpeakerConfig) {
    const program = fileURLToPath(new URL("speaker-process.ts", import.meta.url));
    // "ip netns exec" becomes node: signals reach it. It ends with its stdin, thus also with a killed test.
    this.#child = spawn("ip", ["netns", "exec", namespace, process.execPath, program], { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#log = (this.#log + chunk.toString("utf8")).slice(-MAX_LOG);
    });
    this.#ended = new Promise(resolve => this.#child.once("close", () => resolve()));
    void this.#ended.then(() => {
      for (const [id, answer] of this.#waiting) answer({ id, error: `the speaker has ended:\n${this.#log}` });
    });
    this.#child.stdin?.on("error", () => {});
    createInterface({ input: this.#child.stdout! }).on("line", line => {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.id)?.(answer);
    });
    this.started = this.apply(config).then(() => {});
    // Who awaits it hears of the failure; who does not must not lose the test process by it.
    this.started.catch(() => {});
  }

  /** The first configuration is applied. */
  readonly started: Promise<void>;

  apply: Call<"apply"> = (...params) => this.#ask("apply", params);
  changeNetworks: Call<"changeNetworks"> = (...params) => this.#ask("changeNetworks", params);
  snapshot: Call<"snapshot"> = () => this.#ask("snapshot", []);
  routes: Call<"routes"> = (...params) => this.#ask("routes", params);
  explain: Call<"explain"> = (...params) => this.#ask("explain", params);
  problems: Call<"problems"> = () => this.#ask("problems", []);
  adjRibOut: Call<"adjRibOut"> = (...params) => this.#ask("adjRibOut", params);
  refresh: Call<"refresh"> = (...params) => this.#ask("refresh", params);
  settled: Call<"settled"> = () => this.#ask("settled", []);

  async neighbor(name: string): Promise<NeighborSnapshot> {
    const found = (await this.snapshot()).neighbors.find(neighbor => neighbor.name === name);
    if (!found) throw new Error(`no neighbour ${name}`);
    return found;
  }

  /** The one path of a prefix; undefined = none. */
  async route(prefix: string): Promise<RouteView | undefined> {
    const { routes } = await this.routes({ prefix });
    const exact = routes.filter(route => route.prefix === prefix);
    if (exact.length > 1) throw new Error(`${prefix} has ${exact.length} paths`);
    return exact[0];
  }

  log(): string {
    return this.#log;
  }

  /** It holds its connections but says nothing more. */
  freeze(): void {
    this.#child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child.kill("SIGCONT");
  }

  /** kill -9. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  /** Ends in peace as an agent with --on-stop keep does: no Cease, the kernel routes stay. */
  async leave(): Promise<void> {
    await this.#ask("close", [{ graceful: false, flush: false }]);
    await this.kill();
  }

  /** Ends sessions with Cease and removes the kernel routes. */
  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.thaw();
      await this.#ask("close", [{ graceful: true, flush: true }]).catch(() => {});
    }
    await this.kill();
  }

  #ask<M extends keyof Methods>(method: M, params: unknown[]): Promise<Awaited<ReturnType<Methods[M]>>> {
    const id = this.#serial++;
    return new Promise((resolve, reject) => {
      const give = (answer: Answer) => {
        clearTimeout(limit);
        this.#waiting.delete(id);
        if (answer.error === undefined) resolve(answer.result as Awaited<ReturnType<Methods[M]>>);
        else reject(new Error(`${method}: ${answer.error}`));
      };
      const limit = setTimeout(() => give({ id, error: `no answer within ${ANSWER_LIMIT} ms:\n${this.#log}` }), ANSWER_LIMIT);
      this.#waiting.set(id, give);
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) give({ id, error: `the speaker has ended:\n${this.#log}` });
      else this.#child.stdin?.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }
}

/** Everything in both directions, for both families. */
export const openFamily: NeighborFamilyConfig = {
  importPolicies: [],
  exportPolicies: [],
  importDefault: "accept",
  exportDefault: "accept",
  prefixLimit: 0,
  prefixWarning: 0,
  nextHopSelf: false,
  allowAsIn: 0,
};

export const bothFamilies: Partial<Record<Family, NeighborFamilyConfig>> = { "ipv4-unicast": openFamily, "ipv6-unicast": openFamily };

export function neighbor(change: Partial<NeighborConfig> & Pick<NeighborConfig, "address" | "remoteAsn">): NeighborConfig {
  return {
    name: "them",
    port: 179,
    passive: false,
    holdTime: 9,
    keepaliveTime: 0,
    connectRetryTime: 1,
    advertisementInterval: 0,
    routeReflectorClient: false,
    families: bothFamilies,
    ...change,
  };
}

export function network(prefix: string, attributes: NetworkConfig["attributes"] = {}): NetworkConfig {
  return { prefix, kind: "static", source: `Advertisement/${prefix}`, attributes, discard: false };
}

export function speakerConfig(change: Partial<SpeakerConfig> & Pick<SpeakerConfig, "asn" | "routerId" | "neighbors">): SpeakerConfig {
  return {
    listen: { port: 179 },
    policies: {},
    networks: [],
    multipath: { ebgp: 8, ibgp: 8, asPathRelax: false },
    decision: { alwaysCompareMed: false, preferOldest: false },
    fib: { enabled: true, table: 254, protocol: RTPROT_PODLANE, metric: 0 },
    protectedPrefixes: [],
    startupWait: 5,
    ...change,
  };
}
