/** Test support: neighbours in memory around a real RIB. What they announce goes through codec and import, and what they hear is decoded into a table. */
import { formatPrefix, type Prefix, parseAddress, parsePrefix } from "../../net/address.ts";
import type { OriginRole, PolicyConfig } from "../config.ts";
import { classicFamily, Families, type Family, type FamilyIndex, FamilyIndexes, FamilyTable, forwardingFamily } from "../family.ts";
import type { Fib, NextHopTracker, Resolution } from "../fib/types.ts";
import { buildAttributes, parseAttributes } from "../message/attributes.ts";
import { Origin, type PathAttributes, SegmentType } from "../message/types.ts";
import { UpdateDecoder } from "../message/update-decoder.ts";
import { UpdateWriter } from "../message/update-writer.ts";
import { compilePolicies } from "../policy/index.ts";
import type { CompiledPolicy } from "../policy/types.ts";
import { wordsOf } from "../table/prefix-table.ts";
import { FakeClock } from "../testing/fake-clock.ts";
import type { ExportRules } from "./exporter.ts";
import { Rib, type RibGlobals } from "./rib.ts";
import type { Excess, ImportRules, Slot } from "./slots.ts";
import type { GroupOptions, GroupSink } from "./update-group.ts";

export interface NeighborOptions {
  address?: string;
  external?: boolean;
  origin?: OriginRole;
  client?: boolean;
  routerId?: number;
  ifindex?: number;
  imports?: Partial<ImportRules>;
  attributeOctetsLimit?: number;
  /** false: it only feeds. */
  listens?: boolean;
  rules?: Partial<ExportRules>;
  /** Neighbours with the same group hear the same. */
  group?: string;
  options?: Partial<GroupOptions>;
}

export const LOCAL_ASN = 65000;

export function policyOf(rules: PolicyConfig["rules"], last: "accept" | "reject" = "accept"): CompiledPolicy {
  return compilePolicies({ names: ["p"], policies: { p: { rules } }, default: { action: last, text: `default: ${last}` } });
}

const acceptAll = compilePolicies({ names: [], policies: {}, default: { action: "accept", text: "default: accept" } });
export const rejectAll = compilePolicies({ names: [], policies: {}, default: { action: "reject", text: "default: reject" } });

/** An attribute set with defaults for what a test does not care about. */
export function attributes(
  change: Partial<Omit<PathAttributes, "asPath" | "nextHop">> & { path?: number[]; nextHop?: string } = {},
): PathAttributes {
  const { path = [65001], nextHop = "192.0.2.1", ...rest } = change;
  return {
    origin: Origin.Igp,
    asPath: path.length === 0 ? [] : [{ type: SegmentType.AsSequence, asns: path }],
    nextHop: parseAddress(nextHop),
    ...rest,
  };
}

export class TestRib {
  readonly clock = new FakeClock();
  readonly rib: Rib;
  #indexes = 0;

  constructor(options: { tracker?: NextHopTracker; fib?: Fib } = {}) {
    this.rib = new Rib({ clock: this.clock, ...options });
    this.configure();
  }

  configure(change: Partial<RibGlobals> = {}): void {
    this.rib.configure({
      asn: LOCAL_ASN,
      routerId: 0x0a000001,
      clusterId: 0x0a000001,
      decision: { alwaysCompareMed: false, preferOldest: false },
      multipath: { ebgp: 1, ibgp: 1, asPathRelax: false },
      protectedPrefixes: [],
      ...change,
    });
  }

  neighbor(options: NeighborOptions = {}): TestNeighbor {
    return new TestNeighbor(this, this.#indexes++, options);
  }

  settled(): Promise<void> {
    return this.rib.settled();
  }

  /** Text of all prefixes in the table of a family. */
  prefixes(family = classicFamily): string[] {
    const table = this.rib.tables[family];
    const ids = Array.from({ length: table.prefixes.limit }, (_, id) => id).filter(id => table.head[id] !== 0);
    return ids.map(id => formatPrefix(table.prefixes.prefix(id))).sort();
  }

  /** Name of the neighbour whose path is best. */
  best(prefix: string): string | undefined {
    const table = this.rib.tables[forwardingFamily(prefix.includes(":") ? 6 : 4)];
    const path = table.best[table.prefixes.findPrefix(parsePrefix(prefix))];
    return path === 0 ? undefined : (this.rib.slots.get(table.pathSlot[path])?.neighbor ?? "local");
  }
}

export class TestNeighbor implements GroupSink {
  readonly test: TestRib;
  readonly neighbor: string;
  readonly neighborIndex: number;
  readonly address: Uint8Array;
  readonly options: NeighborOptions;
  writable = true;
  restarting = false;
  /** It takes this many more sends, then its socket is full. */
  room = Number.POSITIVE_INFINITY;
  slot: Slot;
  /** What it has from us, by prefix text. */
  readonly table = new Map<string, PathAttributes>();
  readonly endOfRibs: Family[] = [];
  /** Prefixes of each UPDATE that came, "-" in front of withdrawn ones. */
  updates: string[][] = [];

