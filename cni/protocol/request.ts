/**
 * One call of a container runtime: environment and standard input to a checked request (CNI SPEC "Execution protocol",
 * versions 0.3.0 to 1.1.0). Everything here is untrusted.
 */
import type { Key } from "../ipam/book.ts";
import type { PodName } from "../types.ts";
import { parseCniArgs } from "./args.ts";
import { type CniConfig, decodeConfig, mergeRequested, parseMac, parseRequestedAddress, readConfig } from "./config.ts";
import { CniError, ErrorCode } from "./error.ts";
import { atLeast, type CniVersion, LATEST_VERSION } from "./version.ts";

export const commands = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] as const;
export type CniCommand = (typeof commands)[number];

export interface Target {
  containerId: string;
  ifname: string;
}

export type CniRequest =
  | { command: "VERSION"; cniVersion: string }
  | { command: "STATUS"; config: CniConfig }
  | { command: "GC"; config: CniConfig }
  /** An empty or absent CNI_NETNS: the namespace is gone; everything else is released all the same. */
  | { command: "DEL"; config: CniConfig; target: Target; netns?: string }
  | { command: "ADD" | "CHECK"; config: CniConfig; target: Target; netns: string; pod?: PodName };

export interface RawRequest {
  /** CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH. */
  env: Record<string, string | undefined>;
  stdin: string;
}

/** Octets: runtimes name files by it. cni/plugin/podlane.c and podlane.ts have the same. */
const MAXIMUM_CONTAINER_ID = 255;
const containerIdPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
const since: Partial<Record<CniCommand, CniVersion>> = { CHECK: "0.4.0", GC: "1.1.0", STATUS: "1.1.0" };

/** Throws CniError: 1 version, 2 unsupported field, 4 environment, 6 not JSON, 7 configuration. */
export function parseRequest({ env, stdin }: RawRequest): CniRequest {
  const command = readCommand(env.CNI_COMMAND);
  if (command === "VERSION") return { command, cniVersion: versionOf(stdin) };
  const raw = decodeConfig(stdin);
  const config = readConfig(raw, command === "DEL" || command === "GC");
  const minimum = since[command];
  if (minimum && !atLeast(config.cniVersion, minimum)) {
    throw new CniError(
      ErrorCode.incompatibleVersion,
      `${command} needs cniVersion ${minimum}; the configuration says ${config.cniVersion}`,
    );
  }
  if (command === "STATUS" || command === "GC") return { command, config };

  const target = readTarget(env);
  const netns = env.CNI_NETNS ?? "";
  if (command === "DEL") return { command, config, target, ...(isPath(netns) && { netns }) };
  if (!isPath(netns)) throw environment(["CNI_NETNS"], netns === "" ? "is missing" : `"${netns}" is not an absolute path`);
  return { command, config: withArgs(config, env.CNI_ARGS ?? ""), target, netns, ...podOf(env.CNI_ARGS ?? "") };
}

/** The cniVersion that an answer to this input shall carry, whatever else is wrong with it. */
export function versionOf(stdin: string): string {
  try {
    const version = decodeConfig(stdin).cniVersion;
    return typeof version === "string" && version.length <= 32 ? version : LATEST_VERSION;
  } catch {
    return LATEST_VERSION;
  }
}

/** What is wrong with an interface name by the kernel's dev_valid_name; undefined = nothing. */
export function interfaceNameProblem(name: string): string | undefined {
  if (name === "") return "is missing";
  if (Buffer.byteLength(name) > 15) return `"${name}" is longer than 15 octets`;
  if (name === "." || name === "..") return `"${name}" is not a name`;
  if (/[/:\s\0]/.test(name)) return `"${name}" contains "/", ":" or white space`;
  // The kernel would look for the next free number.
  if (name.includes("%")) return `"${name}" contains "%"`;
  return undefined;
}

function readCommand(value: string | undefined): CniCommand {
  const command = commands.find(name => name === value);
  if (command) return command;
  throw environment(["CNI_COMMAND"], value ? `"${value}" is not one of ${commands.join(", ")}` : "is missing");
}

function readTarget(env: RawRequest["env"]): Target {
  const containerId = env.CNI_CONTAINERID ?? "";
  const ifname = env.CNI_IFNAME ?? "";
  const missing = [...(containerId ? [] : ["CNI_CONTAINERID"]), ...(ifname ? [] : ["CNI_IFNAME"])];
  if (missing.length > 0) throw environment(missing, missing.length > 1 ? "are missing" : "is missing");
  if (containerId.length > MAXIMUM_CONTAINER_ID || !containerIdPattern.test(containerId)) {
    throw environment(
      ["CNI_CONTAINERID"],
      `"${containerId.slice(0, 80)}" is not a letter or digit, then letters, digits, _ . - (at most ${MAXIMUM_CONTAINER_ID})`,
    );
  }
  const problem = interfaceNameProblem(ifname);
  if (problem) throw environment(["CNI_IFNAME"], problem);
  return { containerId, ifname };
}

/** The configuration's word comes before that of CNI_ARGS (CNI CONVENTIONS "CNI_ARGS"). */
function withArgs(config: CniConfig, text: string): CniConfig {
  const args = parseCniArgs(text);
  const ips = args.ips.map(ip => parseRequestedAddress(ip, "CNI_ARGS IP", ErrorCode.invalidEnvironment));
  const mac = args.mac === undefined ? undefined : parseMac(args.mac, "CNI_ARGS MAC", ErrorCode.invalidEnvironment);
  return { ...config, ips: config.ips.length > 0 ? config.ips : mergeRequested(ips), mac: config.mac ?? mac };
}

function podOf(text: string): { pod?: PodName } {
  const { pod } = parseCniArgs(text);
  return pod ? { pod } : {};
}

function isPath(value: string): boolean {
  return value.startsWith("/") && value.length <= 4096 && !value.includes("\0");
}

function environment(names: string[], problem: string): CniError {
  return new CniError(ErrorCode.invalidEnvironment, `${names.join(", ")} ${problem}`, "the container runtime sets these variables");
}

export function keyOf({ config, target }: Extract<CniRequest, { target: unknown }>): Key {
  return { network: config.name, ...target };
}
