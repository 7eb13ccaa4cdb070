/** `podlane explain POD POD:PORT`: which rule of which policy lets a connection pass, or drops it; and `podlane policies`. */
import { isAddress } from "../net/address.ts";
import { CliError } from "./error.ts";

export interface ConnectionQuery {
  from: string;
  to: string;
  port: number;
  protocol: "TCP" | "UDP" | "SCTP";
}

const HOW = "write POD POD:PORT, such as shop/web shop/db:5432/TCP; pods by namespace/name, others by address, IPv6 in brackets";
const arrows = new Set(["→", "->", "to"]);
const protocols = ["TCP", "UDP", "SCTP"] as const;

/** "shop/web → shop/db:5432/UDP" as the shell cut it. A pod without a namespace is in default. Throws CliError. */
export function readConnection(given: readonly string[]): ConnectionQuery {
  const words = given.filter(word => !arrows.has(word));
  if (words.length !== 2) throw new CliError(`"${given.join(" ")}" is no connection`, HOW, 2);
  const [, target, digits, name = "TCP"] = /^(.+):(\d{1,5})(?:\/([a-z]+))?$/i.exec(words[1]) ?? [];
  const port = Number(digits);
  const protocol = protocols.find(one => one === name.toUpperCase());
  if (target === undefined || port < 1 || port > 65535) throw new CliError(`"${words[1]}" says no port`, HOW, 2);
  if (!protocol) throw new CliError(`"${name}" is no protocol of policies`, `write ${protocols.join(", ")}`, 2);
  return { from: readEnd(words[0]), to: readEnd(target), port, protocol };
}

function readEnd(text: string): string {
  const plain = text.replace(/^\[(.*)\]$/, "$1").replace(/^pod\//, "");
  if (isAddress(plain)) return plain;
  if (/^([a-z0-9]([-a-z0-9]*[a-z0-9])?\/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(plain))
    return plain.includes("/") ? plain : `default/${plain}`;
  throw new CliError(`"${text}" is neither a pod nor an address`, HOW, 2);
}
