/**
 * Other nodes that are in the list no more. A Node object is deleted by mistake, or to be registered anew, and is back within seconds; the node forwards all
 * the while. So it stays for as long as this node waits before it believes that it was deleted itself, unless another node has what was its.
 */
import type { Node } from "../config/resources/core.ts";
import type { Resources } from "../config/resources/kinds.ts";

export class Departures {
  readonly #patience: number;
  /** As they were when they were there last. */
  #present: ReadonlyMap<string, Node> = new Map();
  readonly #gone = new Map<string, { node: Node; since: number }>();

  /** `patience`: milliseconds. */
  constructor(patience: number) {
    this.#patience = patience;
  }

  /**
   * With those that are gone for a moment. `self`: who is not to be kept. `wait`: milliseconds until the first of them goes. Who knows a part of the nodes alone
   * cannot tell a node that was deleted from one that is not needed.
   */
  keep(resources: Resources, self: string, now: number): { resources: Resources; wait?: number } {
    const { nodes, partialNodes } = resources;
    if (partialNodes) this.#gone.clear();
    else for (const [name, node] of this.#present) if (!nodes.has(name) && name !== self) this.#leaves(name, node, now);
    this.#present = partialNodes ? new Map() : nodes;
    if (this.#gone.size === 0) return { resources };
    const taken = new Set([...nodes.values()].flatMap(claims));
    for (const [name, { node, since }] of this.#gone)
      if (nodes.has(name) || now - since >= this.#patience || claims(node).some(one => taken.has(one))) this.#gone.delete(name);
    if (this.#gone.size === 0) return { resources };
    const kept = [...this.#gone].map(([name, { node }]) => [name, node] as const);
    const first = Math.min(...[...this.#gone.values()].map(({ since }) => since));
    return { resources: { ...resources, nodes: new Map([...nodes, ...kept]) }, wait: first + this.#patience - now };
  }

  #leaves(name: string, node: Node, now: number): void {
    if (!this.#gone.has(name)) this.#gone.set(name, { node, since: now });
  }
}

/** What no two nodes have. */
function claims({ spec, status }: Node): string[] {
  return [...spec.podCIDRs, ...status.addresses.filter(({ type }) => type === "InternalIP").map(({ address }) => address)];
}
