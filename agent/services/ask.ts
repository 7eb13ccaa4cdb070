/**
 * Asks what listens on this node, such as kube-proxy: one request, bounded in time and size. On the loopback first; where nothing listens there, on the node's
 * other addresses: with --nodeport-addresses=primary, which is the default of mode nftables, kube-proxy serves healthCheckNodePort on the node's own alone.
 */
import { networkInterfaces } from "node:os";
import type { ServiceIndex } from "../../config/services/service-index.ts";
import { formatAddress, type IpFamily, parseAddress } from "../../net/address.ts";
import type { Clock } from "../../platform/clock.ts";
import { request } from "../node-http.ts";

export interface HttpAnswer {
  status: number;
  body: string;
}

/** Rejects with an Error in words where nothing answers. */
export type Ask = (port: number, path: string, family?: IpFamily) => Promise<HttpAnswer>;

/** Milliseconds that an answer may take. */
const PATIENCE = 1000;
/** Octets of one. */
const MAX_BODY = 64 << 10;
const LOOPBACKS = ["127.0.0.1", "::1"];
/** Addresses of a node with mode ipvs may be thousands. */
const MAX_ADDRESSES = 16;
/** Milliseconds for which it is kept which of them are free. */
const KEPT = 1000;
const REFUSED = "ECONNREFUSED";

const Words: Record<string, string> = {
  [REFUSED]: "nothing listens there",
  // No IPv6 here.
  EADDRNOTAVAIL: "nothing listens there",
  ENETUNREACH: "nothing listens there",
  ECONNRESET: "it broke the connection off",
};

/** `addresses`: of the node, for what does not listen on its loopback. */
export function askNode(clock: Clock, addresses: () => readonly string[]): Ask {
  return async (port, path, family) => {
    let refused: Error | undefined;
    const hosts = [...LOOPBACKS, ...addresses().slice(0, MAX_ADDRESSES)];
    for (const host of hosts.filter(text => family === undefined || text.includes(":") === (family === 6))) {
      const answer = await askAt(clock, host, port, path);
      if (!(answer instanceof Error)) return answer;
      // Only where nothing listens can it be elsewhere.
      if (answer.message !== Words[REFUSED]) throw answer;
      refused ??= answer;
    }
    throw refused;
  };
}

function askAt(clock: Clock, host: string, port: number, path: string): Promise<HttpAnswer | Error> {
  return new Promise(resolve => {
    const outgoing = request({ host, port, path, agent: false, headers: { connection: "close" } }, response => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on("data", (chunk: Buffer) => {
        length += chunk.length;
        if (length > MAX_BODY) outgoing.destroy(new Error(`its answer has more than ${MAX_BODY} octets`));
        else chunks.push(chunk);
      });
      response.on("error", fail);
      response.on("end", () => {
        timer.cancel();
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString("utf8") });
      });
    });
    const timer = clock.after(PATIENCE, () => outgoing.destroy(new Error(`it has not answered within ${PATIENCE / 1000} s`)));
    outgoing.on("error", fail);
    outgoing.end();

    function fail(error: NodeJS.ErrnoException): void {
      timer.cancel();
      resolve(new Error(Words[error.code ?? ""] ?? error.message));
    }
  });
}

/**
 * The node's addresses that no Service has: packets to those of Services go to endpoints, and what these say is not the proxy's word. None before it is known
 * which Services there are.
 */
export function freeAddresses(clock: Clock, index: ServiceIndex | undefined, own = ownAddresses): () => readonly string[] {
  let free: readonly string[] = [];
  let until = Number.NEGATIVE_INFINITY;
  return () => {
    if (!index?.complete) return [];
    if (clock.monotonic() < until) return free;
    until = clock.monotonic() + KEPT;
    const taken = new Set<string>();
    for (const { addresses } of index.services()) for (const all of Object.values(addresses)) for (const one of all) taken.add(one);
    free = own().filter(address => !taken.has(formatAddress(parseAddress(address))));
    return free;
  };
}

/** But for link-local ones, on which no proxy listens. */
function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(all =>
    (all ?? []).flatMap(({ address, internal }) => (internal || address.startsWith("fe80:") ? [] : [address])),
  );
}

/** undefined: it is no JSON object. */
export function jsonOf(body: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
