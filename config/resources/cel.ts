/**
 * Evaluates the CEL rules of the schema (x-kubernetes-validations) as the API server does, so that files are held to the same text.
 * Of the Kubernetes libraries the functions that our rules use are here: isIP, ip, isCIDR, cidr.
 */
import { Environment } from "@marcbachmann/cel-js";
import { type Address, AddressError, formatAddress, isLinkLocal, maskAddress, parseAddress, parsePrefix } from "../../net/address.ts";
import type { SchemaNode } from "./schema.ts";

class Ip {
  readonly octets: Address;
  constructor(octets: Address) {
    this.octets = octets;
  }
}

class Cidr {
  readonly octets: Address;
  readonly length: number;
  constructor(octets: Address, length: number) {
    this.octets = octets;
    this.length = length;
  }
  text(): string {
    return `${formatAddress(this.octets)}/${this.length}`;
  }
}

const environment = new Environment({ homogeneousAggregateLiterals: false })
  .registerVariable("self", "dyn")
  .registerType("IP", Ip)
  .registerType("CIDR", Cidr)
  .registerFunction("isIP(string): bool", (text: string) => tells(() => readIp(text)))
  .registerFunction("ip(string): IP", readIp)
  .registerFunction("isCIDR(string): bool", (text: string) => tells(() => readCidr(text)))
  .registerFunction("cidr(string): CIDR", readCidr)
  .registerFunction("IP.family(): int", (ip: Ip) => (ip.octets.length === 4 ? 4n : 6n))
  .registerFunction("IP.isLinkLocalUnicast(): bool", (ip: Ip) =>
    ip.octets.length === 4 ? ip.octets[0] === 169 && ip.octets[1] === 254 : isLinkLocal(ip.octets),
  )
  .registerFunction("CIDR.ip(): IP", (cidr: Cidr) => new Ip(cidr.octets))
  .registerFunction("CIDR.prefixLength(): int", (cidr: Cidr) => BigInt(cidr.length))
  .registerFunction("CIDR.masked(): CIDR", (cidr: Cidr) => new Cidr(maskAddress(cidr.octets, cidr.length), cidr.length))
  .registerOperator("CIDR == CIDR", (a: Cidr, b: Cidr) => a.text() === b.text());

const programs = new Map<string, (context: { self: unknown }) => unknown>();

/** Whether `value`, which fits `schema`, keeps the rule. A rule that cannot be evaluated does not hold, as in the API server. */
export function holds(rule: string, value: unknown, schema: SchemaNode): boolean {
  let program = programs.get(rule);
  if (!program) {
    program = environment.parse(rule);
    programs.set(rule, program);
  }
  try {
    return program({ self: toCel(value, schema) }) === true;
  } catch (error) {
    if (error instanceof Error && error.name === "EvaluationError") return false;
    throw error;
  }
}

/** CEL tells int from double: whole numbers of the schema are bigint there. */
function toCel(value: unknown, schema: SchemaNode): unknown {
  if (schema.type === "integer") return typeof value === "number" ? BigInt(value) : value;
  if (schema.type === "array" && Array.isArray(value)) return value.map(item => toCel(item, schema.items ?? {}));
  if (schema.type === "object" && typeof value === "object" && value !== null) {
    const entries = Object.entries(value).map(([key, part]) => [key, toCel(part, schema.properties?.[key] ?? {})]);
    return Object.fromEntries(entries);
  }
  return value;
}

function readIp(text: string): Ip {
  const octets = parseAddress(text);
  if (isMapped(octets)) throw new AddressError(`"${text}" is an IPv4-mapped address`);
  return new Ip(octets);
}

function readCidr(text: string): Cidr {
  const { length } = parsePrefix(text, "clear");
  return new Cidr(readIp(text.slice(0, text.lastIndexOf("/"))).octets, length);
}

/** ::ffff:0:0/96, which Kubernetes' CEL refuses. */
function isMapped(octets: Address): boolean {
  return octets.length === 16 && octets.subarray(0, 10).every(octet => octet === 0) && octets[10] === 255 && octets[11] === 255;
}

function tells(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    if (error instanceof AddressError) return false;
    throw error;
  }
}
