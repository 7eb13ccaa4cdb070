/** Test support: messages written as hex, and what a refused one would make us send. */
import { hexOf } from "../../net/octets.ts";
import { HEADER_LENGTH, type MessageType, newMessage } from "./header.ts";
import { MessageError } from "./types.ts";

/** Octets of hex text; white space is for the reader. */
export function fromHex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, "");
  if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) throw new Error(`not hex: ${text}`);
  return Uint8Array.from(digits.match(/../g) ?? [], pair => Number.parseInt(pair, 16));
}

/** A message with the right length in its header around this body. */
export function message(type: MessageType, body: string): Uint8Array {
  const octets = fromHex(body);
  const whole = newMessage(type, octets.length);
  whole.set(octets, HEADER_LENGTH);
  return whole;
}

/** An UPDATE of these three fields, lengths added. */
export function update(parts: { withdrawn?: string; attributes?: string; nlri?: string }): Uint8Array {
  const withdrawn = fromHex(parts.withdrawn ?? "");
  const attributes = fromHex(parts.attributes ?? "");
  const nlri = fromHex(parts.nlri ?? "");
  return message(2, `${length16(withdrawn)}${hexOf(withdrawn)}${length16(attributes)}${hexOf(attributes)}${hexOf(nlri)}`);
}

/** The NOTIFICATION of the MessageError that `run` must throw. */
export function messageError(run: () => unknown): { code: number; subcode: number; data: string } {
  try {
    run();
  } catch (error) {
    if (error instanceof MessageError) return { code: error.code, subcode: error.subcode, data: hexOf(error.data) };
    throw error;
  }
  throw new Error("nothing was thrown");
}

function length16(octets: Uint8Array): string {
  return octets.length.toString(16).padStart(4, "0");
}
