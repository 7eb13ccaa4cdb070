/**
 * Who a selector of pods finds, kept in step pod by pod, and the named sets of their addresses. A selection exists once however many rules name it, and only
 * while a rule in force does. Pure.
 */
import type { IpFamily } from "../../net/address.ts";
import { type LabelSelector, selects } from "../../platform/label-selector.ts";
import type { NamedSet } from "../ruleset.ts";
import { nameOf, Place } from "./names.ts";
import { familyOfText, type PodEntry, type PodTable } from "./pods.ts";
import type { PolicyNamespace, PolicyProtocol } from "./types.ts";

/** Pods of one namespace, or of all that a selector finds. */
export interface SelectionSpec {
  /** The same for the same selection, however it is written. */
  key: string;
  namespace?: string;
  namespaces?: LabelSelector;
  pods: LabelSelector;
}

/** A port by its name, which is another number in each pod. */
export interface NamedPort {
  protocol: PolicyProtocol;
  name: string;
}

interface Stored {
  readonly spec: SelectionSpec;
  readonly members: Set<PodEntry>;
  readonly sets: Map<string, { set: NamedSet; family: IpFamily; port: NamedPort | undefined }>;
}

export function ofNamespace(namespace: string, pods: LabelSelector): SelectionSpec {
  return { key: JSON.stringify([namespace, canonical(pods)]), namespace, pods };
}

export function ofNamespaces(namespaces: LabelSelector, pods: LabelSelector = {}): SelectionSpec {
  return { key: JSON.stringify([canonical(namespaces), canonical(pods)]), namespaces, pods };
}

/** The API server labels each namespace with its name: where one is not known, that is. */
export function namespaceLabels(namespaces: ReadonlyMap<string, PolicyNamespace>, name: string): Readonly<Record<string, string>> {
  return namespaces.get(name)?.labels ?? { "kubernetes.io/metadata.name": name };
}

export class SelectionTable {
  readonly #pods: PodTable;
  readonly #namespaces: ReadonlyMap<string, PolicyNamespace>;
  readonly #selections = new Map<string, Stored>();
  /** Of each namespace that has pods, or had: the selections that look into it. */
  readonly #looking = new Map<string, Set<Stored>>();
  readonly #dirty = new Set<Stored>();

  constructor(pods: PodTable, namespaces: ReadonlyMap<string, PolicyNamespace>) {
    this.#pods = pods;
    this.#namespaces = namespaces;
  }

  /** Others were of rules that are no longer in force. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const [key, selection] of this.#selections) {
      if (keys.has(key)) continue;
      this.#selections.delete(key);
      this.#dirty.delete(selection);
      for (const looking of this.#looking.values()) looking.delete(selection);
    }
  }

  /** Labels, ports or addresses are others, or it is new. */
  podChanged(entry: PodEntry): void {
    for (const selection of this.#lookingInto(entry.pod.namespace)) {
      const isMember = selection.members.has(entry);
      const shallBe = selects(selection.spec.pods, entry.pod.labels);
      if (!isMember && !shallBe) continue;
      if (shallBe) selection.members.add(entry);
      else selection.members.delete(entry);
      this.#dirty.add(selection);
    }
  }

