/** Test support: whole speakers that talk over wires in memory, on one fake clock: hours of timers pass in milliseconds. */
import type { KernelAccess } from "../../kernel/index.ts";
import { addressToUint32, formatAddress, parseAddress, sameOctets } from "../../net/address.ts";
import type { NeighborConfig, NeighborFamilyConfig, NetworkConfig, SpeakerConfig } from "../config.ts";
import type { Tunnels } from "../fib/types.ts";
import { KEEPALIVE } from "../message/keepalive.ts";
import { encodeOpen, type LocalCapabilities } from "../message/open.ts";
import type { RoutePlaces } from "../platform.ts";
import type { ListenerNeighbor } from "../session/listener.ts";
import { MemoryEnd, MemoryLog, MemoryNetwork, neighborConfig, RawPeer } from "../session/testing.ts";
import type { NeighborSnapshot } from "../snapshot.ts";
import { type Doors, Speaker, type SpeakerEvent } from "../speaker.ts";
import { FakeClock } from "./fake-clock.ts";
import type { Recorder } from "./recording.ts";

export class MemoryWorld {
  readonly clock = new FakeClock();
  readonly network = new MemoryNetwork(this.clock);
  readonly #ends: MemoryEnd[] = [];
  readonly #speakers: MemorySpeaker[] = [];

  /** The speaker at this address; its BGP Identifier is the address as well. */
  speaker(
    address: string,
    change: Partial<SpeakerConfig> = {},
    kernel?: KernelAccess,
    places?: RoutePlaces,
    recorder?: Recorder,
    tunnels?: Tunnels,
  ): MemorySpeaker {
    const speaker = new MemorySpeaker(this, address, change, kernel, places, recorder, tunnels);
    this.#speakers.push(speaker);
    return speaker;
  }

  /**
   * A neighbour made of octets at this address: takes every connection and answers with OPEN (hold time 0) and KEEPALIVE. Returns its
   * connections, the oldest first.
   */
  rawPeer(address: string, asn: number, capabilities: Partial<LocalCapabilities> = {}): RawPeer[] {
    const connections: RawPeer[] = [];
    const announced = { families: ["ipv4-unicast" as const], fourOctetAsn: true, routeRefresh: true, ...capabilities };
    this.network.listen(parseAddress(address), incoming => {
      if (incoming instanceof MemoryEnd) this.accepted(incoming);
      const peer = new RawPeer();
      peer.wire = incoming.attach(peer);
      peer.wire.write(encodeOpen({ asn, holdTime: 0, bgpId: addressToUint32(parseAddress(address)), capabilities: announced }));
      peer.wire.write(KEEPALIVE.slice());
      connections.push(peer);
    });
    return connections;
  }

  /** Lets so much fake time pass, and all speakers do what they have to. */
  async run(seconds: number): Promise<void> {
    const end = this.clock.monotonic() + seconds * 1000;
    for (;;) {
      // The RIB works in turns of the event loop, not of the clock.
      for (let n = 0; n < 3; n++) await new Promise(resolve => setImmediate(resolve));
      if (this.clock.monotonic() >= end) return;
      this.clock.advance(Math.min(this.clock.next ?? Number.POSITIVE_INFINITY, end - this.clock.monotonic()));
    }
  }

  /** What is to be seen a second later: for expect.poll, where a real kernel takes part. */
  async later<T>(look: () => T): Promise<T> {
    await this.run(1);
    return look();
  }

  accepted(end: MemoryEnd): void {
    this.#ends.push(end);
  }

  /** Every TCP connection to this address, or from it, breaks without a word. */
  cut(address: string): void {
    const octets = parseAddress(address);
    for (const end of this.#ends) {
      if (!sameOctets(end.local.address, octets) && !sameOctets(end.remote.address, octets)) continue;
      end.peer?.lose("connection reset");
      end.lose("connection reset");
    }
  }

  async close(): Promise<void> {
    const closing = this.#speakers.map(({ speaker }) => speaker.close({ graceful: true, flush: true }));
    await this.run(1);
    await Promise.all(closing);
  }
}

