/**
 * Building blocks of the objects' schemas. One TypeBox schema per kind is the only source: the TypeScript type, the validation of files,
 * the CustomResourceDefinition and the reference page are all made from it. It keeps to the subset that a Kubernetes structural schema
 * can say (no unions), so every field carries bounds, and every check across fields is a CEL rule that the API server evaluates too.
 */
import type { TEnum, TInteger, TProperties, TSchema, TString } from "typebox";
// As a namespace, of which a bundler keeps what is used: 1 MB of memory in place of 22.
import * as Type from "typebox";

/** A CEL rule on a schema node, as `x-kubernetes-validations` has it. `message` says what is wanted; `fieldPath` points below the node. */
export interface CelRule {
  rule: string;
  message: string;
  fieldPath?: string;
}

/** JSON Schema as the CRD has it: what walkers over a schema (validation, CRDs, reference) see of a TypeBox schema. */
export interface SchemaNode {
  type?: "object" | "array" | "string" | "integer" | "number" | "boolean";
  description?: string;
  default?: unknown;
  enum?: readonly string[];
  format?: string;
  pattern?: string;
  minLength?: number;
  maxLength?: number;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  maxItems?: number;
  maxProperties?: number;
  items?: SchemaNode;
  properties?: Record<string, SchemaNode>;
  patternProperties?: Record<string, SchemaNode>;
  required?: readonly string[];
  /** true: fields that are not named here are not looked at. */
  additionalProperties?: boolean;
  "x-kubernetes-list-type"?: "atomic" | "map" | "set";
  "x-kubernetes-list-map-keys"?: readonly string[];
  "x-kubernetes-map-type"?: "atomic";
  "x-kubernetes-validations"?: readonly CelRule[];
}

interface Extra {
  rules?: readonly CelRule[];
  default?: unknown;
}

const extra = ({ rules, default: value }: Extra = {}) => ({
  ...(value === undefined ? {} : { default: value }),
  ...(rules ? { "x-kubernetes-validations": rules } : {}),
});

/** Text of at most `maxLength` characters. */
export function text(description: string, maxLength: number, options: Extra & { minLength?: number; pattern?: string } = {}): TString {
  const { minLength, pattern } = options;
  return Type.String({
    description,
    ...(minLength === undefined ? {} : { minLength }),
    maxLength,
    ...(pattern ? { pattern } : {}),
    ...extra(options),
  });
}

export function integer(description: string, minimum: number, maximum: number, options: Extra = {}): TInteger {
  return Type.Integer({ description, format: maximum > 2 ** 31 - 1 ? "int64" : "int32", minimum, maximum, ...extra(options) });
}

export function flag(description: string, value?: boolean) {
  return Type.Boolean({ description, ...extra({ default: value }) });
}

export function oneOf<const Values extends string[]>(
  description: string,
  values: readonly [...Values],
  options: Extra = {},
): TEnum<Values> {
  return Type.Enum([...values], { type: "string", description, ...extra(options) }) as TEnum<Values>;
}

/** An ordered list, replaced as a whole. */
export function list<Item extends TSchema>(description: string, item: Item, maxItems: number, options: Extra & { minItems?: number } = {}) {
  return Type.Array(item, { description, ...count(maxItems, options), "x-kubernetes-list-type": "atomic", ...extra(options) });
}

/** A list of distinct scalars. */
export function set<Item extends TSchema>(description: string, item: Item, maxItems: number, options: Extra & { minItems?: number } = {}) {
  return Type.Array(item, { description, ...count(maxItems, options), "x-kubernetes-list-type": "set", ...extra(options) });
}

/** A list of objects told apart by `key`. */
export function keyed<Item extends TSchema>(
  description: string,
  key: string,
  item: Item,
  maxItems: number,
  options: Extra & { minItems?: number } = {},
) {
  const keys = { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key] };
  return Type.Array(item, { description, ...count(maxItems, options), ...keys, ...extra(options) });
}

export function object<Properties extends TProperties>(description: string, properties: Properties, options: Extra = {}) {
  return Type.Object(properties, { description, ...extra(options) });
}

/** A map from text to text. */
export function labels(description: string, maxProperties: number, options: Extra & { maxLength?: number; pattern?: string } = {}) {
  const { maxLength = 63, pattern } = options;
  return Type.Record(Type.String(), Type.String({ maxLength, ...(pattern !== undefined && { pattern }) }), {
    description,
    maxProperties,
    ...extra(options),
  });
}

/**
 * Marks what the schema has room for and podlane does not do yet, in the reference and in the CRD; `what`: only these values. compile() answers its
 * use with a problem.
 */
export function notYet<Schema extends TSchema>(schema: Schema, what?: string): Schema {
  const { description = "" } = schema as SchemaNode;
  return { ...schema, description: `${description} ${NOT_YET_TEXT}${what === undefined ? "" : `: ${what}`}.` };
}

export const NOT_YET_TEXT = "Not supported yet";

function count(maxItems: number, options: { minItems?: number }) {
  return { ...(options.minItems === undefined ? {} : { minItems: options.minItems }), maxItems };
}

export const optional = Type.Optional;
