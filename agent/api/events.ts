/**
 * GET /v1/events: one JSON object per line, from now on, until the client goes. A client that does not read is cut off rather than
 * buffered for without end. The last line says why there is no other.
 */
import type { ServerResponse } from "node:http";
import { ApiError } from "./error.ts";
import type { EventView } from "./views.ts";

const MAX_CLIENTS = 16;
/** Octets that wait for a client before it is cut off. */
const MAX_BACKLOG = 1 << 20;

export class EventStream {
  readonly #clients = new Set<ServerResponse>();

  /** Throws ApiError 503 when there are too many. */
  add(response: ServerResponse): void {
    if (this.#clients.size >= MAX_CLIENTS) {
      throw new ApiError(503, `${MAX_CLIENTS} clients follow the events already`, "end one of them");
    }
    this.#clients.add(response);
    response.on("close", () => this.#clients.delete(response));
    response.writeHead(200, { "content-type": "application/x-ndjson", "cache-control": "no-store" });
    response.flushHeaders();
  }

  publish(event: EventView): void {
    if (this.#clients.size === 0) return;
    const line = `${JSON.stringify(event)}\n`;
    for (const client of this.#clients) {
      if (client.writableLength > MAX_BACKLOG) client.destroy();
      else client.write(line);
    }
  }

  /** `last` tells the clients why the stream ends. */
  close(last: EventView): void {
    for (const client of this.#clients) client.end(`${JSON.stringify(last)}\n`);
  }
}
