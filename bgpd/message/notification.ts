/**
 * NOTIFICATION: its octets, and what it says in words (RFC 4271 sections 4.5 and 6; subcodes of RFC 4486, 6608, 7313, 9687; shutdown
 * communication of RFC 9003, which a neighbour writes and which is therefore bounded and cleaned before anybody sees it).
 */
import { formatAddress, uint32ToAddress } from "../../net/address.ts";
import { HEADER_LENGTH, MessageType, newMessage } from "./header.ts";
import { describeNotificationData, hex } from "./notification-data.ts";
import type { NotificationMessage } from "./types.ts";
import { MessageError } from "./types.ts";

export const ErrorCode = {
  Header: 1,
  Open: 2,
  Update: 3,
  HoldTimerExpired: 4,
  StateMachine: 5,
  Cease: 6,
  RouteRefresh: 7,
  SendHoldTimerExpired: 8,
} as const;

/** RFC 4486, RFC 8538 section 3.1, RFC 9384. */
export const CeaseSubcode = {
  MaximumPrefixes: 1,
  AdministrativeShutdown: 2,
  PeerDeconfigured: 3,
  AdministrativeReset: 4,
  ConnectionRejected: 5,
  OtherConfigurationChange: 6,
  ConnectionCollision: 7,
  OutOfResources: 8,
  HardReset: 9,
  BfdDown: 10,
} as const;

/** RFC 6608. */
export const StateMachineSubcode = { InOpenSent: 1, InOpenConfirm: 2, InEstablished: 3 } as const;

/** Octets of a shutdown communication, RFC 9003 section 2. */
const MAX_COMMUNICATION = 255;

/** IANA "BGP Error (Notification) Codes" with their subcodes. */
const codes: Record<number, { name: string; subcodes: Record<number, string> }> = {
  1: {
    name: "Message Header Error",
    subcodes: { 1: "Connection Not Synchronized", 2: "Bad Message Length", 3: "Bad Message Type" },
  },
  2: {
    name: "OPEN Message Error",
    subcodes: {
      1: "Unsupported Version Number",
      2: "Bad Peer AS",
      3: "Bad BGP Identifier",
      4: "Unsupported Optional Parameter",
      5: "Authentication Failure",
      6: "Unacceptable Hold Time",
      7: "Unsupported Capability",
      11: "Role Mismatch",
    },
  },
  3: {
    name: "UPDATE Message Error",
    subcodes: {
      1: "Malformed Attribute List",
      2: "Unrecognized Well-known Attribute",
      3: "Missing Well-known Attribute",
      4: "Attribute Flags Error",
      5: "Attribute Length Error",
      6: "Invalid ORIGIN Attribute",
      7: "AS Routing Loop",
      8: "Invalid NEXT_HOP Attribute",
      9: "Optional Attribute Error",
      10: "Invalid Network Field",
      11: "Malformed AS_PATH",
    },
  },
  4: { name: "Hold Timer Expired", subcodes: {} },
  5: {
    name: "Finite State Machine Error",
    subcodes: {
      1: "Unexpected Message in OpenSent State",
      2: "Unexpected Message in OpenConfirm State",
      3: "Unexpected Message in Established State",
    },
  },
  6: {
    name: "Cease",
    subcodes: {
      1: "Maximum Number of Prefixes Reached",
      2: "Administrative Shutdown",
      3: "Peer De-configured",
      4: "Administrative Reset",
      5: "Connection Rejected",
      6: "Other Configuration Change",
      7: "Connection Collision Resolution",
      8: "Out of Resources",
      9: "Hard Reset",
      10: "BFD Down",
    },
  },
  7: { name: "ROUTE-REFRESH Message Error", subcodes: { 1: "Invalid Message Length" } },
  8: { name: "Send Hold Timer Expired", subcodes: {} },
};

/** Data that would make the message longer than 4096 octets is cut. */
export function encodeNotification(code: number, subcode: number, data: Uint8Array = new Uint8Array()): Uint8Array {
  const kept = data.subarray(0, 4096 - HEADER_LENGTH - 2);
  const message = newMessage(MessageType.Notification, 2 + kept.length);
  message[HEADER_LENGTH] = code;
  message[HEADER_LENGTH + 1] = subcode;
  message.set(kept, HEADER_LENGTH + 2);
  return message;
}

