/**
 * What an interop test begins with: our speaker in one namespace and daemons in others on one switch, everything ended and removed with the
 * test, however it ends. We are 10.0.0.1 and 2001:db8::1; daemon number n (from 2 on) is 10.0.0.n and 2001:db8::n.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { expect, type TestContext, vi } from "vitest";
import type { NeighborConfig, SpeakerConfig } from "../../bgpd/config.ts";
import type { Family } from "../../bgpd/family.ts";
import { RTPROT_PODLANE } from "../../kernel/constants.ts";
import { missing } from "../neighbours.ts";
import { TestNetwork } from "../network.ts";
import type { Daemon, DaemonKind, DaemonPlan } from "./daemons.ts";
import { bothFamilies, neighbor, openFamily, SpeakerProcess, speakerConfig } from "./speaker.ts";

export const US = "10.0.0.1";
export const US6 = "2001:db8::1";

export interface KernelRoute {
  dst: string;
  type?: string;
  gateway?: string;
  dev?: string;
  nexthops?: { gateway: string; dev: string; weight?: number }[];
}

/** Reason for describe.skipIf and for the title; undefined = the test can run. */
export function lacking(...kinds: DaemonKind[]): string | undefined {
  return kinds.map(kind => missing(kind.name)).find(reason => reason !== undefined);
}

export function until<T>(check: () => T | Promise<T>, timeout = 20_000): Promise<T> {
  return vi.waitFor(check, { timeout, interval: 50 });
}

export class Scene {
  readonly network = new TestNetwork();
  readonly us: string;
  readonly #ends: (() => Promise<unknown>)[] = [];
  readonly #switch: string;

  /** Ends with the test; the context makes that work for concurrent tests too. */
  constructor(context: Pick<TestContext, "onTestFinished">) {
    this.us = this.network.namespace("us");
    this.#switch = this.network.bridge("sw", []);
    this.#plug(this.us, 1);
    context.onTestFinished(async () => {
      await Promise.allSettled(this.#ends.splice(0).map(end => end()));
      this.network.dispose();
    });
  }

  /** A namespace on the switch for host number n. */
  host(n: number): string {
    const namespace = this.network.namespace(`h${n}`);
    this.#plug(namespace, n);
    return namespace;
  }

  /** `plan` without addresses: those follow from n. */
  async daemon(
    kind: DaemonKind,
    n: number,
    plan: Omit<DaemonPlan, "address" | "address6">,
  ): Promise<{ daemon: Daemon; namespace: string }> {
    const namespace = this.host(n);
    const peers = kind.sessionPerFamily
      ? plan.peers.flatMap(peer => [peer, { ...peer, address: peer.address.replace("10.0.0.", "2001:db8::") }])
      : plan.peers;
    const starting = kind.start(namespace, { ...plan, peers, address: `10.0.0.${n}`, address6: `2001:db8::${n}` });
    // Also where the test fails while it still starts.
    this.#ends.push(() => starting.then(daemon => daemon.process.stop()));
    return { daemon: await starting, namespace };
  }

  async speaker(config: SpeakerConfig): Promise<SpeakerProcess> {
    const speaker = new SpeakerProcess(this.us, config);
    this.#ends.push(() => speaker.stop());
    await speaker.started;
    return speaker;
  }

  /** What the kernel has of ours in a namespace (or of another protocol), by prefix in the form of `ip`. */
  routes(namespace = this.us, protocol: number | string = RTPROT_PODLANE): Map<string, KernelRoute> {
    const list = (family: string) =>
      JSON.parse(this.network.exec(namespace, "ip", "-j", family, "route", "show", "proto", String(protocol)) || "[]") as KernelRoute[];
    return new Map([...list("-4"), ...list("-6")].map(route => [route.dst, route]));
  }

  /** Lines of `ip monitor route` in a namespace from now on. */
  async watchRoutes(namespace: string): Promise<() => string[]> {
    const child: ChildProcess = spawn("ip", ["-n", namespace, "monitor", "route"], { stdio: ["ignore", "pipe", "ignore"] });
    this.#ends.push(async () => child.kill("SIGKILL"));
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString("utf8");
    });
    const lines = () => {
      if (child.exitCode !== null) throw new Error(`ip monitor in ${namespace} ended with ${child.exitCode}`);
      return text.split("\n").filter(line => line !== "");
    };
    // A route of our own shows when it listens.
    const probe = "192.0.2.255";
    await until(() => {
      this.network.exec(namespace, "ip", "route", "add", "blackhole", probe, "proto", "static");
      this.network.exec(namespace, "ip", "route", "delete", "blackhole", probe, "proto", "static");
      expect(lines()).not.toEqual([]);
    });
    return () => lines().filter(line => !line.includes(probe));
  }

  #plug(namespace: string, n: number): void {
    const port = { namespace: this.#switch, device: `port${n}` };
    this.network.link({ namespace, device: "eth0", addresses: [`10.0.0.${n}/24`, `2001:db8::${n}/64`] }, port);
    this.network.exec(this.#switch, "ip", "link", "set", port.device, "master", "br0");
  }
}

export interface Pairing {
  ourAsn?: number;
  theirAsn?: number;
  ours?: Partial<NeighborConfig>;
  config?: Partial<SpeakerConfig>;
  theirs?: Partial<Omit<DaemonPlan, "address" | "address6">>;
  /** Of the daemon's neighbour towards us. */
  theirPeer?: Partial<DaemonPlan["peers"][number]>;
}

/** Our configuration for one daemon that is host 2: neighbour "them", and "them6" where it wants a session for each family. */
function oursFor(kind: DaemonKind, { ourAsn = 65001, theirAsn = 65002, ours, config }: Pairing = {}): SpeakerConfig {
  const common = { families: bothFamilies, remoteAsn: theirAsn, ...ours };
  const only = (family: Family) => ({ families: { [family]: common.families[family] ?? openFamily } });
  const neighbors = kind.sessionPerFamily
    ? [
        neighbor({ address: "10.0.0.2", ...common, ...only("ipv4-unicast") }),
        neighbor({ address: "2001:db8::2", ...common, name: "them6", ...only("ipv6-unicast") }),
      ]
    : [neighbor({ address: "10.0.0.2", ...common })];
  return speakerConfig({ asn: ourAsn, routerId: US, neighbors, ...config });
}

/** Both sides of one daemon, started at the same time; sessions are not awaited. */
export async function pair(context: Pick<TestContext, "onTestFinished">, kind: DaemonKind, pairing: Pairing = {}) {
  const scene = new Scene(context);
  const { ourAsn = 65001, theirAsn = 65002, theirs, theirPeer } = pairing;
  const config = oursFor(kind, pairing);
  const plan = { asn: theirAsn, peers: [{ address: US, asn: ourAsn, ...theirPeer }], ...theirs };
  const [{ daemon, namespace }, speaker] = await Promise.all([scene.daemon(kind, 2, plan), scene.speaker(config)]);
  return { scene, speaker, daemon, config, them: namespace };
}

/** All sessions of ours are up. */
export function up(speaker: SpeakerProcess, timeout?: number): Promise<void> {
  return until(async () => {
    const { neighbors } = await speaker.snapshot();
    expect(neighbors.map(each => `${each.name} ${each.state} ${each.reason}`)).toEqual(
      neighbors.map(each => expect.stringContaining(`${each.name} Established`)),
    );
  }, timeout);
}