export class MemorySpeaker {
  readonly speaker: Speaker;
  readonly events: SpeakerEvent[] = [];
  readonly log = new MemoryLog();
  readonly address: string;
  config: SpeakerConfig;

  readonly #recorder: Recorder | undefined;

  constructor(
    world: MemoryWorld,
    address: string,
    change: Partial<SpeakerConfig>,
    kernel?: KernelAccess,
    places?: RoutePlaces,
    recorder?: Recorder,
    tunnels?: Tunnels,
  ) {
    this.#recorder = recorder;
    this.address = address;
    const own = parseAddress(address);
    this.config = { ...emptyConfig(address), ...change };
    const platform = { clock: world.clock, log: this.log, kernel, places, tunnels };
    const doors: Doors = {
      transport: ({ config }) => world.network.transport(own, parseAddress(config.address)),
      listener: ({ port }) => {
        let neighbors: readonly ListenerNeighbor[] = [];
        return {
          listening: [{ address, port }],
          problems: () => [],
          setNeighbors: list => {
            neighbors = list;
          },
          start: () =>
            world.network.listen(own, wire => {
              if (wire instanceof MemoryEnd) world.accepted(wire);
              const from = neighbors.find(({ config }) => sameOctets(parseAddress(config.address), wire.remote.address));
              if (from) from.session.accept(wire);
              else void wire.refuse(new Uint8Array());
            }),
          close: async () => {
            neighbors = [];
          },
        };
      },
    };
    this.speaker = new Speaker(recorder?.platform(platform) ?? platform, recorder?.doors(doors) ?? doors);
    this.speaker.on(event => this.events.push(event));
  }

  /** Applies the present configuration with this change; returns the report, one line per action. */
  apply(change: Partial<SpeakerConfig> = {}): string[] {
    this.config = { ...this.config, ...change };
    this.#recorder?.apply(this.config);
    return this.speaker.apply(structuredClone(this.config)).actions.map(({ neighbor, action, text }) => `${neighbor}: ${action}: ${text}`);
  }

  changeNetworks(changes: ReadonlyMap<string, NetworkConfig | undefined>): void {
    this.#recorder?.changeNetworks(changes);
    this.speaker.changeNetworks(changes);
  }

  neighbor(name: string): NeighborSnapshot {
    const found = this.speaker.snapshot().neighbors.find(neighbor => neighbor.name === name);
    if (!found) throw new Error(`no neighbour ${name}`);
    return found;
  }

  /** Prefixes with a best route, and whom it is from. */
  get best(): Record<string, string> {
    const { routes } = this.speaker.routesNow();
    return Object.fromEntries(routes.filter(route => route.best).map(route => [route.prefix, route.from]));
  }
}

export const accepting: NeighborFamilyConfig = {
  importPolicies: [],
  exportPolicies: [],
  importDefault: "accept",
  exportDefault: "accept",
  prefixLimit: 0,
  prefixWarning: 80,
  nextHopSelf: false,
  allowAsIn: 0,
};

/** A neighbour named after its address that takes and gives everything. */
export function neighborAt(address: string, remoteAsn: number, change: Partial<NeighborConfig> = {}): NeighborConfig {
  return neighborConfig({ name: address, address, remoteAsn, families: { "ipv4-unicast": accepting }, ...change });
}

export function network(prefix: string, change: Partial<NetworkConfig> = {}): NetworkConfig {
  return { prefix, kind: "static", source: `Advertisement/${prefix}`, discard: false, ...change };
}

function emptyConfig(address: string): SpeakerConfig {
  return {
    asn: 65000,
    routerId: formatAddress(parseAddress(address)),
    listen: { port: 179 },
    neighbors: [],
    policies: {},
    networks: [],
    multipath: { ebgp: 1, ibgp: 1, asPathRelax: false },
    decision: { alwaysCompareMed: false, preferOldest: false },
    fib: { enabled: false, table: 254, protocol: 201, metric: 0 },
    protectedPrefixes: [],
    startupWait: 60,
  };
}
