/**
 * Rules as the kernel's expressions: those few that a pod's own chain is made of, each written as nft itself writes it, so that nft lists it as it was asked for.
 * All else throws NotEncodable and is left to nft. Pure.
 */
import { constants as C, type MessageWriter } from "../../kernel/index.ts";
import type { Expression, TableFamily } from "../ruleset.ts";
import { addressOctets, NotEncodable, numberOctets, protocolOctets } from "./elements.ts";

const ARPHRD_ETHER = 1;
const EtherTypes: Readonly<Record<string, number>> = { ip: 0x0800, arp: 0x0806, ip6: 0x86dd };
/** NFTA_RULE_USERDATA: NFTNL_UDATA_RULE_COMMENT of libnftnl, and what nft takes. */
const COMMENT = 0;
const MAXIMUM_COMMENT = 128;

/** With the terminating NUL: they come often. */
const ExpressionNames = {
  cmp: Buffer.from("cmp\0"),
  immediate: Buffer.from("immediate\0"),
  meta: Buffer.from("meta\0"),
  objref: Buffer.from("objref\0"),
  payload: Buffer.from("payload\0"),
};

type Layer = "ether" | "ip" | "ip6" | "arp";

interface Field {
  base: number;
  offset: number;
  length: number;
  layer: Layer;
  /** Number of what is above the network layer. */
  transport?: number;
  octets(value: unknown): Uint8Array;
}

const [LINK, NETWORK, TRANSPORT] = [C.NFT_PAYLOAD_LL_HEADER, C.NFT_PAYLOAD_NETWORK_HEADER, C.NFT_PAYLOAD_TRANSPORT_HEADER];
const address = (value: unknown) => addressOctets(value, 4);
const address6 = (value: unknown) => addressOctets(value, 16);
const operation = (value: unknown) => numberOctets(value === "request" ? 1 : value, 2);

const Payloads: Readonly<Record<string, Field>> = {
  "ether type": { base: LINK, offset: 12, length: 2, layer: "ether", octets: etherType },
  "ether saddr": { base: LINK, offset: 6, length: 6, layer: "ether", octets: macOctets },
  "ip saddr": { base: NETWORK, offset: 12, length: 4, layer: "ip", octets: address },
  "ip daddr": { base: NETWORK, offset: 16, length: 4, layer: "ip", octets: address },
  "ip6 saddr": { base: NETWORK, offset: 8, length: 16, layer: "ip6", octets: address6 },
  "ip6 daddr": { base: NETWORK, offset: 24, length: 16, layer: "ip6", octets: address6 },
  "arp operation": { base: NETWORK, offset: 6, length: 2, layer: "arp", octets: operation },
  "arp saddr ether": { base: NETWORK, offset: 8, length: 6, layer: "arp", octets: macOctets },
  "arp saddr ip": { base: NETWORK, offset: 14, length: 4, layer: "arp", octets: address },
  "icmpv6 type": { base: TRANSPORT, offset: 0, length: 1, layer: "ip6", transport: 58, octets: value => numberOctets(value, 1) },
};

const Operators: Readonly<Record<string, number>> = { "==": C.NFT_CMP_EQ, "!=": C.NFT_CMP_NEQ };
const Verdicts: Readonly<Record<string, number>> = {
  accept: C.NF_ACCEPT,
  drop: C.NF_DROP,
  return: C.NFT_RETURN,
  jump: C.NFT_JUMP,
  goto: C.NFT_GOTO,
};

/** NFTA_RULE_EXPRESSIONS and NFTA_RULE_USERDATA. Throws NotEncodable. */
export function writeRule(writer: MessageWriter, family: TableFamily, expressions: readonly Expression[], comment: string): void {
  const list = writer.open(C.NFTA_RULE_EXPRESSIONS);
  const rule = new RuleWriter(writer, family);
  for (const expression of expressions) rule.statement(expression);
  writer.close(list);
  const text = Buffer.from(`${comment}\0`);
  if (text.length > MAXIMUM_COMMENT) throw new NotEncodable("a long comment");
  writer.attribute(C.NFTA_RULE_USERDATA, Uint8Array.of(COMMENT, text.length, ...text));
}

