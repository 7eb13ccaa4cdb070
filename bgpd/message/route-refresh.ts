/** ROUTE-REFRESH (RFC 2918 section 3; the subtype in its reserved octet: RFC 7313 section 3). */
import { type Family, FamilyTable, familyIndex, familyOf } from "../family.ts";
import { HEADER_LENGTH, MessageType, newMessage } from "./header.ts";
import { MessageError } from "./types.ts";

const BODY_LENGTH = 4;

export function encodeRouteRefresh(family: Family, subtype = 0): Uint8Array {
  const { afi, safi } = FamilyTable[familyIndex(family)];
  const message = newMessage(MessageType.RouteRefresh, BODY_LENGTH);
  message.set([afi >>> 8, afi & 0xff, subtype, safi], HEADER_LENGTH);
  return message;
}

/** `family` is undefined for one this speaker does not know: such a message is ignored. Throws MessageError 7/1 for a wrong length. */
export function decodeRouteRefresh(message: Uint8Array): { family: Family | undefined; afi: number; safi: number; subtype: number } {
  if (message.length !== HEADER_LENGTH + BODY_LENGTH) {
    throw new MessageError(
      `ROUTE-REFRESH of ${message.length} octets: it has exactly ${HEADER_LENGTH + BODY_LENGTH}`,
      7,
      1,
      message.slice(),
    );
  }
  const afi = (message[19] << 8) | message[20];
  const subtype = message[21];
  const safi = message[22];
  return { family: familyOf(afi, safi), afi, safi, subtype };
}
