/**
 * UPDATE to NLRI ranges and canonical attribute octets (RFC 4271 sections 4.3, 5 and 6.3; RFC 4760; RFC 6793; RFC 7606). One decoder per
 * session; its fields hold the result of the last decode(), ranges being offsets into that message. Nothing is allocated for an
 * UPDATE without faults. Faults are taken by RFC 7606: discard, withdraw, and only where NLRI cannot be told apart, reset.
 */
import {
  classicFamily,
  type Family,
  type FamilyIndex,
  FamilyTable,
  familyIndexOf,
  formatFamily,
  type PerFamily,
  perFamily,
} from "../family.ts";
import { AS_TRANS, mergeAsPath, widenAsPath } from "./as-path.ts";
import {
  AttributeCode,
  AttributeFlag,
  type AttributeRow,
  AttributeTable,
  attributeName,
  type CheckContext,
  type Treatment,
} from "./attribute-table.ts";
import { UNKNOWN_FLAGS } from "./attributes.ts";
import { CANONICAL_HEADER } from "./canonical.ts";
import { HEADER_LENGTH, MAX_LENGTH } from "./header.ts";
import { nextHopFault, usefulNextHopLength, usefulNextHopStart } from "./next-hop.ts";
import { nlriFault } from "./nlri.ts";
import { copyOctets, copySorted, readUint16 } from "./octets.ts";
import { MessageError } from "./types.ts";

export interface UpdateProblem {
  /** Attribute code; 0 = not of one attribute. */
  code: number;
  name: string;
  action: Treatment;
  /** One sentence, without the name. */
  text: string;
}

export interface UpdateDecoderOptions {
  /** AS_PATH has 4-octet numbers: both sides announced the capability of RFC 6793. */
  fourOctetAsn: boolean;
  /** The neighbour is in our AS. */
  internal: boolean;
  /** Negotiated ones; NLRI of others is passed over. */
  families: readonly Family[];
  /** IPv4 NLRI may come with an IPv6 next hop (RFC 8950). */
  extendedNextHop?: boolean;
}

const NO_PROBLEMS: UpdateProblem[] = [];
/** A message may hold hundreds of faults; the first ones tell enough. */
const MAX_PROBLEMS = 16;
const OPTIONAL_TRANSITIVE = AttributeFlag.Optional | AttributeFlag.Transitive;

export class UpdateDecoder {
  /** Ranges of withdrawn prefixes: 0..2 of them, Each is [length octet, ceil(length / 8) octets]… */
  withdrawnCount = 0;
  readonly withdrawnFamily = [classicFamily, classicFamily];
  readonly withdrawnStart = [0, 0];
  readonly withdrawnEnd = [0, 0];
  /** Ranges of announced prefixes, likewise. Bits beyond a prefix's length may be set: mask them. */
  announcedCount = 0;
  readonly announcedFamily = [classicFamily, classicFamily];
  readonly announcedStart = [0, 0];
  readonly announcedEnd = [0, 0];
  /** The next hop as canonical octets will have it: 4, 16 or 32 octets; length 0 where it is missing (then treatAsWithdraw is set). */
  readonly announcedNextHopStart = [0, 0];
  readonly announcedNextHopLength = [0, 0];
  /** RFC 7606: all that is announced counts as withdrawn. canonical() must not be called. */
  treatAsWithdraw = false;
  /** The family whose End-of-RIB this is (RFC 4724 section 2). */
  endOfRib: FamilyIndex | undefined;
  problems: readonly UpdateProblem[] = NO_PROBLEMS;
  /** Filled by canonical(); the buffer is reused and may be replaced by the next decode(). */
  octets: Uint8Array = new Uint8Array(2 * MAX_LENGTH + 512);
  octetsLength = 0;

  readonly #fourOctetAsn: boolean;
  readonly #extendedNextHop: boolean;
  readonly #enabled: PerFamily<boolean>;
  readonly #context: CheckContext;
  #message: Uint8Array = new Uint8Array(0);
  /** Attributes to keep, ascending by code; where their values stand, by code. */
  readonly #codes = new Uint8Array(256);
  #codeCount = 0;
  readonly #attributeStart = new Int32Array(256);
  readonly #valueStart = new Int32Array(256);
  readonly #valueEnd = new Int32Array(256);
  /** #seen[code] === #round: the attribute was in this message; #kept likewise: and its value can be used. */
  readonly #seen = new Int32Array(256);
  readonly #kept = new Int32Array(256);
  #round = 0;
  /** Some attribute besides MP_UNREACH_NLRI was there, readable or not. */
  #otherAttributes = false;
  /** Something was announced, of whatever family. */
  #anyNlri = false;
  /** NOTIFICATION subcode and offending range of the first fault that withdraws. */
  #faultSubcode = 0;
  #faultStart = 0;
  #faultEnd = 0;
  /** 2-octet sessions: the path with 4-octet numbers. */
  #path = new Uint8Array(0);
  #pathLength = 0;

