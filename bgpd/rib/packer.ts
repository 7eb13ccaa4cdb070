/**
 * A batch of changes -> UPDATEs, those with the same attribute set together, each encoded once for all who hear it. Pure: knows no member and no
 * session, only who must not hear a route, because it is theirs.
 */
import { type FamilyRow, FamilyTable } from "../family.ts";
import { UpdateWriter, type UpdateWriterOptions } from "../message/update-writer.ts";
import { NO_SOURCE } from "./adj-rib-out.ts";
import type { RibTable } from "./table.ts";

/** Changes of one batch, at most. */
export const BATCH = 4096;
/** Streams kept from batch to batch. */
const MAX_STREAMS = 16;

export interface Packed {
  octets: Uint8Array;
  updates: number;
  /** The neighbour that must not hear it; NO_SOURCE = all hear it. */
  except: number;
  /** The one neighbour that it is for. */
  only?: number;
}

interface Stream {
  readonly writer: UpdateWriter;
  /** The set the writer is at; -1 = none. */
  attributes: number;
}

/** What becomes of a set that cannot be encoded: `prefixes` are withdrawn in its place. */
export type OnFailure = (error: unknown, attributes: number, prefixes: readonly number[]) => void;

export class Packer {
  readonly #table: RibTable;
  readonly #prefixes: RibTable["prefixes"];
  readonly #options: UpdateWriterOptions;
  readonly #write: FamilyRow["write"];
  /** By who must not hear them. */
  readonly #streams = new Map<number, Stream>();
  /** Withdrawals for single neighbours. */
  readonly #takenBack = new Map<number, UpdateWriter>();
  // Entries linked per attribute id.
  readonly #entryPrefix = new Uint32Array(BATCH);
  readonly #entryExcept = new Uint16Array(BATCH);
  readonly #entryNext = new Int32Array(BATCH);
  #entries = 0;
  #bucket = new Int32Array(1024);
  /** Attribute ids in the order in which they came. */
  #order: number[] = [];

  constructor(table: RibTable, options: UpdateWriterOptions) {
    this.#table = table;
    this.#prefixes = table.prefixes;
    this.#options = options;
    this.#write = FamilyTable[table.family].write;
  }

  /** `attributes` 0: withdrawn. At most BATCH of them before pack(); the caller keeps the set alive until then. */
  add(prefix: number, attributes: number, except: number): void {
    const entry = this.#entries++;
    this.#entryPrefix[entry] = prefix;
    this.#entryExcept[entry] = except;
    if (this.#bucket.length <= attributes) this.#bucket = grownTo(this.#bucket, this.#table.attributes.capacity);
    const head = this.#bucket[attributes];
    if (head === 0) this.#order.push(attributes);
    this.#entryNext[entry] = head - 1;
    this.#bucket[attributes] = entry + 1;
  }

  /** The route is this neighbour's own now: what it heard of the prefix before is void. */
  takeBack(neighbor: number, prefix: number): void {
    let writer = this.#takenBack.get(neighbor);
    if (!writer) {
      writer = new UpdateWriter(this.#options);
      writer.withdraw(this.#table.family);
      this.#takenBack.set(neighbor, writer);
    }
    this.#write(writer, this.#prefixes, prefix);
  }

  /** Everything added since the last call. A prefix is in one stream only, so that their order does not matter. Whether something is announced: `announces`. */
  pack(onFailure: OnFailure): { packed: Packed[]; announces: boolean } {
    const announces = this.#order.some(attributes => attributes !== 0);
    for (const attributes of this.#order) this.#flush(attributes, onFailure);
    this.#order = [];
    this.#entries = 0;
    const packed: Packed[] = [];
    for (const [except, stream] of this.#streams) {
      stream.attributes = -1;
      const { updates } = stream.writer;
      if (updates > 0) packed.push({ octets: stream.writer.take(), updates, except });
    }
    for (const [only, writer] of this.#takenBack) {
      const { updates } = writer;
      packed.push({ octets: writer.take(), updates, except: NO_SOURCE, only });
    }
    this.#takenBack.clear();
    // With many sources (a reflector's clients) the writers' buffers are worth more than making them again.
    if (this.#streams.size > MAX_STREAMS) this.#streams.clear();
    return { packed, announces };
  }

  /** Writes the entries of one set. A set that cannot be written is given up with its prefixes. */
  #flush(attributes: number, onFailure: OnFailure): void {
    const first = this.#take(attributes);
    try {
      for (let entry = first; entry >= 0; entry = this.#entryNext[entry]) {
        const stream = this.#stream(this.#entryExcept[entry]);
        if (stream.attributes !== attributes) {
          stream.attributes = attributes;
          if (attributes === 0) stream.writer.withdraw(this.#table.family);
          else announceSet(stream.writer, this.#table, attributes);
        }
        this.#write(stream.writer, this.#prefixes, this.#entryPrefix[entry]);
      }
    } catch (error) {
      onFailure(error, attributes, attributes === 0 ? [] : this.#withdraw(first));
    }
  }

  #withdraw(first: number): number[] {
    const prefixes: number[] = [];
    for (let entry = first; entry >= 0; entry = this.#entryNext[entry]) {
      const stream = this.#stream(this.#entryExcept[entry]);
      stream.writer.withdraw(this.#table.family);
      stream.attributes = 0;
      this.#write(stream.writer, this.#prefixes, this.#entryPrefix[entry]);
      prefixes.push(this.#entryPrefix[entry]);
    }
    return prefixes;
  }

  /** First entry of the set's chain, -1 = none. Entries were pushed in front: turned round, prefixes leave in the order in which they came. */
  #take(attributes: number): number {
    let head = this.#bucket[attributes] - 1;
    this.#bucket[attributes] = 0;
    let previous = -1;
    while (head >= 0) {
      const next = this.#entryNext[head];
      this.#entryNext[head] = previous;
      previous = head;
      head = next;
    }
    return previous;
  }

  #stream(except: number): Stream {
    let stream = this.#streams.get(except);
    if (!stream) {
      stream = { writer: new UpdateWriter(this.#options), attributes: -1 };
      this.#streams.set(except, stream);
    }
    return stream;
  }
}

/** Prefixes that are written after it are announced with this set. */
export function announceSet(writer: UpdateWriter, { family, attributes: sets }: RibTable, id: number): void {
  writer.announce(family, sets.buffer(id), sets.start(id), sets.end(id));
}

function grownTo(array: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}
