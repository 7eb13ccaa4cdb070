/**
 * The network configuration on standard input (CNI SPEC "Execution configuration"): what podlane uses of it. Fields that
 * belong to other plugins and would have no effect here are refused by name (code 2) instead of being silently ignored.
 */
import { type Address, AddressError, parseAddress } from "../../net/address.ts";
import type { Bandwidth, PortMapping, Rate } from "../types.ts";
import { CniError, ErrorCode } from "./error.ts";
import { isObject, type JsonObject, optionalArray, optionalObject, readInteger, readString, wrong } from "./json.ts";
import { readPortMappings } from "./port-mappings.ts";
import { type CniVersion, readVersion } from "./version.ts";

export interface CniConfig {
  cniVersion: CniVersion;
  /** The network's name. */
  name: string;
  /** Passed through to the result. */
  dns: JsonObject;
  /** The result of the plugins before this one in the list, unread. */
  prevResult?: unknown;
  /** Addresses asked for by runtimeConfig.ips or args.cni.ips. */
  ips: Address[];
  /** The hardware address asked for, 6 octets. */
  mac?: Uint8Array;
  /** Of runtimeConfig.bandwidth. */
  bandwidth?: Bandwidth;
  /** Asked for by runtimeConfig.portMappings. */
  ports: PortMapping[];
  /** GC: absent = the runtime has no list. */
  validAttachments?: { containerId: string; ifname: string }[];
}

const MAXIMUM_CONFIG = 1 << 20;
const MAXIMUM_ATTACHMENTS = 65536;
const namePattern = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

const podNetworkFields = new Map([
  ["bridge", "spec.bridgeName of the PodNetwork"],
  ["mtu", "spec.mtu of the PodNetwork"],
  ["hairpinMode", "spec.hairpin of the PodNetwork"],
  ["ipMasq", "nothing: podlane does not translate the pods' addresses yet"],
  ["ipam", "the node's pod CIDRs: podlane keeps the addresses itself"],
  ["isGateway", "nothing: podlane always sets it"],
  ["isDefaultGateway", "nothing: podlane always sets it"],
  ["vlan", "nothing: podlane has no VLANs on its bridge"],
]);
const foreignCapabilities = new Map([["ipRanges", "the node's pod CIDRs are the ranges"]]);

/** Names of dns in a configuration -> in a result: the same in the specification, others in the capability (CNI CONVENTIONS "dns"). */
const resultDns: [string, string][] = ["nameservers", "search", "options"].map(name => [name, name]);
const capabilityDns: [string, string][] = [
  ["servers", "nameservers"],
  ["searches", "search"],
  ["options", "options"],
];
const MAXIMUM_DNS_ENTRIES = 256;
/** Bits in a second: with less a packet takes minutes. */
const LEAST_RATE = 1000;

/** Decodes standard input. Throws CniError code 6. */
export function decodeConfig(stdin: string): JsonObject {
  if (stdin.length > MAXIMUM_CONFIG)
    throw new CniError(ErrorCode.decode, `the network configuration is longer than ${MAXIMUM_CONFIG} octets`);
  if (stdin.trim() === "") throw new CniError(ErrorCode.decode, "no network configuration on standard input");
  let value: unknown;
  try {
    value = JSON.parse(stdin);
  } catch (error) {
    throw new CniError(ErrorCode.decode, "the network configuration is not JSON", (error as Error).message);
  }
  if (!isObject(value)) throw new CniError(ErrorCode.decode, "the network configuration is not a JSON object");
  return value;
}

/**
 * `lenient` (DEL, GC): only what is needed to find the attachment is looked at, because a container must be removable also
 * when its configuration has gone bad since. Throws CniError codes 1, 2 and 7.
 */
export function readConfig(raw: JsonObject, lenient: boolean): CniConfig {
  const cniVersion = readVersion(raw.cniVersion);
  const config: CniConfig = { cniVersion, name: readNetworkName(raw.name), dns: {}, ips: [], ports: [] };
  const attachments = raw["cni.dev/valid-attachments"] ?? raw["cni.dev/attachments"] ?? undefined;
  if (attachments !== undefined) config.validAttachments = readAttachments(attachments);
  if (lenient) return config;

  refuseForeignFields(raw);
  config.dns = readDns(raw.dns, "dns", resultDns);
  if (raw.prevResult !== undefined && raw.prevResult !== null) config.prevResult = raw.prevResult;
  const runtimeConfig = optionalObject(raw.runtimeConfig, "runtimeConfig") ?? {};
  for (const [field, remedy] of foreignCapabilities) {
    if (runtimeConfig[field] !== undefined) throw unsupported(`runtimeConfig.${field}`, runtimeConfig[field], remedy);
  }
  const bandwidth = readBandwidth(runtimeConfig.bandwidth);
  if (bandwidth) config.bandwidth = bandwidth;
  const dns = readDns(runtimeConfig.dns, "runtimeConfig.dns", capabilityDns);
  if (Object.keys(dns).length > 0) config.dns = dns;
  config.ports = readPortMappings(runtimeConfig.portMappings);
  const args = optionalObject(optionalObject(raw.args, "args")?.cni, "args.cni") ?? {};
  config.ips = mergeRequested(readIps(runtimeConfig.ips, "runtimeConfig.ips"), readIps(args.ips, "args.cni.ips"));
  const mac = runtimeConfig.mac ?? args.mac;
  if (mac !== undefined) config.mac = parseMac(readString(mac, "runtimeConfig.mac"), "runtimeConfig.mac", ErrorCode.invalidConfig);
  return config;
}

