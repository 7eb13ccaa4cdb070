/** Objects that differ from good ones in one place each: what the rules of the schema are tried with. */
import { Kinds } from "../../config/resources/kinds.ts";
import type { SchemaNode } from "../../config/resources/schema.ts";

interface Sample {
  kind: string;
  metadata: { name: string };
  spec: Record<string, unknown>;
}

type Random = () => number;

/** What the rules look at: addresses, prefixes, communities, patterns and names, good, nearly good and bad. */
const texts = [
  ...["", "a", "node1", "Not A Name", "*", "self", "(", "^65001( |$)", "AQIDBA=="],
  ...[
    "192.0.2.1",
    "192.0.2.256",
    "01.2.3.4",
    "1.2.3",
    "2001:db8::1",
    "2001:DB8:0::1",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:192.0.2.1",
    "::1.2.3.4",
  ],
  ...[
    "10.0.0.0/8",
    "10.0.0.1/8",
    "10.0.0.0/08",
    "10.0.0.0/33",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "2001:db8::1/32",
    "::ffff:10.0.0.0/104",
  ],
  ...[
    "65001:100",
    "65001:65536",
    "*:1",
    "65001:*",
    "no-export",
    "no-exports",
    "1:2:3",
    "4294967296:1:1",
    "*:*:*",
    "rt:65001:1",
    "soo:1.2.3.4:5",
  ],
];

/** `count` objects, the same for the same seed. */
export function* variants(samples: readonly Sample[], seed: number, count: number): Generator<Sample> {
  const random = lehmer(seed);
  for (let i = 0; i < count; i++) {
    const sample = pick(random, samples);
    const { spec: schema } = Kinds[sample.kind as keyof typeof Kinds] as { spec?: SchemaNode };
    if (!schema) continue;
    const spec = structuredClone(sample.spec);
    change(random, schema, spec);
    yield { ...sample, metadata: { name: `variant-${i}` }, spec };
  }
}

/** Goes down to some node, and puts something else there, or takes it away. */
function change(random: Random, schema: SchemaNode, value: unknown): void {
  if (Array.isArray(value)) {
    const items = schema.items ?? {};
    const at = Math.floor(random() * (value.length + 1));
    if (at < value.length && isContainer(value[at]) && random() < 0.7) change(random, items, value[at]);
    else if (at < value.length && random() < 0.3) value.push(structuredClone(value[at]));
    else value[at] = make(random, items);
    return;
  }
  const object = value as Record<string, unknown>;
  const names = Object.keys(schema.properties ?? {});
  if (names.length === 0) {
    object[pick(random, texts)] = pick(random, texts);
    return;
  }
  const name = pick(random, names);
  const child = schema.properties?.[name] ?? {};
  if (isContainer(object[name]) && random() < 0.6) change(random, child, object[name]);
  else if (name in object && random() < 0.2) delete object[name];
  else object[name] = make(random, child);
}

/** Something that the schema has room for, as often as not beyond its bounds. */
function make(random: Random, schema: SchemaNode): unknown {
  switch (schema.type) {
    case "object": {
      if (!schema.properties) return { [pick(random, texts)]: pick(random, texts) };
      const required = schema.required ?? [];
      const names = Object.keys(schema.properties).filter(name => random() < (required.includes(name) ? 0.95 : 0.3));
      return Object.fromEntries(names.map(name => [name, make(random, schema.properties?.[name] ?? {})]));
    }
    case "array":
      return Array.from({ length: Math.floor(random() * 3) }, () => make(random, schema.items ?? {}));
    case "boolean":
      return random() < 0.5;
    case "integer":
    case "number": {
      const { minimum = 0, maximum = 1 } = schema;
      return pick(random, [minimum - 1, minimum, minimum + 1, 3, 32, 33, 128, 23456, 65535, 65536, maximum - 1, maximum, maximum + 1]);
    }
    default:
      return schema.enum && random() < 0.9 ? pick(random, schema.enum) : pick(random, texts);
  }
}

function isContainer(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function pick<T>(random: Random, all: readonly T[]): T {
  return all[Math.floor(random() * all.length)];
}

/** The minimal standard generator (Lehmer, Park and Miller). */
function lehmer(seed: number): Random {
  let state = seed % 2147483647 || 1;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}
