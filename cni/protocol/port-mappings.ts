/** The capability portMappings (CNI CONVENTIONS "port mappings"): ports of the node that lead to the pod. */
import { formatAddress, isAddress, parseAddress } from "../../net/address.ts";
import type { PortMapping } from "../types.ts";
import { isObject, optionalArray, readString, wrong } from "./json.ts";

const MAXIMUM_MAPPINGS = 1024;
const LARGEST_PORT = 65535;
const protocols: readonly string[] = ["tcp", "udp", "sctp"] satisfies PortMapping["protocol"][];

/** Without those that name no port of the node. Throws CniError code 7. */
export function readPortMappings(value: unknown): PortMapping[] {
  const mappings = optionalArray(value, "runtimeConfig.portMappings", MAXIMUM_MAPPINGS).map((entry, at) =>
    readMapping(entry, `runtimeConfig.portMappings[${at}]`),
  );
  return mappings.filter(({ hostPort }) => hostPort > 0);
}

function readMapping(entry: unknown, place: string): PortMapping {
  if (!isObject(entry)) throw wrong(place, "an object", entry);
  const { hostPort, containerPort } = entry;
  const protocol = readString(entry.protocol ?? "tcp", `${place}.protocol`).toLowerCase();
  if (!protocols.includes(protocol)) throw wrong(`${place}.protocol`, `one of ${protocols.join(", ")}`, entry.protocol);
  const hostIP = readString(entry.hostIP ?? "", `${place}.hostIP`);
  if (hostIP !== "" && !isAddress(hostIP)) throw wrong(`${place}.hostIP`, "an address", hostIP);
  return {
    protocol: protocol as PortMapping["protocol"],
    // Zero: the runtime chose none.
    hostPort: hostPort === 0 || hostPort === undefined ? 0 : readPort(hostPort, `${place}.hostPort`),
    containerPort: readPort(containerPort, `${place}.containerPort`),
    ...(hostIP !== "" && { hostIP: formatAddress(parseAddress(hostIP)) }),
  };
}

function readPort(value: unknown, place: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= LARGEST_PORT) return value;
  throw wrong(place, `a port of 1 to ${LARGEST_PORT}`, value);
}