/** The addresses of every source together, each once. */
export function mergeRequested(...lists: Address[][]): Address[] {
  const seen = new Map<string, Address>();
  for (const address of lists.flat()) seen.set(address.join("."), address);
  return [...seen.values()];
}

/** Six octets in colon form, unicast and not zero. Throws CniError with the given code. */
export function parseMac(text: string, place: string, code: ErrorCode): Uint8Array {
  const octets = /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)
    ? Uint8Array.from(text.split(":"), part => Number.parseInt(part, 16))
    : undefined;
  if (!octets || (octets[0] & 1) === 1 || octets.every(octet => octet === 0)) {
    throw new CniError(code, `${place}: "${text}" is not a unicast hardware address`, "write it as 02:00:5e:10:00:01");
  }
  return octets;
}

/** An address, with or without a prefix length (the range decides that). Throws CniError with the given code. */
export function parseRequestedAddress(text: string, place: string, code: ErrorCode): Address {
  try {
    const [address, length] = text.split("/");
    const octets = parseAddress(address);
    if (length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= octets.length * 8)) return octets;
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
  }
  throw new CniError(code, `${place}: "${text}" is not an IPv4 or IPv6 address`);
}

function readNetworkName(value: unknown): string {
  if (typeof value === "string" && value.length <= 255 && namePattern.test(value)) return value;
  throw wrong("name", "a letter or digit, then letters, digits, _ . - (at most 255)", value);
}

function readIps(value: unknown, place: string): Address[] {
  return optionalArray(value, place, 16).map((entry, i) =>
    parseRequestedAddress(readString(entry, `${place}[${i}]`), `${place}[${i}]`, ErrorCode.invalidConfig),
  );
}

function readDns(value: unknown, place: string, names: [string, string][]): JsonObject {
  const raw = optionalObject(value, place) ?? {};
  const dns: JsonObject = {};
  for (const [name, inResult] of names) {
    const list = optionalArray(raw[name], `${place}.${name}`, MAXIMUM_DNS_ENTRIES);
    if (list.length > 0) dns[inResult] = list.map((entry, i) => readString(entry, `${place}.${name}[${i}]`));
  }
  if (names === resultDns && raw.domain !== undefined && raw.domain !== null) dns.domain = readString(raw.domain, `${place}.domain`);
  return dns;
}

/** CNI CONVENTIONS "bandwidth": a rate of 0 is no limit. */
function readBandwidth(value: unknown): Bandwidth | undefined {
  const place = "runtimeConfig.bandwidth";
  const raw = optionalObject(value, place) ?? {};
  const number = (field: string) => {
    const given = raw[field] ?? 0;
    return readInteger(given, `${place}.${field}`, 0, Number.MAX_SAFE_INTEGER);
  };
  const read = (direction: string): Rate | undefined => {
    const [rate, burst] = [number(`${direction}Rate`), number(`${direction}Burst`)];
    if (rate > 0 && rate < LEAST_RATE) throw wrong(`${place}.${direction}Rate`, `0 or at least ${LEAST_RATE} bits in a second`, rate);
    return rate > 0 ? { rate, burst } : undefined;
  };
  const [ingress, egress] = [read("ingress"), read("egress")];
  return ingress || egress ? { ...(ingress && { ingress }), ...(egress && { egress }) } : undefined;
}

function readAttachments(value: unknown): { containerId: string; ifname: string }[] {
  const place = "cni.dev/valid-attachments";
  return optionalArray(value, place, MAXIMUM_ATTACHMENTS).map((entry, i) => {
    if (!isObject(entry)) throw wrong(`${place}[${i}]`, "an object", entry);
    return {
      containerId: readString(entry.containerID, `${place}[${i}].containerID`),
      ifname: readString(entry.ifname, `${place}[${i}].ifname`),
    };
  });
}

function refuseForeignFields(raw: JsonObject): void {
  for (const [field, remedy] of podNetworkFields) {
    const value = raw[field];
    // Go's configuration types write empty values out; those say nothing.
    if (value === undefined || value === null || value === false || value === 0 || value === "") continue;
    if (isObject(value) && Object.keys(value).length === 0) continue;
    throw unsupported(field, value, `remove it and use ${remedy}`);
  }
}

function unsupported(field: string, value: unknown, remedy: string): CniError {
  return new CniError(ErrorCode.unsupportedField, `podlane does not support "${field}": ${JSON.stringify(value)}`, remedy);
}