/** The message must have passed readHeader. The data is a copy. */
export function decodeNotification(message: Uint8Array): NotificationMessage {
  if (message.length < HEADER_LENGTH + 2) throw new MessageError(`NOTIFICATION of ${message.length} octets`, 1, 2, message.slice(16, 18));
  return { code: message[HEADER_LENGTH], subcode: message[HEADER_LENGTH + 1], data: message.slice(HEADER_LENGTH + 2) };
}

/** Data of a Cease/2 or Cease/4 that tells the neighbour's operators why; cut at a character to at most 255 octets. */
export function encodeCommunication(text: string): Uint8Array {
  const octets = new Uint8Array(1 + MAX_COMMUNICATION);
  const { written } = new TextEncoder().encodeInto(text, octets.subarray(1));
  octets[0] = written;
  return octets.slice(0, 1 + written);
}

/** What a neighbour that sends a NOTIFICATION has got from us. */
export interface SentOpen {
  asn: number;
  /** Unsigned 32 bit. */
  id: number;
  /** Seconds. */
  holdTime: number;
}

/** The same of one that came, where what it means depends on what was sent: `OPEN Message Error/Bad Peer AS: it expects another AS than 65011`. */
export function describeReceived(notification: NotificationMessage, sent: SentOpen): string {
  const text = describeNotification(notification);
  const { code, subcode } = notification;
  if (code === ErrorCode.Cease && subcode === CeaseSubcode.HardReset && notification.data.length >= 2) {
    const [innerCode, innerSubcode] = notification.data;
    const meaning = meaningOf(innerCode, innerSubcode, sent);
    return meaning ? `${text}: ${meaning}` : text;
  }
  const meaning = meaningOf(code, subcode, sent);
  return meaning ? `${text}: ${meaning}` : text;
}

function meaningOf(code: number, subcode: number, { asn, id, holdTime }: SentOpen): string | undefined {
  if (code !== ErrorCode.Open) return undefined;
  switch (subcode) {
    case 2:
      return `it expects another AS than ${asn}`;
    case 3:
      return `it does not accept the router id ${formatAddress(uint32ToAddress(id))}`;
    case 6:
      return `it does not accept the hold time of ${holdTime} s`;
    case 7:
      return "it asks for capabilities that were not announced to it";
    default:
      return undefined;
  }
}

/** In words: `Cease/Administrative Shutdown: "upgrade"`, `OPEN Message Error/Bad Peer AS`. At most a few hundred characters. */
export function describeNotification(notification: NotificationMessage): string {
  const row = codes[notification.code];
  const name = row?.name ?? `error code ${notification.code}`;
  const subname = row?.subcodes[notification.subcode] ?? (notification.subcode === 0 ? "" : `subcode ${notification.subcode}`);
  const detail = describeData(notification);
  return `${name}${subname && `/${subname}`}${detail && `: ${detail}`}`;
}

function describeData({ code, subcode, data }: NotificationMessage): string {
  if (data.length === 0) return "";
  const key = `${code}/${subcode}`;
  if (key === "6/2" || key === "6/4") return describeCommunication(data);
  if (key === "6/9" && data.length >= 2) return describeNotification({ code: data[0], subcode: data[1], data: hardResetData(data) });
  return describeNotificationData(code, subcode, data) ?? `data ${hex(data)}`;
}

/** A hard reset inside a hard reset is not unfolded further (RFC 8538 section 3.1 does not allow it; the neighbour may send it). */
function hardResetData(data: Uint8Array): Uint8Array {
  return data[0] === ErrorCode.Cease && data[1] === CeaseSubcode.HardReset ? new Uint8Array() : data.subarray(2);
}

function describeCommunication(data: Uint8Array): string {
  const length = data[0];
  if (length === 0) return "";
  if (length > data.length - 1) return `data ${hex(data)} (not a shutdown communication)`;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(1, 1 + length));
    return JSON.stringify(text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, " "));
  } catch {
    return `data ${hex(data)} (not valid UTF-8)`;
  }
}