  podGone(entry: PodEntry): void {
    const { namespace } = entry.pod;
    for (const selection of this.#lookingInto(namespace)) if (selection.members.delete(entry)) this.#dirty.add(selection);
    if (!this.#pods.hasNamespace(namespace)) this.#looking.delete(namespace);
  }

  namespaceChanged(name: string): void {
    const looking = this.#looking.get(name);
    if (!looking) return;
    for (const selection of this.#selections.values()) {
      const looks = this.#looksInto(selection, name);
      if (looks === looking.has(selection)) continue;
      if (looks) looking.add(selection);
      else looking.delete(selection);
      this.#dirty.add(selection);
      for (const entry of this.#pods.ofNamespace(name)) {
        if (looks && selects(selection.spec.pods, entry.pod.labels)) selection.members.add(entry);
        else selection.members.delete(entry);
      }
    }
  }

  /** Addresses of those who are selected, under the name that setName() gives; with a port, each with the pod's own number for it. */
  set(name: string, spec: SelectionSpec, family: IpFamily, port?: NamedPort): NamedSet {
    const selection = this.#ensure(spec);
    const known = selection.sets.get(name);
    if (known) return known.set;
    const set = makeSet(name, selection, family, port);
    selection.sets.set(name, { set, family, port });
    return set;
  }

  /** Sets with other elements than before. */
  takeChanged(): NamedSet[] {
    const changed: NamedSet[] = [];
    for (const selection of this.#dirty) {
      for (const [name, made] of selection.sets) {
        const after = makeSet(name, selection, made.family, made.port);
        if (sameKeys(made.set.elements, after.elements)) continue;
        made.set = after;
        changed.push(after);
      }
    }
    this.#dirty.clear();
    return changed;
  }

  #ensure(spec: SelectionSpec): Stored {
    const known = this.#selections.get(spec.key);
    if (known) return known;
    const selection: Stored = { spec, members: new Set(), sets: new Map() };
    this.#selections.set(spec.key, selection);
    const all = spec.namespace === undefined ? this.#pods.namespaces() : [spec.namespace];
    for (const name of all) {
      if (!this.#looksInto(selection, name)) continue;
      this.#lookingInto(name).add(selection);
      for (const entry of this.#pods.ofNamespace(name)) if (selects(spec.pods, entry.pod.labels)) selection.members.add(entry);
    }
    return selection;
  }

  #looksInto({ spec }: Stored, namespace: string): boolean {
    if (spec.namespace !== undefined) return spec.namespace === namespace;
    return selects(spec.namespaces ?? {}, namespaceLabels(this.#namespaces, namespace));
  }

  #lookingInto(namespace: string): Set<Stored> {
    let looking = this.#looking.get(namespace);
    if (!looking) {
      looking = new Set([...this.#selections.values()].filter(one => this.#looksInto(one, namespace)));
      this.#looking.set(namespace, looking);
    }
    return looking;
  }
}

export function setName({ key }: SelectionSpec, family: IpFamily, port?: NamedPort): string {
  return port ? nameOf(`ports${family}`, [key, port.protocol, port.name]) : nameOf(`pods${family}`, key);
}

function makeSet(name: string, { members }: Stored, family: IpFamily, port: NamedPort | undefined): NamedSet {
  const elements = new Map<string, unknown>();
  for (const { pod, addresses } of members) addElements(elements, addresses, pod.ports, family, port);
  return { ...Place, kind: "set", name, type: setType(family, port !== undefined), elements };
}

export function setType(family: IpFamily, withPort: boolean): string | string[] {
  const address = family === 4 ? "ipv4_addr" : "ipv6_addr";
  return withPort ? [address, "inet_service"] : address;
}

export function addElements(
  elements: Map<string, unknown>,
  addresses: readonly string[],
  ports: readonly { name: string; protocol: PolicyProtocol; port: number }[],
  family: IpFamily,
  port: NamedPort | undefined,
): void {
  for (const address of addresses) {
    if (familyOfText(address) !== family) continue;
    if (!port) elements.set(address, address);
    else {
      for (const one of ports) {
        if (one.name === port.name && one.protocol === port.protocol) {
          elements.set(`${address} . ${one.port}`, { concat: [address, one.port] });
        }
      }
    }
  }
}

function sameKeys(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean {
  if (a.size !== b.size) return false;
  for (const key of a.keys()) if (!b.has(key)) return false;
  return true;
}

/** One spelling of a selector: an empty one and an absent one are the same. */
export function canonical({ matchLabels = {}, matchExpressions = [] }: LabelSelector): unknown {
  const labels = Object.keys(matchLabels)
    .sort()
    .map(key => [key, matchLabels[key]]);
  const expressions = matchExpressions.map(({ key, operator, values = [] }) => JSON.stringify([key, operator, [...values].sort()])).sort();
  return [labels, expressions];
}