  constructor(options: UpdateDecoderOptions) {
    this.#fourOctetAsn = options.fourOctetAsn;
    this.#extendedNextHop = options.extendedNextHop ?? false;
    this.#enabled = perFamily(family => options.families.includes(FamilyTable[family].name));
    this.#context = { internal: options.internal, asnWidth: options.fourOctetAsn ? 4 : 2 };
  }

  /**
   * `message` is a whole UPDATE that passed readHeader; it must stay unchanged while the results are used. Throws MessageError (code 3)
   * only where RFC 7606 wants the session reset; the results are then meaningless.
   */
  decode(message: Uint8Array): void {
    this.#clear(message);
    const end = message.length;
    const withdrawnEnd = 21 + readUint16(message, HEADER_LENGTH);
    if (withdrawnEnd + 2 > end) throw malformedList("the withdrawn routes are longer than the message");
    const attributesStart = withdrawnEnd + 2;
    const attributesEnd = attributesStart + readUint16(message, withdrawnEnd);
    if (attributesEnd > end) throw malformedList("the path attributes are longer than the message");
    this.#scan(attributesStart, attributesEnd);
    if (withdrawnEnd > 21) this.#addClassicWithdrawn(21, withdrawnEnd);
    if (end > attributesEnd) this.#addClassicAnnounced(attributesEnd, end);
    if (this.#seen[AttributeCode.MpUnreach] === this.#round) this.#readMpUnreach(withdrawnEnd === 21 && attributesEnd === end);
    if (this.#seen[AttributeCode.MpReach] === this.#round) this.#readMpReach();
    if (end === 23 && this.#enabled[classicFamily]) this.endOfRib = classicFamily;
    if (this.announcedCount > 0) this.#checkAnnounced(end > attributesEnd);
    if (this.treatAsWithdraw && this.#otherAttributes && !this.#anyNlri) this.#resetWithoutNlri();
  }

  /** Writes the canonical octets (attributes.ts) for announced range `i` to octets, octetsLength. */
  canonical(i: number): void {
    const message = this.#message;
    const out = this.#room(message.length);
    let at = 0;
    for (let index = 0; index < this.#codeCount; index++) {
      const code = this.#codes[index];
      const row = AttributeTable[code];
      const value = at + CANONICAL_HEADER;
      out[at] = row === undefined ? UNKNOWN_FLAGS : row.flags | this.#partial(code, row.flags);
      out[at + 1] = code;
      let end = value;
      if (code === AttributeCode.NextHop) {
        const start = this.announcedNextHopStart[i];
        end = copyOctets(message, start, start + this.announcedNextHopLength[i], out, value);
      } else if (!this.#fourOctetAsn && code === AttributeCode.AsPath) {
        end = copyOctets(this.#path, 0, this.#pathLength, out, value);
      } else if (!this.#fourOctetAsn && code === AttributeCode.Aggregator) {
        end = this.#writeAggregator(out, value);
      } else if (row?.elementWidth === undefined) {
        end = copyOctets(message, this.#valueStart[code], this.#valueEnd[code], out, value);
      } else {
        end = copySorted(message, this.#valueStart[code], this.#valueEnd[code], row.elementWidth, out, value);
      }
      out[at + 2] = (end - value) >>> 8;
      out[at + 3] = (end - value) & 0xff;
      at = end;
    }
    this.octetsLength = at;
  }

  /** The Partial bit as it came: nobody may take it off again (RFC 4271 section 5). It means something on optional transitive ones only. */
  #partial(code: number, rowFlags: number): number {
    return rowFlags === OPTIONAL_TRANSITIVE ? this.#message[this.#attributeStart[code]] & AttributeFlag.Partial : 0;
  }

  #clear(message: Uint8Array): void {
    if (message.length < 23) throw malformedList("an UPDATE has at least 23 octets");
    this.#message = message;
    this.withdrawnCount = 0;
    this.announcedCount = 0;
    this.treatAsWithdraw = false;
    this.endOfRib = undefined;
    this.problems = NO_PROBLEMS;
    this.octetsLength = 0;
    this.#codeCount = 0;
    this.#otherAttributes = false;
    this.#anyNlri = false;
    this.#faultSubcode = 0;
    this.#pathLength = 0;
    this.#round++;
  }

  /** Goes through the path attributes and notes where the values to keep are. */
  #scan(start: number, end: number): void {
    const message = this.#message;
    let at = start;
    while (at < end) {
      const extended = (message[at] & AttributeFlag.ExtendedLength) !== 0;
      const value = at + (extended ? 4 : 3);
      const next = value <= end ? value + (extended ? readUint16(message, at + 2) : message[at + 2]) : value;
      if (next > end) {
        this.#otherAttributes = true;
        this.#problem(0, "treat-as-withdraw", "the last path attribute is longer than the attribute list", 1, at, end);
        return;
      }
      this.#attribute(message[at], message[at + 1], at, value, next);
      at = next;
    }
  }

  #attribute(flags: number, code: number, start: number, value: number, end: number): void {
    if (code !== AttributeCode.MpUnreach) this.#otherAttributes = true;
    if (this.#seen[code] === this.#round) {
      if (code === AttributeCode.MpReach || code === AttributeCode.MpUnreach)
        throw malformedList(`${attributeName(code)} stands there twice`);
      this.#problem(code, "attribute-discard", "it stands there more than once: the first counts", 1, start, end);
      return;
    }
    this.#seen[code] = this.#round;
    this.#attributeStart[code] = start;
    this.#valueStart[code] = value;
    this.#valueEnd[code] = end;
    const row = AttributeTable[code];
    if (row === undefined) this.#unknown(flags, code, start, end);
    else this.#known(row, flags, start, value, end);
  }

  #known(row: AttributeRow, flags: number, start: number, value: number, end: number): void {
    const code = row.code;
    if (row.internalOnly && !this.#context.internal) {
      this.#problem(code, "attribute-discard", "it means nothing from an external neighbour", row.subcode, start, end);
      return;
    }
    // RFC 6793 section 6: between two speakers of 4-octet numbers these are discarded, whatever is in them.
    const as4 = code === AttributeCode.As4Path || code === AttributeCode.As4Aggregator;
    if (as4 && this.#fourOctetAsn) return;
    if (((flags ^ row.flags) & 0xc0) !== 0) {
      this.#problem(code, as4 ? row.onError : "treat-as-withdraw", `flags 0x${flags.toString(16)} are wrong for it`, 4, start, end);
      return;
    }
    const wrong = row.check(this.#message, value, end, this.#context);
    if (wrong !== undefined) {
      this.#problem(code, row.onError, wrong, row.subcode, start, end);
      return;
    }
    this.#kept[code] = this.#round;
    // The next hop's place in the set is taken by checkAnnounced: it may come from MP_REACH_NLRI.
    if (row.parse !== undefined && code !== AttributeCode.NextHop) this.#keep(code);
  }

  #unknown(flags: number, code: number, start: number, end: number): void {
    if ((flags & AttributeFlag.Optional) === 0) {
      // RFC 4271 section 6.3; not among the errors that RFC 7606 section 3 takes more lightly.
      const text = `attribute ${code} claims to be well-known, and is not known`;
      throw new MessageError(text, 3, 2, this.#message.slice(start, end));
    }
    if ((flags & AttributeFlag.Transitive) !== 0) this.#keep(code);
  }

  /** Puts a code into the ascending list: nearly always at its end. */
  #keep(code: number): void {
    const codes = this.#codes;
    let place = this.#codeCount++;
    while (place > 0 && codes[place - 1] > code) {
      codes[place] = codes[place - 1];
      place--;
    }
    codes[place] = code;
  }

  #addClassicWithdrawn(start: number, end: number): void {
    const wrong = nlriFault(this.#message, start, end, FamilyTable[classicFamily].maxLength);
    if (wrong !== undefined) throw new MessageError(`withdrawn routes: ${wrong}`, 3, 10);
    if (!this.#enabled[classicFamily]) this.#notNegotiated(0, `withdrawn ${FamilyTable[classicFamily].name}`);
    else this.#addWithdrawn(classicFamily, start, end);
  }

  #addClassicAnnounced(start: number, end: number): void {
    const wrong = nlriFault(this.#message, start, end, FamilyTable[classicFamily].maxLength);
    if (wrong !== undefined) throw new MessageError(`NLRI: ${wrong}`, 3, 10);
    this.#anyNlri = true;
    if (!this.#enabled[classicFamily]) this.#notNegotiated(0, FamilyTable[classicFamily].name);
    else {
      const there = this.#kept[AttributeCode.NextHop] === this.#round;
      this.#addAnnounced(classicFamily, start, end, this.#valueStart[AttributeCode.NextHop], there ? 4 : 0);
    }
  }

  #readMpUnreach(alone: boolean): void {
    const message = this.#message;
    const start = this.#valueStart[AttributeCode.MpUnreach];
    const end = this.#valueEnd[AttributeCode.MpUnreach];
    if (end - start < 3) throw this.#malformedMp(AttributeCode.MpUnreach, "it is shorter than AFI and SAFI");
    const family = this.#mpFamily(AttributeCode.MpUnreach, start);
    if (family === undefined) return;
    if (end === start + 3) {
      if (alone && !this.#otherAttributes && !this.treatAsWithdraw) this.endOfRib = family;
      return;
    }
    const wrong = nlriFault(message, start + 3, end, FamilyTable[family].maxLength);
    if (wrong !== undefined) throw this.#malformedMp(AttributeCode.MpUnreach, wrong);
    this.#addWithdrawn(family, start + 3, end);
  }

  #readMpReach(): void {
    const message = this.#message;
    const start = this.#valueStart[AttributeCode.MpReach];
    const end = this.#valueEnd[AttributeCode.MpReach];
    if (end - start < 5) throw this.#malformedMp(AttributeCode.MpReach, "it is shorter than AFI, SAFI and next hop length");
    const family = this.#mpFamily(AttributeCode.MpReach, start);
    if (family === undefined) {
      this.#anyNlri = true;
      return;
    }
    const row = FamilyTable[family];
    const nextHopLength = message[start + 3];
    const lengths = this.#extendedNextHop ? row.extendedNextHopLengths : row.nextHopLengths;
    const nlri = start + 5 + nextHopLength;
    if (!lengths.includes(nextHopLength) || nlri > end) {
      throw this.#malformedMp(AttributeCode.MpReach, `a next hop of ${nextHopLength} octets for ${row.name}`);
    }
    const wrong = nlriFault(message, nlri, end, row.maxLength);
    if (wrong !== undefined) throw this.#malformedMp(AttributeCode.MpReach, wrong);
    if (nlri === end) return;
    this.#anyNlri = true;
    const nextHop = usefulNextHopStart(message, start + 4, nextHopLength);
    this.#addAnnounced(family, nlri, end, nextHop, usefulNextHopLength(message, start + 4, nextHopLength));
  }

  /** The family at `at`; undefined for one that was not negotiated: its attribute is passed over (RFC 4760 section 7). */
  #mpFamily(code: number, at: number): FamilyIndex | undefined {
    const afi = readUint16(this.#message, at);
    const safi = this.#message[at + 2];
    const family = familyIndexOf(afi, safi);
    if (family !== undefined && this.#enabled[family]) return family;
    this.#notNegotiated(code, formatFamily(afi, safi));
    return undefined;
  }

  #notNegotiated(code: number, what: string): void {
    this.#problem(code, "attribute-discard", `${what} was not negotiated`, 0, 0, 0);
  }

  #addWithdrawn(family: FamilyIndex, start: number, end: number): void {
    const i = this.withdrawnCount++;
    this.withdrawnFamily[i] = family;
    this.withdrawnStart[i] = start;
    this.withdrawnEnd[i] = end;
  }

  #addAnnounced(family: FamilyIndex, start: number, end: number, nextHopStart: number, nextHopLength: number): void {
    const i = this.announcedCount++;
    this.announcedFamily[i] = family;
    this.announcedStart[i] = start;
    this.announcedEnd[i] = end;
    this.announcedNextHopStart[i] = nextHopStart;
    this.announcedNextHopLength[i] = nextHopLength;
  }

  /** What only matters when something is announced: mandatory attributes, next hops, the path of a 2-octet session. */
  #checkAnnounced(classic: boolean): void {
    this.#mandatory(AttributeCode.Origin);
    this.#mandatory(AttributeCode.AsPath);
    if (classic && this.#enabled[classicFamily]) this.#mandatory(AttributeCode.NextHop);
    for (let i = 0; i < this.announcedCount; i++) {
      const length = this.announcedNextHopLength[i];
      if (length === 0) continue;
      const start = this.announcedNextHopStart[i];
      const wrong = nextHopFault(this.#message, start, length);
      if (wrong !== undefined) this.#problem(AttributeCode.NextHop, "treat-as-withdraw", wrong, 8, start, start + length);
    }
    this.#keep(AttributeCode.NextHop);
    if (!this.#fourOctetAsn && !this.treatAsWithdraw) this.#buildPath();
  }

  #mandatory(code: number): void {
    if (this.#seen[code] === this.#round) return;
    this.#problem(code, "treat-as-withdraw", "this mandatory attribute is missing", 3, 0, 0);
  }

  /** RFC 6793 section 4.2.3. */
  #buildPath(): void {
    const message = this.#message;
    const start = this.#valueStart[AttributeCode.AsPath];
    const end = this.#valueEnd[AttributeCode.AsPath];
    const as4Start = this.#valueStart[AttributeCode.As4Path];
    const as4End = this.#valueEnd[AttributeCode.As4Path];
    const merge = this.#kept[AttributeCode.As4Path] === this.#round && !this.#oldAggregator();
    if (this.#path.length < 2 * message.length) this.#path = new Uint8Array(2 * Math.max(message.length, MAX_LENGTH));
    this.#pathLength = merge
      ? mergeAsPath(message, start, end, as4Start, as4End, this.#path, 0)
      : widenAsPath(message, start, end, this.#path, 0);
    if (this.#pathLength > 0xffff)
      this.#problem(AttributeCode.AsPath, "treat-as-withdraw", "it is too long with 4-octet numbers", 11, start, end);
  }

  /** AGGREGATOR was rewritten by a speaker that knew nothing of AS4 attributes: those are out of date. */
  #oldAggregator(): boolean {
    const both = this.#kept[AttributeCode.Aggregator] === this.#round && this.#kept[AttributeCode.As4Aggregator] === this.#round;
    return both && readUint16(this.#message, this.#valueStart[AttributeCode.Aggregator]) !== AS_TRANS;
  }

  #writeAggregator(out: Uint8Array, at: number): number {
    const message = this.#message;
    if (this.#kept[AttributeCode.As4Aggregator] === this.#round && !this.#oldAggregator()) {
      const start = this.#valueStart[AttributeCode.As4Aggregator];
      return copyOctets(message, start, start + 8, out, at);
    }
    const start = this.#valueStart[AttributeCode.Aggregator];
    out[at] = 0;
    out[at + 1] = 0;
    return copyOctets(message, start, start + 6, out, at + 2);
  }

  /** Canonical headers are at most 1 octet longer than those on the wire; a path may double. */
  #room(messageLength: number): Uint8Array {
    const wanted = 2 * messageLength + 512;
    if (this.octets.length < wanted) this.octets = new Uint8Array(wanted);
    return this.octets;
  }

  #problem(code: number, action: Treatment, text: string, subcode: number, start: number, end: number): void {
    if (action === "treat-as-withdraw" && !this.treatAsWithdraw) {
      this.treatAsWithdraw = true;
      this.#faultSubcode = subcode;
      this.#faultStart = start;
      this.#faultEnd = end;
    }
    if (this.problems.length >= MAX_PROBLEMS) return;
    this.problems = [...this.problems, { code, name: code === 0 ? "UPDATE" : attributeName(code), action, text }];
  }

  /**
   * Path attributes with a fault and no NLRI: there may have been NLRI in what could not be read, so nothing can be withdrawn
   * (RFC 7606 section 5.2).
   */
  #resetWithoutNlri(): void {
    const { name, text } = this.problems.find(problem => problem.action === "treat-as-withdraw") ?? this.problems[0];
    const data = this.#message.slice(this.#faultStart, this.#faultEnd);
    throw new MessageError(`${name}: ${text}, and there is no NLRI to withdraw`, 3, this.#faultSubcode, data);
  }

  #malformedMp(code: number, text: string): MessageError {
    const data = this.#message.slice(this.#attributeStart[code], this.#valueEnd[code]);
    return new MessageError(`${attributeName(code)}: ${text}`, 3, 9, data);
  }
}

function malformedList(text: string): MessageError {
  return new MessageError(text, 3, 1);
}