  constructor(test: TestRib, index: number, options: NeighborOptions) {
    this.test = test;
    this.neighbor = `n${index}`;
    this.neighborIndex = index;
    this.address = parseAddress(options.address ?? `10.0.0.${index + 10}`);
    this.options = options;
    this.slot = this.#connect();
  }

  /** The session is lost. */
  down(keepStale = false): void {
    for (const family of FamilyIndexes) this.test.rib.leave(family, this.neighborIndex);
    this.test.rib.closeSlot(this.slot, keepStale);
    this.table.clear();
  }

  /** And comes back. */
  up(): void {
    const former = this.slot;
    this.slot = this.#connect();
    if (former.state === "stale" && this.test.rib.slots.has(former)) this.slot.staleSlot = former.id;
  }

  announce(set: PathAttributes, ...prefixes: string[]): Excess | undefined {
    const octets = buildAttributes(set);
    return this.#feed(prefixes, (writer, family) => writer.announce(family, octets, 0, octets.length));
  }

  withdraw(...prefixes: string[]): Excess | undefined {
    return this.#feed(prefixes, (writer, family) => writer.withdraw(family));
  }

  /** One UPDATE as it came from the wire; returns what Rib.update() says. */
  receive(message: Uint8Array): Excess | undefined {
    const decoder = new UpdateDecoder({ fourOctetAsn: true, internal: !this.#external, families: Families });
    decoder.decode(message);
    return this.test.rib.update(this.slot, message, decoder);
  }

  join(endOfRib = true): void {
    for (const family of FamilyIndexes) {
      this.test.rib.join(family, this.#key(), () => this.rules(family), this.#groupOptions(), this, endOfRib);
    }
  }

  move(change: Pick<NeighborOptions, "rules" | "group">): void {
    Object.assign(this.options, change);
    for (const family of FamilyIndexes) {
      this.test.rib.move(family, this.#key(), () => this.rules(family), this.#groupOptions(), this, this.neighborIndex);
    }
  }

  send(messages: Uint8Array): void {
    if (--this.room <= 0) this.writable = false;
    const decoder = new UpdateDecoder({ fourOctetAsn: true, internal: !this.#external, families: Families });
    for (const message of split(messages)) {
      decoder.decode(message);
      if (decoder.problems.length > 0) throw new Error(`malformed: ${decoder.problems[0].name}: ${decoder.problems[0].text}`);
      if (decoder.endOfRib !== undefined) {
        this.endOfRibs.push(FamilyTable[decoder.endOfRib].name);
        continue;
      }
      const seen: string[] = [];
      for (let i = 0; i < decoder.withdrawnCount; i++) {
        for (const prefix of prefixesOf(message, decoder.withdrawnFamily[i], decoder.withdrawnStart[i], decoder.withdrawnEnd[i])) {
          this.table.delete(prefix);
          seen.push(`-${prefix}`);
        }
      }
      for (let i = 0; i < decoder.announcedCount; i++) {
        decoder.canonical(i);
        const set = parseAttributes(decoder.octets.slice(0, decoder.octetsLength), 0, decoder.octetsLength);
        for (const prefix of prefixesOf(message, decoder.announcedFamily[i], decoder.announcedStart[i], decoder.announcedEnd[i])) {
          this.table.set(prefix, set);
          seen.push(prefix);
        }
      }
      this.updates.push(seen);
    }
  }

  /** The socket takes data again. */
  unblock(): void {
    this.room = Number.POSITIVE_INFINITY;
    this.writable = true;
    this.test.rib.kick();
  }

  get #external(): boolean {
    return this.options.external ?? true;
  }

  rules(family: FamilyIndex): ExportRules {
    return {
      policy: acceptAll,
      internal: !this.#external,
      client: this.options.client ?? false,
      localAsn: LOCAL_ASN,
      clusterId: this.test.rib.context.clusterId,
      selfNextHop: parseAddress(family === forwardingFamily(4) ? "10.0.0.1" : "2001:db8::1"),
      nextHopSelf: false,
      removePrivateAsn: false,
      allowAsSets: false,
      neighbor: this.neighbor,
      mayHear: () => true,
      onSharedSubnet: () => false,
      ...this.options.rules,
    };
  }

  #key(): string {
    return this.options.group ?? `${this.#external ? "external" : "internal"}${this.options.client ? " client" : ""}`;
  }

  #groupOptions(): GroupOptions {
    return { fourOctetAsn: true, maxMessageLength: 4096, advertisementInterval: 0, ...this.options.options };
  }

  #connect(): Slot {
    const { imports, client = false, routerId = 0x0a000100 + this.neighborIndex, ifindex = 0 } = this.options;
    const open = { policy: acceptAll, allowAsIn: 0, allowAsSets: true, firstAs: 0, prefixLimit: 0, receivedLimit: 0 };
    const rules: ImportRules = { ...open, ...imports };
    const slot = this.test.rib.slots.add({
      neighbor: this.neighbor,
      neighborIndex: this.neighborIndex,
      external: this.#external,
      origin: this.options.origin,
      client,
      routerId,
      address: this.address,
      ifindex,
      link: ifindex,
      self: { asn: LOCAL_ASN, address: parseAddress("10.0.0.1") },
      attributeOctetsLimit: this.options.attributeOctetsLimit ?? 0,
      imports: { "ipv4-unicast": rules, "ipv6-unicast": rules },
    });
    if (this.options.listens ?? true) this.join();
    return slot;
  }

  #feed(prefixes: string[], begin: (writer: UpdateWriter, family: FamilyIndex) => void): Excess | undefined {
    let excess: Excess | undefined;
    for (const family of FamilyIndexes) {
      const own = prefixes.filter(prefix => forwardingFamily(prefix.includes(":") ? 6 : 4) === family).map(prefix => parsePrefix(prefix));
      if (own.length === 0) continue;
      // What it feeds may be longer than what it takes.
      const writer = new UpdateWriter({ fourOctetAsn: true, maxMessageLength: 65535 });
      begin(writer, family);
      for (const prefix of own) write(writer, prefix);
      for (const message of split(writer.take())) excess = this.receive(message) ?? excess;
    }
    return excess;
  }
}

/** A tracker whose answers a test sets: by default everything is reachable, one hop per next hop. Counts what is tracked. */
export class TestTracker implements NextHopTracker {
  readonly #ids = new Map<string, number>();
  readonly #entries: ({ key: string; references: number } | undefined)[] = [];
  readonly #listeners: ((ids: number[]) => void)[] = [];
  readonly unreachable = new Set<string>();
  readonly metrics = new Map<string, number>();
  shared: (address: Uint8Array) => boolean = () => false;

