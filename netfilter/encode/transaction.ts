/**
 * A transaction as one batch of netlink messages, where all of it is of the few kinds that come with each pod: chains that others lead to with their rules, elements
 * of sets and maps, counters, and their end. Tables, base chains, sets and whatever else are left to nft: then the whole transaction is. Pure.
 */
import { constants as C, type MessageWriter, RulesetBatch } from "../../kernel/index.ts";
import type { Command } from "../json.ts";
import type { Expression, NamedMap, NamedSet, TableFamily } from "../ruleset.ts";
import { elementOctets, NotEncodable } from "./elements.ts";
import { writeRule, writeVerdict } from "./rules.ts";

/** Octets of a batch, some 200 pods; of more nft's start is not what takes the time. */
const MAXIMUM_BATCH = 1 << 20;
/** Octets of elements in one message: its list is an attribute, which has a length of 16 bits. */
const MAXIMUM_LIST = 1 << 15;

const Families: Readonly<Record<TableFamily, number>> = {
  inet: C.NFPROTO_INET,
  bridge: C.NFPROTO_BRIDGE,
  netdev: C.NFPROTO_NETDEV,
  arp: C.NFPROTO_ARP,
};

/** What has the elements; undefined: it is not known. */
export type FindSet = (family: TableFamily, name: string) => NamedSet | NamedMap | undefined;

/** undefined: nft has to write it. Tables are not made: where one is not there, all fails, so nothing is made beside what somebody has flushed. */
export function encodeTransaction(commands: readonly Command[], find: FindSet): RulesetBatch | undefined {
  const batch = new RulesetBatch();
  try {
    for (const command of commands) {
      encodeCommand(batch, command, find);
      if (batch.length > MAXIMUM_BATCH) return undefined;
    }
    return batch;
  } catch (error) {
    // RangeError: a name or a list that is too long for an attribute.
    if (error instanceof NotEncodable || error instanceof RangeError) return undefined;
    throw error;
  }
}

interface Subject {
  family: TableFamily;
  table: string;
  name: string;
  chain: string;
  hook?: unknown;
  expr: readonly Expression[];
  comment: string;
  elem: readonly unknown[];
}

type Encode = (writer: MessageWriter) => void;
/** NFT_MSG_…, NLM_F_…, and its attributes. */
type Message = readonly [type: number, flags: number, encode: Encode];

/** By verb and kind; those that are one message. */
const Messages: Readonly<Record<string, (subject: Subject) => Message | undefined>> = {
  "add table": () => undefined,
  "add chain"({ table, name, hook }) {
    if (hook !== undefined) throw new NotEncodable("a base chain");
    return [C.NFT_MSG_NEWCHAIN, C.NLM_F_CREATE, texts([C.NFTA_CHAIN_TABLE, table], [C.NFTA_CHAIN_NAME, name])];
  },
  "delete chain": ({ table, name }) => [C.NFT_MSG_DELCHAIN, 0, texts([C.NFTA_CHAIN_TABLE, table], [C.NFTA_CHAIN_NAME, name])],
  "flush chain": ({ table, name }) => [C.NFT_MSG_DELRULE, 0, texts([C.NFTA_RULE_TABLE, table], [C.NFTA_RULE_CHAIN, name])],
  "add rule": subject => [C.NFT_MSG_NEWRULE, C.NLM_F_CREATE | C.NLM_F_APPEND, ruleOf(subject)],
  "add counter": subject => [C.NFT_MSG_NEWOBJ, C.NLM_F_CREATE, counterOf(subject)],
  "delete counter": subject => [C.NFT_MSG_DELOBJ, 0, counterOf(subject)],
  "delete set": subject => [C.NFT_MSG_DELSET, 0, setOf(subject)],
  "delete map": subject => [C.NFT_MSG_DELSET, 0, setOf(subject)],
};

function encodeCommand(batch: RulesetBatch, command: Command, find: FindSet): void {
  const [[verb, objects]] = Object.entries(command) as [string, Record<string, Subject>][];
  const [[kind, subject]] = Object.entries(objects);
  const { family, table, name, chain } = subject;
  const add = ([type, flags, encode]: Message) =>
    batch.add(type, flags, Families[family], `${verb} ${kind} ${family} ${table} ${name ?? chain}`, encode);
  const what = `${verb} ${kind}`;
  if (what === "add element" || what === "delete element") {
    for (const message of elementMessages(verb === "add", subject, find(family, name))) add(message);
    return;
  }
  if (!Object.hasOwn(Messages, what)) throw new NotEncodable(what);
  const message = Messages[what](subject);
  if (message) add(message);
}

function* elementMessages(isAdded: boolean, subject: Subject, set: NamedSet | NamedMap | undefined): Iterable<Message> {
  if (!set || (set.flags ?? []).length > 0) throw new NotEncodable("a set of another kind");
  for (let at = 0; at < subject.elem.length; ) {
    const encode = (writer: MessageWriter) => {
      at = writeElements(writer, subject, set, at);
    };
    yield isAdded ? [C.NFT_MSG_NEWSETELEM, C.NLM_F_CREATE, encode] : [C.NFT_MSG_DELSETELEM, 0, encode];
  }
}

function texts(...attributes: readonly [number, string][]): Encode {
  return writer => attributes.forEach(([type, text]) => void writer.attributeText(type, text));
}

function ruleOf({ family, table, chain, expr, comment }: Subject): Encode {
  return writer => {
    texts([C.NFTA_RULE_TABLE, table], [C.NFTA_RULE_CHAIN, chain])(writer);
    writeRule(writer, family, expr, comment);
  };
}

function counterOf({ table, name }: Subject): Encode {
  return writer => {
    texts([C.NFTA_OBJ_TABLE, table], [C.NFTA_OBJ_NAME, name])(writer);
    writer.attributeU32be(C.NFTA_OBJ_TYPE, C.NFT_OBJECT_COUNTER);
    writer.close(writer.open(C.NFTA_OBJ_DATA));
  };
}

function setOf({ table, name }: Subject): Encode {
  return texts([C.NFTA_SET_TABLE, table], [C.NFTA_SET_NAME, name]);
}

/** As many of them as one message takes, from `at` on. Returns where the next one begins. */
function writeElements(writer: MessageWriter, { table, name, elem }: Subject, set: NamedSet | NamedMap, at: number): number {
  texts([C.NFTA_SET_ELEM_LIST_TABLE, table], [C.NFTA_SET_ELEM_LIST_SET, name])(writer);
  const list = writer.open(C.NFTA_SET_ELEM_LIST_ELEMENTS);
  const begin = writer.length;
  for (; at < elem.length && writer.length - begin < MAXIMUM_LIST; at++) {
    const element = writer.open(C.NFTA_LIST_ELEM);
    if (set.kind === "set") writeValue(writer, C.NFTA_SET_ELEM_KEY, set.type, elem[at]);
    else {
      const [key, value] = elem[at] as [unknown, unknown];
      writeValue(writer, C.NFTA_SET_ELEM_KEY, set.type, key);
      if (set.map !== "verdict") writeValue(writer, C.NFTA_SET_ELEM_DATA, set.map, value);
      else {
        const data = writer.open(C.NFTA_SET_ELEM_DATA);
        writeVerdict(writer, value);
        writer.close(data);
      }
    }
    writer.close(element);
  }
  writer.close(list);
  return at;
}

function writeValue(writer: MessageWriter, attribute: number, type: string | readonly string[], value: unknown): void {
  const data = writer.open(attribute);
  writer.attribute(C.NFTA_DATA_VALUE, elementOctets(type, value));
  writer.close(data);
}
