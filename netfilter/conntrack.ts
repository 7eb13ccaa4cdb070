/** Connections that the kernel knows, as /proc/net/nf_conntrack lists them. Pure. */
import type { PolicyProtocol } from "./policy/types.ts";

/** From who began it to who answers, behind all translation. */
export interface TrackedConnection {
  from: string;
  to: string;
  protocol: PolicyProtocol;
  port: number;
}

const protocols: Readonly<Record<string, PolicyProtocol>> = { tcp: "TCP", udp: "UDP", sctp: "SCTP" };
/** States in which nothing is carried any more. */
const ended = /\b(?:TIME_WAIT|CLOSE|LAST_ACK|CLOSED|SHUTDOWN_ACK_SENT)\b/;

/** Lines of other protocols, and what cannot be read, are left out; of one destination and source each port once. */
export function parseConntrack(text: string): TrackedConnection[] {
  const found = new Map<string, TrackedConnection>();
  for (const line of text.split("\n")) {
    const protocol = protocols[line.split(/\s+/)[2] ?? ""];
    const [from, to] = [...line.matchAll(/\bsrc=(\S+) dst=\S+ sport=(\d+)/g)];
    if (!protocol || !from || !to || ended.test(line)) continue;
    const one = { from: from[1], to: to[1], protocol, port: Number(to[2]) };
    found.set(JSON.stringify(one), one);
  }
  return [...found.values()];
}