/** NFTA_DATA_VERDICT. Throws NotEncodable for what is no verdict. */
export function writeVerdict(writer: MessageWriter, verdict: unknown): void {
  const [[name, value] = ["", null], ...more] = Object.entries((verdict ?? {}) as Record<string, unknown>);
  const code = Object.hasOwn(Verdicts, name) && more.length === 0 ? Verdicts[name] : undefined;
  const { target } = (value ?? {}) as { target?: unknown };
  const isToChain = code === C.NFT_JUMP || code === C.NFT_GOTO;
  if (code === undefined || isToChain !== (typeof target === "string")) throw new NotEncodable(JSON.stringify(verdict));
  const data = writer.open(C.NFTA_DATA_VERDICT);
  writer.attributeU32be(C.NFTA_VERDICT_CODE, code);
  if (typeof target === "string") writer.attributeText(C.NFTA_VERDICT_CHAIN, target);
  writer.close(data);
}

class RuleWriter {
  readonly #writer: MessageWriter;
  readonly #family: TableFamily;
  /** What the packet is known to be, by what stands before. */
  #layer: Layer | undefined;
  #transport: number | undefined;

  constructor(writer: MessageWriter, family: TableFamily) {
    this.#writer = writer;
    this.#family = family;
  }

  statement(statement: Expression): void {
    const { match, counter } = statement as { match?: { op?: string; left?: unknown; right?: unknown }; counter?: unknown };
    if (match) this.#match(match);
    else if (typeof counter === "string") this.#counter(counter);
    else this.#verdict(statement);
  }