  get size(): number {
    return this.#ids.size;
  }

  /** "address%ifindex" of all that is tracked. */
  get tracked(): string[] {
    return [...this.#ids.keys()];
  }

  track(nextHop: Uint8Array, ifindex: number): number {
    const key = `${formatPrefix({ address: nextHop.slice(0, nextHop.length === 4 ? 4 : 16), length: nextHop.length === 4 ? 32 : 128 }).split("/")[0]}%${ifindex}`;
    const known = this.#ids.get(key);
    if (known !== undefined) {
      this.#entries[known]!.references++;
      return known;
    }
    const free = this.#entries.indexOf(undefined);
    const id = free < 0 ? this.#entries.length : free;
    this.#entries[id] = { key, references: 1 };
    this.#ids.set(key, id);
    return id;
  }

  release(id: number): void {
    const entry = this.#entries[id];
    if (!entry) throw new Error(`next hop ${id} released too often`);
    if (--entry.references > 0) return;
    this.#ids.delete(entry.key);
    this.#entries[id] = undefined;
  }

  resolution(id: number): Resolution {
    const [address] = this.#entries[id]!.key.split("%");
    const reachable = !this.unreachable.has(address);
    const hops = reachable ? [{ gateway: parseAddress(address), ifindex: 7 }] : [];
    return { reachable, metric: this.metrics.get(address) ?? 0, hops, connected: true, reason: reachable ? "connected" : "no route" };
  }

  addresses(): [] {
    return [];
  }

  foreignRoutes(): [] {
    return [];
  }

  onAddressChange(): void {}

  follow(): void {}
  resolveThrough(): void {}
  ownRouteChanged(): void {}
  tunnelsChanged(): void {}
  readonly busy = false;

  linkName(ifindex: number): string {
    return `ifindex ${ifindex}`;
  }

  isLocal(): boolean {
    return false;
  }

  sharesSubnet(a: Uint8Array): boolean {
    return this.shared(a);
  }

  onChange(listener: (ids: number[]) => void): void {
    this.#listeners.push(listener);
  }

  /** Tells that these addresses resolve differently now. */
  change(...addresses: string[]): void {
    const ids = [...this.#ids].filter(([key]) => addresses.includes(key.split("%")[0])).map(([, id]) => id);
    for (const listener of this.#listeners) listener(ids);
  }

  close(): void {}
}

function* split(messages: Uint8Array): Iterable<Uint8Array> {
  for (let at = 0; at < messages.length; ) {
    const length = (messages[at + 16] << 8) | messages[at + 17];
    yield messages.subarray(at, at + length);
    at += length;
  }
}

function prefixesOf(message: Uint8Array, family: FamilyIndex, start: number, end: number): string[] {
  const found: string[] = [];
  for (let at = start; at < end; ) {
    const length = message[at];
    const octets = (length + 7) >> 3;
    const address = new Uint8Array(FamilyTable[family].octets);
    address.set(message.subarray(at + 1, at + 1 + octets));
    found.push(formatPrefix({ address, length }));
    at += 1 + octets;
  }
  return found;
}

function write(writer: UpdateWriter, prefix: Prefix): void {
  const [w0, w1, w2, w3] = wordsOf(prefix.address);
  if (prefix.family === 4) writer.prefix4(w0, prefix.length);
  else writer.prefix6(w0, w1, w2, w3, prefix.length);
}
