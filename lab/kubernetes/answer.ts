/** One request to an API server, whatever carries it, and what comes back. */
import type { ClientRequest, IncomingMessage } from "node:http";

export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the API server answers.
  body: any;
}

/** A PATCH is a merge patch. */
export function contentType(method: string): string {
  return method === "PATCH" ? "application/merge-patch+json" : "application/json";
}

/** Sends the request with this body. Rejects where there is no answer. */
export function answerOf(sent: ClientRequest, body: unknown): Promise<Answer> {
  return new Promise((resolve, reject) => {
    sent.on("error", reject);
    sent.on("response", (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      response.on("data", chunk => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        const json = response.headers["content-type"]?.includes("json");
        resolve({ status: response.statusCode ?? 0, body: json ? JSON.parse(text) : text });
      });
    });
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