  #match({ op = "", left, right }: { op?: string; left?: unknown; right?: unknown }): void {
    const operator = Object.hasOwn(Operators, op) ? Operators[op] : undefined;
    if (operator === undefined) throw new NotEncodable(`operator ${op}`);
    const { payload, meta } = (left ?? {}) as { payload?: Record<string, unknown>; meta?: { key?: unknown } };
    if (payload) this.#payloadMatch(payload, operator, right);
    else if (meta?.key === "nfproto") this.#family4(operator, right);
    else throw new NotEncodable(JSON.stringify(left));
  }

  #payloadMatch(payload: Record<string, unknown>, operator: number, right: unknown): void {
    const { protocol, field, base, offset, len } = payload;
    if (base === "th" && Number.isInteger(offset) && (offset as number) % 8 === 0 && len === 128) {
      // What is there is for who wrote the rule to know.
      this.#payload(TRANSPORT, (offset as number) / 8, 16);
      this.#compare(operator, hexOctets(right, 16));
      return;
    }
    const key = `${protocol} ${field}`;
    const known = Object.hasOwn(Payloads, key) ? Payloads[key] : undefined;
    if (!known) throw new NotEncodable(key);
    this.#require(known);
    this.#payload(known.base, known.offset, known.length);
    this.#compare(operator, known.octets(right));
  }

  /** What nft calls a dependency: that the packet is of the kind that has the field. */
  #require({ layer, transport }: Field): void {
    if (this.#layer === undefined) this.#requireLayer(layer, transport !== undefined);
    else if (this.#layer !== layer) throw new NotEncodable(`${layer} after ${this.#layer}`);
    this.#layer = layer;
    if (transport === undefined || this.#transport === transport) return;
    if (this.#transport !== undefined) throw new NotEncodable("two protocols");
    this.#transport = transport;
    this.#meta(C.NFT_META_L4PROTO);
    this.#compare(C.NFT_CMP_EQ, protocolOctets(transport));
  }

  #requireLayer(layer: Layer, below: boolean): void {
    if (this.#family === "inet" && layer === "ether") {
      this.#meta(C.NFT_META_IIFTYPE);
      // In host byte order.
      this.#compare(C.NFT_CMP_EQ, Uint8Array.of(ARPHRD_ETHER, 0));
    } else if (this.#family === "inet" && layer !== "arp") {
      this.#meta(C.NFT_META_NFPROTO);
      this.#compare(C.NFT_CMP_EQ, Uint8Array.of(layer === "ip" ? C.NFPROTO_IPV4 : C.NFPROTO_IPV6));
    } else if (this.#family === "bridge" && layer !== "ether") {
      // nft has two ways to ask for the same.
      if (below || layer === "arp") this.#payload(LINK, 12, 2);
      else this.#meta(C.NFT_META_PROTOCOL);
      this.#compare(C.NFT_CMP_EQ, etherType(layer));
    } else if (!(this.#family === "bridge" && layer === "ether") && !(this.#family === "arp" && layer === "arp")) {
      throw new NotEncodable(`${layer} in family ${this.#family}`);
    }
  }

  #family4(operator: number, right: unknown): void {
    const number = { ipv4: C.NFPROTO_IPV4, ipv6: C.NFPROTO_IPV6 }[String(right)];
    if (number === undefined || this.#family !== "inet" || this.#layer !== undefined) throw new NotEncodable(`nfproto ${right}`);
    this.#meta(C.NFT_META_NFPROTO);
    this.#compare(operator, Uint8Array.of(number));
  }

  #counter(name: string): void {
    this.#expression("objref", writer => {
      writer.attributeU32be(C.NFTA_OBJREF_IMM_TYPE, C.NFT_OBJECT_COUNTER);
      writer.attributeText(C.NFTA_OBJREF_IMM_NAME, name);
    });
  }

  #verdict(verdict: Expression): void {
    this.#expression("immediate", writer => {
      writer.attributeU32be(C.NFTA_IMMEDIATE_DREG, C.NFT_REG_VERDICT);
      const data = writer.open(C.NFTA_IMMEDIATE_DATA);
      writeVerdict(writer, verdict);
      writer.close(data);
    });
  }

  #meta(key: number): void {
    this.#expression("meta", writer => {
      writer.attributeU32be(C.NFTA_META_KEY, key);
      writer.attributeU32be(C.NFTA_META_DREG, C.NFT_REG_1);
    });
  }

  #payload(base: number, offset: number, length: number): void {
    this.#expression("payload", writer => {
      writer.attributeU32be(C.NFTA_PAYLOAD_DREG, C.NFT_REG_1);
      writer.attributeU32be(C.NFTA_PAYLOAD_BASE, base);
      writer.attributeU32be(C.NFTA_PAYLOAD_OFFSET, offset);
      writer.attributeU32be(C.NFTA_PAYLOAD_LEN, length);
    });
  }

  #compare(operator: number, octets: Uint8Array): void {
    this.#expression("cmp", writer => {
      writer.attributeU32be(C.NFTA_CMP_SREG, C.NFT_REG_1);
      writer.attributeU32be(C.NFTA_CMP_OP, operator);
      const data = writer.open(C.NFTA_CMP_DATA);
      writer.attribute(C.NFTA_DATA_VALUE, octets);
      writer.close(data);
    });
  }

  #expression(name: keyof typeof ExpressionNames, encode: (writer: MessageWriter) => void): void {
    const element = this.#writer.open(C.NFTA_LIST_ELEM);
    this.#writer.attribute(C.NFTA_EXPR_NAME, ExpressionNames[name]);
    const data = this.#writer.open(C.NFTA_EXPR_DATA);
    encode(this.#writer);
    this.#writer.close(data);
    this.#writer.close(element);
  }
}

function etherType(value: unknown): Uint8Array {
  return numberOctets(typeof value === "string" && Object.hasOwn(EtherTypes, value) ? EtherTypes[value] : value, 2);
}

function macOctets(value: unknown): Uint8Array {
  if (typeof value !== "string" || !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) throw new NotEncodable(`no hardware address: ${value}`);
  return Uint8Array.from(value.split(":"), part => Number.parseInt(part, 16));
}

/** "0x…" of this many octets. */
function hexOctets(value: unknown, length: number): Uint8Array {
  if (typeof value !== "string" || value.length !== 2 + 2 * length || !/^0x[0-9a-f]+$/.test(value))
    throw new NotEncodable(`no hexadecimal number: ${value}`);
  return Uint8Array.from(Buffer.from(value.slice(2), "hex"));
}
