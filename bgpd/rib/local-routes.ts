/** The routes this speaker originates: paths of slot 0, kept in step with the configuration. */
import { parseAddress, parsePrefix } from "../../net/address.ts";
import type { NetworkConfig, RouteKind } from "../config.ts";
import { CommunityKinds, NumberKinds } from "../message/attribute-table.ts";
import { buildAttributes } from "../message/attributes.ts";
import { Origin, type PathAttributes } from "../message/types.ts";
import type { AttributeSets } from "../table/attribute-sets.ts";
import type { LocalRoutes } from "./exporter.ts";
import { LOCAL_SLOT } from "./slots.ts";
import type { RibTable } from "./table.ts";

export class LocalTable implements LocalRoutes {
  readonly #table: RibTable;
  readonly #attributes: AttributeSets;
  readonly #byPrefix = new Map<string, NetworkConfig>();
  readonly #byPath = new Map<number, NetworkConfig>();
  /** Networks without effect, because another one of the same prefix is taken. */
  duplicates: { prefix: string; used: string; ignored: string }[] = [];

  constructor(table: RibTable) {
    this.#table = table;
    this.#attributes = table.attributes;
  }

  /** Brings the table in step. Of several networks with one prefix the one whose source comes first by name is taken. `touched` hears of prefixes whose configuration changed, also where their attributes did not. */
  set(networks: readonly NetworkConfig[], now: number, touched: (prefix: number) => void): void {
    const wanted = new Map<string, NetworkConfig>();
    this.duplicates = [];
    for (const network of inOrder(networks)) {
      const { prefix, source: ignored } = network;
      const used = wanted.get(prefix)?.source;
      if (used === undefined) wanted.set(prefix, network);
      else this.duplicates.push({ prefix, used, ignored });
    }
    for (const text of this.#byPrefix.keys()) if (!wanted.has(text)) this.#remove(text);
    for (const [text, network] of wanted) {
      const known = this.#byPrefix.get(text);
      if (known && JSON.stringify(known) === JSON.stringify(network)) continue;
      this.#put(text, network, now, touched);
    }
  }

  network(path: number): NetworkConfig | undefined {
    return this.#byPath.get(path);
  }

  prefixes(): string[] {
    return [...this.#byPrefix.keys()];
  }

  kind(path: number): RouteKind {
    return this.#byPath.get(path)?.kind ?? "learned";
  }

  sources(path: number): readonly string[] {
    const network = this.#byPath.get(path);
    return network ? sourcesOf(network) : [];
  }

  keepsMed(path: number): boolean {
    return this.#byPath.get(path)?.attributes?.med !== undefined;
  }

  #put(text: string, network: NetworkConfig, now: number, touched: (prefix: number) => void): void {
    const prefix = this.#table.prefixes.internPrefix(parsePrefix(text));
    const octets = buildAttributes(attributesOf(network));
    const id = this.#attributes.intern(octets, 0, octets.length);
    this.#table.announce(prefix, LOCAL_SLOT, -1, 0, id, 0, now);
    this.#attributes.release(id);
    this.#byPrefix.set(text, network);
    this.#byPath.set(this.#table.findPath(prefix, LOCAL_SLOT), network);
    this.#table.touchHops(prefix);
    touched(prefix);
  }

  #remove(text: string): void {
    const prefix = this.#table.prefixes.findPrefix(parsePrefix(text));
    this.#byPath.delete(this.#table.findPath(prefix, LOCAL_SLOT));
    this.#table.withdraw(prefix, LOCAL_SLOT);
    this.#byPrefix.delete(text);
  }
}

export function sourcesOf({ sources, source }: NetworkConfig): readonly string[] {
  return sources ?? [source];
}

/** Whether a neighbour that hears these sources may be told the network, as far as its export policy lets it. */
export function mayBeTold(network: NetworkConfig, hears: readonly string[] | undefined): boolean {
  return !network.restricted || sourcesOf(network).some(source => hears?.includes(source));
}

/** By the name of the object, and where one names a prefix twice, by what it says: never by the order in which they came. */
function inOrder(networks: readonly NetworkConfig[]): NetworkConfig[] {
  // Written out once for each, and not once for each comparison.
  const keyed = networks.map(network => ({ network, key: `${network.source} ${JSON.stringify(network)}` }));
  return keyed.sort((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key))).map(({ network }) => network);
}

const origins = { igp: Origin.Igp, egp: Origin.Egp, incomplete: Origin.Incomplete };

/** What cannot be read was told with the configuration, and is left out. */
function readable<T>(parse: (text: string) => T, text: string): T | [] {
  try {
    return parse(text);
  } catch {
    return [];
  }
}

/** Those that a network starts with. */
export function attributesOf(network: NetworkConfig): PathAttributes {
  const set = network.attributes ?? {};
  return {
    origin: origins[set.origin ?? "igp"],
    asPath: [],
    nextHop: network.nextHop ? parseAddress(network.nextHop) : new Uint8Array(),
    ...Object.fromEntries(NumberKinds.map(({ field }) => [field, set[field]])),
    ...Object.fromEntries(
      CommunityKinds.map(({ attribute, parse }) => [attribute, set[attribute]?.flatMap(text => readable(parse, text))]),
    ),
  };
}
