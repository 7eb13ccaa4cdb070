/** Reading a request of the local API: every part bounded and checked, each refusal an ApiError. */
import type { IncomingMessage } from "node:http";
import { isAddress, isPrefix } from "../../net/address.ts";
import { ApiError } from "./error.ts";

/** Longest request target in octets. */
const MAX_URL = 2048;

export interface Target {
  /** Decoded path segments. */
  segments: string[];
  query: URLSearchParams;
}

/** Throws ApiError 400 and 414. */
export function readTarget(url: string): Target {
  if (url.length > MAX_URL) throw new ApiError(414, `the request target has more than ${MAX_URL} octets`, "shorten it");
  if (!url.startsWith("/")) throw new ApiError(400, "the request target is not a path", "use a path such as /v1/status");
  const [path, ...query] = url.split("?");
  try {
    const segments = path.slice(1).split("/").map(decodeURIComponent);
    return { segments, query: new URLSearchParams(query.join("?")) };
  } catch {
    throw new ApiError(400, "the path has a percent sign that encodes nothing", "write a percent sign as %25");
  }
}

/** The query as an object that has only `names`. Throws ApiError 400 for others and for repetitions. */
export function readQuery<Name extends string>(query: URLSearchParams, names: readonly Name[]): Partial<Record<Name, string>> {
  const found: Partial<Record<Name, string>> = {};
  for (const [key, value] of query) {
    const name = names.find(one => one === key);
    const allowed = names.length > 0 ? `known here: ${names.join(", ")}` : "this path takes none";
    if (name === undefined) throw new ApiError(400, `unknown parameter "${key}"`, allowed);
    if (found[name] !== undefined) throw new ApiError(400, `parameter "${key}" is given twice`, "give it once");
    found[name] = value;
  }
  return found;
}

/** A prefix or, unless it must be one, an address as it was written, checked. */
export function readPrefix(text: string, allowed: "address too" | "prefix only" = "address too"): string {
  const both = allowed === "address too";
  if (isPrefix(text) || (both && isAddress(text))) return text;
  throw new ApiError(
    400,
    `"${text.slice(0, 64)}" is ${both ? "neither a prefix nor an address" : "not a prefix"}`,
    `write ADDRESS/LENGTH without bits set beyond the length${both ? ", or an address" : ""}`,
  );
}

export function readChoice<const Choice extends string>(name: string, text: string, choices: readonly Choice[]): Choice {
  const choice = choices.find(one => one === text);
  if (choice !== undefined) return choice;
  throw new ApiError(400, `"${text.slice(0, 64)}" is no ${name}`, `use one of ${choices.join(", ")}`);
}

export function readInteger(name: string, text: string, minimum: number, maximum: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  throw new ApiError(400, `${name} "${text.slice(0, 64)}" is not a whole number from ${minimum} to ${maximum}`, `choose one in that range`);
}

/** The whole body as text. Throws ApiError 413 beyond `limit` octets and 400 when it is not UTF-8. */
export async function readBody(request: IncomingMessage, limit: number): Promise<string> {
  const tooLong = () =>
    new ApiError(413, `the body has more than ${limit} octets`, limit > 0 ? "send less" : "this path takes no body", {
      connection: "close",
    });
  if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLong();
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > limit) throw tooLong();
    chunks.push(chunk);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw new ApiError(400, "the body is not UTF-8", "encode it as UTF-8");
  }
}
