/** Asks what listens on this node's own loopback, such as kube-proxy: one request, bounded in time and size. */
import { request } from "node:http";
import type { Clock } from "../../platform/clock.ts";

export interface HttpAnswer {
  status: number;
  body: string;
}

/** Rejects with an Error in words where nothing answers. */
export type Ask = (port: number, path: string) => Promise<HttpAnswer>;

/** Milliseconds that an answer may take. */
const PATIENCE = 1000;
/** Octets of one. */
const MAX_BODY = 64 << 10;

const Words: Record<string, string> = {
  ECONNREFUSED: "nothing listens there",
  ECONNRESET: "it broke the connection off",
};

export function askLoopback(clock: Clock): Ask {
  return (port, path) =>
    new Promise((resolve, reject) => {
      const outgoing = request({ host: "127.0.0.1", port, path, agent: false, headers: { connection: "close" } }, response => {
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
        reject(new Error(Words[error.code ?? ""] ?? error.message));
      }
    });
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
