/**
 * The speaker under test in one namespace, raw peers in another on the same cable. Every neighbour is an address of 10.0.8.0/22 of its own,
 * so that the errors of one test are no other's. The speaker is AS 65001, 10.0.0.1 and 2001:db8::1.
 */
import { afterAll, beforeAll, expect, vi } from "vitest";
import type { NeighborConfig, SpeakerConfig } from "../../bgpd/config.ts";
import type { NeighborSnapshot, RouteView } from "../../bgpd/snapshot.ts";
import { neighbor, SpeakerProcess, speakerConfig } from "../interop/speaker.ts";
import { TestNetwork } from "../network.ts";
import { type OpenFields, open } from "./octets.ts";
import { RawPeer } from "./raw-peer.ts";

export const ASN = 65001;
export const US = "10.0.0.1";
const US6 = "2001:db8::1";
export const THEM6 = "2001:db8::2";

/** Reason for describe.skipIf; undefined = the tests can run. */
export const lacking = process.getuid?.() === 0 ? undefined : "network namespaces need root";

/** One neighbour of the speaker. */
export class Party {
  readonly name: string;
  readonly address: string;
  readonly asn: number;
  readonly #scene: Scene;
  readonly #peers: RawPeer[] = [];

  constructor(scene: Scene, number: number, asn: number) {
    this.#scene = scene;
    this.name = `n${number}`;
    this.address = `10.0.${8 + (number >> 8)}.${number & 255}`;
    this.asn = asn;
  }

  async connect(): Promise<RawPeer> {
    const peer = await RawPeer.connect(this.#scene.them, this.address, US);
    this.#peers.push(peer);
    return peer;
  }

  /** A valid OPEN of this neighbour; hold time 90. */
  open(fields: OpenFields = {}): Uint8Array {
    return open({ asn: this.asn, id: this.address, ...fields });
  }

  /** Connected and Established on both sides. */
  async establish(fields: OpenFields = {}): Promise<RawPeer> {
    const peer = await this.connect();
    await peer.establish(this.open(fields));
    await this.until(({ state }) => expect(state).toBe("Established"));
    return peer;
  }

  snapshot(): Promise<NeighborSnapshot> {
    return this.#scene.speaker.neighbor(this.name);
  }

  until(check: (snapshot: NeighborSnapshot) => void): Promise<void> {
    return vi.waitFor(async () => check(await this.snapshot()), { timeout: 10_000, interval: 10 });
  }

  /** The speaker's routes from this neighbour, by prefix, when all it sent so far is worked off. */
  async routes(): Promise<Map<string, RouteView>> {
    await this.#scene.speaker.settled();
    const { routes } = await this.#scene.speaker.routes({ neighbor: this.name, limit: 100_000 });
    return new Map(routes.map(route => [route.prefix, route]));
  }

  close(): void {
    for (const peer of this.#peers) peer.close();
  }
}

export class Scene {
  readonly network = new TestNetwork();
  readonly speaker: SpeakerProcess;
  /** Path of the namespace of the raw peers. */
  readonly them: string;
  /** Name of the speaker's namespace. */
  readonly us: string;
  #config: SpeakerConfig;
  #count = 0;

  constructor(change: Partial<SpeakerConfig> = {}) {
    this.us = this.network.namespace("us");
    const them = this.network.namespace("them");
    this.them = this.network.path(them);
    this.network.link(
      { namespace: this.us, device: "eth0", addresses: [`${US}/16`, `${US6}/64`] },
      { namespace: them, device: "eth0", addresses: ["10.0.0.2/16", `${THEM6}/64`] },
    );
    this.network.exec(them, "ip", "route", "add", "local", "10.0.8.0/22", "dev", "lo", "table", "local");
    const fib = { enabled: false, table: 254, protocol: 201, metric: 0 };
    this.#config = speakerConfig({ asn: ASN, routerId: US, neighbors: [], fib, startupWait: 1, ...change });
    this.speaker = new SpeakerProcess(this.us, this.#config);
  }

  /** A new neighbour, which waits for the peer unless told otherwise: AS 65002, everything allowed. */
  async party(change: Partial<NeighborConfig> = {}): Promise<Party> {
    const [party] = await this.parties(1, change);
    return party;
  }

  async parties(count: number, change: Partial<NeighborConfig> = {}): Promise<Party[]> {
    const remoteAsn = change.remoteAsn ?? 65002;
    const asn = remoteAsn === "internal" ? (change.localAsn ?? this.#config.asn) : remoteAsn === "external" ? 65002 : remoteAsn;
    const parties = Array.from({ length: count }, () => new Party(this, ++this.#count, asn));
    const neighbors = parties.map(({ name, address }) => neighbor({ name, address, remoteAsn, passive: true, holdTime: 90, ...change }));
    await this.apply({ neighbors: [...this.#config.neighbors, ...neighbors] });
    return parties;
  }

  async apply(change: Partial<SpeakerConfig>): Promise<void> {
    this.#config = { ...this.#config, ...change };
    await this.speaker.apply(this.#config);
  }

  get config(): SpeakerConfig {
    return this.#config;
  }

  async end(): Promise<void> {
    await this.speaker.kill();
    this.network.dispose();
  }
}

/** One speaker for all tests of a file. */
export function useScene(change: Partial<SpeakerConfig> = {}): { readonly scene: Scene } {
  const holder: { scene: Scene } = { scene: undefined as unknown as Scene };
  beforeAll(async () => {
    holder.scene = new Scene(change);
    await holder.scene.speaker.started;
  });
  afterAll(() => holder.scene?.end());
  return holder;
}
