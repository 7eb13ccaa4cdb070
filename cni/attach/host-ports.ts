/** Ports of the node are given to one pod each. */
import type { Reservation } from "../ipam/book.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import type { PortMapping } from "../types.ts";

/**
 * Throws CniError where another attachment has one of them. The scheduler gives a port of a node to one pod at a time, so the other is about to go: code
 * 11, and the runtime comes again.
 */
export function requireFreePorts(wanted: readonly PortMapping[], hostInterface: string, reservations: readonly Reservation[]): void {
  if (wanted.length === 0) return;
  for (const other of reservations) {
    if (other.hostInterface === hostInterface) continue;
    const taken = wanted.find(one => other.ports?.some(port => collide(one, port)));
    if (!taken) continue;
    const { protocol, hostPort, hostIP } = taken;
    const name = other.pod ? `pod ${other.pod.namespace}/${other.pod.name}` : `container ${other.containerId}`;
    throw new CniError(
      ErrorCode.tryAgainLater,
      `the node's ${protocol} port ${hostPort}${hostIP ? ` of ${hostIP}` : ""} leads to ${name} already`,
      "remove that pod, or use another hostPort",
    );
  }
}

/** As the scheduler sees it: any address is also each. */
function collide(a: PortMapping, b: PortMapping): boolean {
  if (a.protocol !== b.protocol || a.hostPort !== b.hostPort) return false;
  if (a.hostIP === undefined || b.hostIP === undefined || a.hostIP === b.hostIP) return true;
  if (a.hostIP.includes(":") !== b.hostIP.includes(":")) return false;
  return [a.hostIP, b.hostIP].some(address => address === "0.0.0.0" || address === "::");
}
