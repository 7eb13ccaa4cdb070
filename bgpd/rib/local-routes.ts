/**
 * The routes this speaker originates: paths of slot 0. Some are of the configuration and are brought in step as a whole; others come and go beside it one
 * by one, ten thousand of them, and each costs what it costs alone. Where both have a prefix the configuration's is in force and the other waits.
 */
import { parsePrefix } from "../../net/address.ts";
import type { NetworkAttributes, NetworkConfig, RouteKind } from "../config.ts";
import { buildAttributes } from "../message/attributes.ts";
import type { AttributeSets } from "../table/attribute-sets.ts";
import type { LocalRoutes } from "./exporter.ts";
import { attributesOf } from "./network-attributes.ts";
import { LOCAL_SLOT } from "./slots.ts";
import type { RibTable } from "./table.ts";

/** Hears of prefixes whose network changed. */
type Touched = (prefix: number) => void;

interface Duplicate {
  prefix: string;
  used: string;
  ignored: string;
}

export class LocalTable implements LocalRoutes {
  readonly #table: RibTable;
  readonly #attributes: AttributeSets;
  /** In force. */
  readonly #byPrefix = new Map<string, NetworkConfig>();
  /** Those beside the configuration, in force or not. */
  readonly #beside = new Map<string, NetworkConfig>();
  #configured: ReadonlyMap<string, NetworkConfig> = new Map();
  readonly #byPath = new Map<number, NetworkConfig>();
  /** Within the configuration. */
  #duplicates: Duplicate[] = [];
  /** Prefixes that both have. */
  readonly #waiting = new Set<string>();

  constructor(table: RibTable) {
    this.#table = table;
    this.#attributes = table.attributes;
  }

  /** Networks without effect, because another one of the same prefix is taken. */
  get duplicates(): Duplicate[] {
    const waiting = [...this.#waiting].map(prefix => {
      return { prefix, used: this.#configured.get(prefix)!.source, ignored: this.#beside.get(prefix)!.source };
    });
    return [...this.#duplicates, ...waiting];
  }

  /** Brings the table in step with the configuration. Of several networks with one prefix the one whose source comes first by name is taken. `touched` hears of prefixes whose configuration changed, also where their attributes did not. */
  set(networks: readonly NetworkConfig[], now: number, touched: Touched): void {
    const wanted = new Map<string, NetworkConfig>();
    this.#duplicates = [];
    for (const network of inOrder(networks)) {
      const { prefix, source: ignored } = network;
      const used = wanted.get(prefix)?.source;
      if (used === undefined) wanted.set(prefix, network);
      else this.#duplicates.push({ prefix, used, ignored });
    }
    const former = this.#configured;
    this.#configured = wanted;
    for (const text of former.keys()) if (!wanted.has(text)) this.#settle(text, now, touched);
    for (const text of wanted.keys()) this.#settle(text, now, touched);
  }

  /** Those beside the configuration: what each of these prefixes is from now on, undefined = no more. */
  change(changes: Iterable<readonly [string, NetworkConfig | undefined]>, now: number, touched: Touched): void {
    for (const [text, network] of changes) {
      if (network) this.#beside.set(text, network);
      else this.#beside.delete(text);
      this.#settle(text, now, touched);
    }
  }

  /** Brings one prefix to what is wanted of it. */
  #settle(text: string, now: number, touched: Touched): void {
    const configured = this.#configured.get(text);
    const beside = this.#beside.get(text);
    if (configured && beside) this.#waiting.add(text);
    else this.#waiting.delete(text);
    const wanted = configured ?? beside;
    const known = this.#byPrefix.get(text);
    if (!wanted) {
      if (known) this.#remove(text);
    } else if (!known || JSON.stringify(known) !== JSON.stringify(wanted)) this.#put(text, wanted, now, touched);
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

  given(path: number): NetworkAttributes | undefined {
    return this.#byPath.get(path)?.attributes;
  }

  keepsMed(path: number): boolean {
    return this.#byPath.get(path)?.attributes?.med !== undefined;
  }

  #put(text: string, network: NetworkConfig, now: number, touched: Touched): void {
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
