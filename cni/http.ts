/**
 * `POST /v1/cni` of the local API: what the plugin sends, to a handler. The environment comes as percent-encoded headers
 * (X-Cni-Command is CNI_COMMAND), the network configuration as the body; the answer is what goes to standard output.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { CniError, ErrorCode, formatError } from "./protocol/error.ts";
import type { RawRequest } from "./protocol/request.ts";
import { LATEST_VERSION } from "./protocol/version.ts";

export const CNI_PATH = "/v1/cni";
/** Octets of a body; the plugin sends no more. */
export const MAXIMUM_REQUEST = (1 << 20) + 16384;

export interface CniAnswer {
  /** 200: the plugin exits with 0. */
  status: number;
  body: string;
  /** That of the error (protocol/error.ts); 0: done. */
  code: number;
}

const variables: [string, string][] = [
  ["x-cni-command", "CNI_COMMAND"],
  ["x-cni-containerid", "CNI_CONTAINERID"],
  ["x-cni-netns", "CNI_NETNS"],
  ["x-cni-ifname", "CNI_IFNAME"],
  ["x-cni-args", "CNI_ARGS"],
  ["x-cni-path", "CNI_PATH"],
  ["x-cni-traceparent", "TRACEPARENT"],
  ["x-cni-tracestate", "TRACESTATE"],
  ["x-cni-baggage", "BAGGAGE"],
];

/** The environment of a call; undefined where a header is not percent-encoded. What is not UTF-8 in it becomes U+FFFD. */
export function decodeHeaders(headers: IncomingHttpHeaders): Record<string, string> | undefined {
  const env: Record<string, string> = {};
  for (const [header, variable] of variables) {
    const value = headers[header];
    if (typeof value !== "string") continue;
    if (/%(?![0-9a-f]{2})/i.test(value)) return undefined;
    const octets = value.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    env[variable] = Buffer.from(octets, "latin1").toString("utf8");
  }
  return env;
}

/** Mount this on the agent's Unix socket for POST /v1/cni. Never throws; always answers. */
export async function serveCni(
  handle: (request: RawRequest) => Promise<CniAnswer>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const answer = await readCall(request).then(handle, error => {
    const answer = formatError(error, LATEST_VERSION);
    return { status: 400, body: JSON.stringify(answer), code: answer.code };
  });
  const body = Buffer.from(answer.body);
  response.writeHead(answer.status, { "Content-Type": "application/json", "Content-Length": body.length });
  response.end(body);
}

async function readCall(request: IncomingMessage): Promise<RawRequest> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length <= MAXIMUM_REQUEST) chunks.push(chunk);
  }
  if (length > MAXIMUM_REQUEST) throw new CniError(ErrorCode.decode, `the network configuration is longer than ${MAXIMUM_REQUEST} octets`);
  const env = decodeHeaders(request.headers);
  if (!env) throw new CniError(ErrorCode.invalidEnvironment, "an X-Cni header is not percent-encoded");
  return { env, stdin: Buffer.concat(chunks).toString("utf8") };
}
