/**
 * DELs that the plugin took while no agent answered: one file for each attachment, in the form of the plugin's own request
 * (headers, an empty line, the configuration). Untrusted like any call.
 */
import fs from "node:fs";
import path from "node:path";
import { decodeHeaders, MAXIMUM_REQUEST } from "../http.ts";
import type { RawRequest, Target } from "../protocol/request.ts";

export interface QueuedDel {
  file: string;
  /** undefined: the file is not what the plugin writes. */
  request?: RawRequest;
}

/** Oldest first; empty where there is no queue. */
export function readQueue(directory: string): QueuedDel[] {
  return listFiles(directory)
    .map(file => ({ file, mtime: fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => a.mtime - b.mtime)
    .map(({ file }) => ({ file, request: readRequest(file) }));
}

/** The file that a DEL of this attachment stands in. */
export function queueFile(directory: string, { containerId, ifname }: Target): string {
  return path.join(directory, `${containerId}@${ifname}`);
}

/** A file of a name that is too long was never written. */
export function removeQueued(file: string): void {
  try {
    fs.rmSync(file, { force: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENAMETOOLONG") throw error;
  }
}

function listFiles(directory: string): string[] {
  try {
    return fs
      .readdirSync(directory, { withFileTypes: true })
      .filter(entry => entry.isFile() && !entry.name.startsWith("."))
      .map(entry => path.join(directory, entry.name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function readRequest(file: string): RawRequest | undefined {
  const size = fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  if (size === 0 || size > MAXIMUM_REQUEST) return undefined;
  const text = fs.readFileSync(file, "utf8");
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const headers: Record<string, string> = {};
  for (const line of text.slice(0, end).split("\r\n")) {
    const colon = line.indexOf(": ");
    if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 2);
  }
  const env = decodeHeaders(headers);
  return env && { env: { ...env, CNI_COMMAND: "DEL" }, stdin: text.slice(end + 4) };
}
