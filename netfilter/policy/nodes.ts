/** Nodes that peers of cluster policies select, as sets of their addresses. Pure. */
import type { IpFamily } from "../../net/address.ts";
import { type LabelSelector, selects } from "../../platform/label-selector.ts";
import type { NamedSet } from "../ruleset.ts";
import { Place } from "./names.ts";
import { familyOfText } from "./pods.ts";
import { setType } from "./selection.ts";
import type { PolicyNode } from "./types.ts";

export class NodeTable {
  readonly #nodes = new Map<string, PolicyNode>();

  get(name: string | undefined): PolicyNode | undefined {
    return name === undefined ? undefined : this.#nodes.get(name);
  }

  /** Which has the address, if one has. */
  owner(address: string): PolicyNode | undefined {
    for (const node of this.#nodes.values()) if (node.addresses.includes(address)) return node;
    return undefined;
  }

  set(node: PolicyNode): void {
    this.#nodes.set(node.name, node);
  }

  delete(name: string): void {
    this.#nodes.delete(name);
  }

  /** Few peers select nodes, so what changes is made anew. */
  addresses(name: string, selector: LabelSelector, family: IpFamily): NamedSet {
    const elements = new Map<string, unknown>();
    for (const { labels, addresses } of this.#nodes.values()) {
      if (selects(selector, labels)) for (const one of addresses) if (familyOfText(one) === family) elements.set(one, one);
    }
    return { ...Place, kind: "set", name, type: setType(family, false), elements };
  }
}
