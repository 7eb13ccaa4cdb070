/** KEEPALIVE (RFC 4271 section 4.4): a header and nothing else. */
import { MessageType, newMessage } from "./header.ts";

/** The whole message. Do not write to it; a sender that gives octets away copies it. */
export const KEEPALIVE: Uint8Array = newMessage(MessageType.Keepalive, 0);
