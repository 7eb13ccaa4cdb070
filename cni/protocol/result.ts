/**
 * Results of ADD in the form of each version (CNI SPEC "ADD Success"): 0.3.x and 0.4.0 carry "version" in every entry of
 * ips, 1.0.0 dropped it, 1.1.0 added mtu to interfaces. What earlier plugins of the list reported is passed through as it came.
 */
import type { Address, Prefix } from "../../net/address.ts";
import { formatAddress, formatPrefix } from "../../net/address.ts";
import { hexOf } from "../../net/octets.ts";
import { CniError, ErrorCode } from "./error.ts";
import { type JsonObject, optionalArray, optionalObject, readInteger, readObject, readString, wrong } from "./json.ts";
import { atLeast, type CniVersion } from "./version.ts";

/** A result of other plugins: checked, but kept as it was written. */
export interface PreviousResult {
  interfaces: JsonObject[];
  ips: JsonObject[];
  routes: JsonObject[];
  dns: JsonObject;
}

export interface ResultInterface {
  name: string;
  mac: Uint8Array;
  mtu: number;
  /** Path of the network namespace; absent for an interface of the node. */
  sandbox?: string;
}

/** What one attachment adds to the result. */
export interface AttachmentResult {
  interfaces: ResultInterface[];
  /** `interface` is an index into `interfaces` above. */
  ips: { address: Address; length: number; gateway: Address; interface: number }[];
  routes: { destination: Prefix; gateway: Address }[];
}

const MAXIMUM_ENTRIES = 1024;

/** Throws CniError code 7 that names the place. */
export function readPreviousResult(value: unknown, place = "prevResult"): PreviousResult {
  const raw = readObject(value, place);
  const interfaces = optionalArray(raw.interfaces, `${place}.interfaces`, MAXIMUM_ENTRIES).map((entry, i) => {
    const at = `${place}.interfaces[${i}]`;
    const found = readObject(entry, at);
    readString(found.name, `${at}.name`);
    return found;
  });
  const ips = optionalArray(raw.ips, `${place}.ips`, MAXIMUM_ENTRIES).map((entry, i) => {
    const at = `${place}.ips[${i}]`;
    const found = readObject(entry, at);
    readString(found.address, `${at}.address`);
    if (found.interface !== undefined && found.interface !== null)
      readInteger(found.interface, `${at}.interface`, 0, interfaces.length - 1);
    return found;
  });
  const routes = optionalArray(raw.routes, `${place}.routes`, MAXIMUM_ENTRIES).map((entry, i) => {
    const found = readObject(entry, `${place}.routes[${i}]`);
    readString(found.dst, `${place}.routes[${i}].dst`);
    return found;
  });
  return { interfaces, ips, routes, dns: optionalObject(raw.dns, `${place}.dns`) ?? {} };
}

/** CHECK must be given the result of ADD (SPEC "CHECK"). */
export function requirePreviousResult(value: unknown): PreviousResult {
  if (value === undefined) throw new CniError(ErrorCode.invalidConfig, "CHECK needs the prevResult of ADD, and the configuration has none");
  return readPreviousResult(value);
}

/** The addresses that `previous` gives to the interface with this name in a sandbox. */
export function addressesOf(previous: PreviousResult, ifname: string): string[] {
  const index = previous.interfaces.findIndex(entry => entry.name === ifname && typeof entry.sandbox === "string" && entry.sandbox !== "");
  return previous.ips.filter(ip => index >= 0 && ip.interface === index).map(ip => String(ip.address));
}

/** Whether `previous` has a default route of this family. */
export function hasDefaultRoute(previous: PreviousResult, family: 4 | 6): boolean {
  return previous.routes.some(({ dst }) => typeof dst === "string" && dst.endsWith("/0") && dst.includes(":") === (family === 6));
}

/** Our part appended to what came before it. `dns` of the configuration wins over that of prevResult. */
export function formatResult(result: AttachmentResult, cniVersion: CniVersion, dns: JsonObject, previous?: PreviousResult): JsonObject {
  const offset = previous?.interfaces.length ?? 0;
  const withMtu = atLeast(cniVersion, "1.1.0");
  const withVersion = !atLeast(cniVersion, "1.0.0");
  const interfaces = result.interfaces.map(({ name, mac, mtu, sandbox }) => ({
    name,
    mac: hexOf(mac, ":"),
    ...(withMtu && { mtu }),
    ...(sandbox !== undefined && { sandbox }),
  }));
  const ips = result.ips.map(ip => ({
    ...(withVersion && { version: ip.address.length === 4 ? "4" : "6" }),
    interface: ip.interface + offset,
    address: formatPrefix(ip),
    gateway: formatAddress(ip.gateway),
  }));
  const routes = result.routes.map(route => ({ dst: formatPrefix(route.destination), gw: formatAddress(route.gateway) }));
  return {
    cniVersion,
    interfaces: [...(previous?.interfaces ?? []), ...interfaces],
    ips: [...(previous?.ips ?? []), ...ips],
    routes: [...(previous?.routes ?? []), ...routes],
    dns: Object.keys(dns).length > 0 ? dns : (previous?.dns ?? {}),
  };
}

/** Refuses a prevResult entry whose version field contradicts its address (0.3.x, 0.4.0). */
export function checkIpVersions(previous: PreviousResult, cniVersion: CniVersion): void {
  if (atLeast(cniVersion, "1.0.0")) return;
  previous.ips.forEach((ip, i) => {
    const expected = String(ip.address).includes(":") ? "6" : "4";
    if (ip.version !== expected) throw wrong(`prevResult.ips[${i}].version`, `"${expected}" in cniVersion ${cniVersion}`, ip.version);
  });
}
