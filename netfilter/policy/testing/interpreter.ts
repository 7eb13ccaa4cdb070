/**
 * What nftables does with a packet, for the expressions that policies use: base chains of the hook forward in the order of their priorities, each of which has
 * to accept. An expression that is not known here throws.
 */
import type { Chain, Expression, NamedMap, NamedSet, RulesetObject } from "../../ruleset.ts";

export interface Packet {
  source: string;
  destination: string;
  protocol: "tcp" | "udp" | "sctp" | "icmp" | "icmpv6";
  /** Destination port. */
  port?: number;
  state?: "new" | "established" | "related";
  icmpType?: string;
  group?: boolean;
  /** Device that it came by, of a frame its bridge. */
  device?: string;
}

export interface Outcome {
  accepted: boolean;
  /** Named counters that it passed. */
  counted: string[];
}

type Verdict = "accept" | "drop" | "return" | undefined;

const MAX_DEPTH = 16;

export function forward(objects: Iterable<RulesetObject>, packet: Packet): Outcome {
  const interpreter = new Interpreter([...objects], packet);
  return interpreter.run();
}

class Interpreter {
  readonly #objects = new Map<string, RulesetObject>();
  readonly #packet: Packet;
  readonly #counted: string[] = [];

  constructor(objects: readonly RulesetObject[], packet: Packet) {
    for (const object of objects)
      this.#objects.set(`${object.kind === "chain" || object.kind === "counter" ? object.kind : "set"} ${object.name}`, object);
    this.#packet = packet;
  }

  run(): Outcome {
    const chains = [...this.#objects.values()].flatMap(one => (one.kind === "chain" && one.base?.hook === "forward" ? [one] : []));
    chains.sort((a, b) => a.base!.priority - b.base!.priority);
    for (const chain of chains) {
      const verdict = this.#chain(chain, 0) ?? chain.base!.policy;
      if (verdict === "drop") return { accepted: false, counted: this.#counted };
    }
    return { accepted: true, counted: this.#counted };
  }

  #chain(chain: Chain, depth: number): Verdict {
    if (depth > MAX_DEPTH) throw new Error(`chain ${chain.name}: more than ${MAX_DEPTH} jumps`);
    for (const rule of chain.rules) {
      const verdict = this.#rule(rule.expressions, depth);
      if (verdict === "return") return undefined;
      if (verdict !== "next") return verdict;
    }
    return undefined;
  }

  #rule(expressions: readonly Expression[], depth: number): Verdict | "next" {
    for (const expression of expressions) {
      const [[kind, value]] = Object.entries(expression);
      if (kind === "match") {
        if (!this.#matches(value as Match)) return "next";
      } else if (kind === "counter") this.#counted.push(this.#get<RulesetObject>("counter", value as string).name);
      else if (kind === "accept" || kind === "drop" || kind === "return") return kind;
      else if (kind === "jump" || kind === "goto") {
        const verdict = this.#chain(this.#get<Chain>("chain", (value as { target: string }).target), depth + 1);
        if (verdict !== undefined || kind === "goto") return verdict;
      } else if (kind === "vmap") {
        const { key, data } = value as { key: Expression; data: string };
        const found = this.#get<NamedMap>("set", data.slice(1)).elements.get(this.#read(key) ?? "");
        if (found) return this.#rule([found.value as Expression], depth);
      } else if (kind !== "limit" && kind !== "log") throw new Error(`unknown statement ${JSON.stringify(expression)}`);
    }
    return "next";
  }

  #matches({ op, left, right }: Match): boolean {
    const value = this.#read(left);
    if (value === undefined) return false;
    if (op === "in") return (right as string[]).includes(value);
    if (op !== "==") throw new Error(`unknown operator ${op}`);
    if (typeof right === "string" && right.startsWith("@")) return this.#isIn(this.#get<NamedSet>("set", right.slice(1)), value);
    const { set } = right as { set?: unknown[] };
    return (set ?? [right]).some(one => isElement(one, value));
  }

  #isIn({ elements, flags }: NamedSet, value: string): boolean {
    if (!flags?.includes("interval")) return elements.has(value);
    return [...elements.values()].some(one => isElement(one, value));
  }

  /** undefined: the packet has no such field, and the rule does not match. */
  #read(expression: Expression): string | undefined {
    const { payload, meta, ct, concat } = expression as {
      payload?: { protocol: string; field: string };
      meta?: { key: string };
      ct?: { key: string };
      concat?: Expression[];
    };
    if (concat) {
      const parts = concat.map(one => this.#read(one));
      return parts.includes(undefined) ? undefined : parts.join(" . ");
    }
    const { source, destination, protocol, port, state = "new", icmpType, group = false, device = "eth0" } = this.#packet;
    const version = source.includes(":") ? "ip6" : "ip";
    if (ct?.key === "state") return state;
    if (meta?.key === "l4proto") return protocol;
    if (meta?.key === "nfproto") return version === "ip6" ? "ipv6" : "ipv4";
    if (meta?.key === "iifname") return device;
    if (meta?.key === "pkttype") return group ? "multicast" : "unicast";
    if (payload?.protocol === "ip" || payload?.protocol === "ip6") {
      if (payload.protocol !== version) return undefined;
      return payload.field === "saddr" ? source : destination;
    }
    if (payload?.field === "dport") return payload.protocol === protocol && port !== undefined ? String(port) : undefined;
    if (payload?.field === "type") return payload.protocol === protocol ? icmpType : undefined;
    throw new Error(`unknown expression ${JSON.stringify(expression)}`);
  }

  #get<T extends RulesetObject>(kind: "chain" | "set" | "counter", name: string): T {
    const found = this.#objects.get(`${kind} ${name}`);
    if (!found) throw new Error(`no ${kind} ${name}`);
    return found as T;
  }
}

interface Match {
  op: string;
  left: Expression;
  right: unknown;
}

function isElement(element: unknown, value: string): boolean {
  if (typeof element !== "object" || element === null) return String(element) === value;
  const { prefix, range } = element as { prefix?: { addr: string; len: number }; range?: [unknown, unknown] };
  if (range) return numberOf(value) >= numberOf(String(range[0])) && numberOf(value) <= numberOf(String(range[1]));
  if (!prefix) throw new Error(`unknown element ${JSON.stringify(element)}`);
  const rest = BigInt((prefix.addr.includes(":") ? 128 : 32) - prefix.len);
  return prefix.addr.includes(":") === value.includes(":") && numberOf(value) >> rest === numberOf(prefix.addr) >> rest;
}

/** Of a port, or of an address: written here on its own, as what it checks reads them otherwise. */
function numberOf(text: string): bigint {
  if (/^\d+$/.test(text)) return BigInt(text);
  if (!text.includes(":")) return text.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head, tail] = text.split("::").map(part => (part === "" ? [] : part.split(":")));
  const groups = tail ? [...head, ...Array<string>(8 - head.length - tail.length).fill("0"), ...tail] : head;
  return groups.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n);
}
