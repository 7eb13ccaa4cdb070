/** How what policies need in the ruleset is named: by what it holds, so that a restarted agent finds it again. All of it begins with "np-". */
import { createHash } from "node:crypto";

export type Direction = "ingress" | "egress";

/** In whose table everything stands. */
export const Place = { family: "inet", table: "podlane" } as const;

/** Base chains, both in the hook forward: what leaves pods of this node, and behind it what comes to them. Each of them has to accept a packet. */
export const BaseChains: Readonly<Record<Direction, string>> = { egress: "np-egress", ingress: "np-ingress" };

/** In names. */
export const Letters: Readonly<Record<Direction, string>> = { ingress: "in", egress: "out" };

/** Hexadecimal digits of a hash: 96 bits, as who writes policies must not find two of one name. */
const HASH_LENGTH = 24;
/** What nft keeps of a comment besides the writer's digest. */
const COMMENT_LENGTH = 100;

/** `np-KIND-HASH` of what it holds. */
export function nameOf(kind: string, content: unknown): string {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  return `np-${kind}-${createHash("sha256").update(text).digest("hex").slice(0, HASH_LENGTH)}`;
}

/** From pod address to chain. */
export function mapName(direction: Direction, family: 4 | 6): string {
  return `np-${Letters[direction]}${family}`;
}

/** Pairs of an address with itself, or with another one of its pod. */
export function selfName(family: 4 | 6): string {
  return `np-self${family}`;
}

export function counterName(direction: Direction, policy: string): string {
  return nameOf(`drop-${Letters[direction]}`, policy);
}

/** Cut to what nft keeps; names of Kubernetes are ASCII, names of rules need not be. */
export function comment(text: string): string {
  const plain = text.replace(/[^\x20-\x7e]|["\\]/g, "?");
  return plain.length > COMMENT_LENGTH ? `${plain.slice(0, COMMENT_LENGTH - 1)}~` : plain;
}
