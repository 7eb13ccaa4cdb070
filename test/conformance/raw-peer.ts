/**
 * A BGP neighbour that does only what a test tells it: a TCP connection from a namespace, octets out as they are given, messages in as they
 * come. It answers nothing by itself, neither KEEPALIVEs nor closes.
 */
import type { Socket } from "node:net";
import { Families, FamilyTable } from "../../bgpd/family.ts";
import { parseAttributes } from "../../bgpd/message/attributes.ts";
import { attributesView } from "../../bgpd/message/format.ts";
import { MAX_EXTENDED_LENGTH, MessageFramer } from "../../bgpd/message/header.ts";
import type { AttributesView } from "../../bgpd/message/types.ts";
import { UpdateDecoder } from "../../bgpd/message/update-decoder.ts";
import { connectSocket } from "../../kernel/index.ts";
import { formatPrefix, maskAddress, parseAddress } from "../../net/address.ts";
import { hex, KEEPALIVE, Type } from "./octets.ts";

/** Milliseconds within which the speaker answers anything that needs no timer of its own. */
const PATIENCE = 10_000;

export class RawPeer {
  readonly #socket: Socket;
  readonly #framer = new MessageFramer(MAX_EXTENDED_LENGTH);
  readonly #waiting = new Set<() => void>();
  #next = 0;
  /** All messages so far. */
  readonly messages: Uint8Array[] = [];
  /** Arrival of each, milliseconds (monotonic). */
  readonly times: number[] = [];
  /** How the connection ended. */
  ended: "closed" | "reset" | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#framer.push(new Uint8Array(chunk), octets => {
        this.messages.push(octets.slice());
        this.times.push(performance.now());
      });
      this.#wake();
    });
    socket.on("error", () => this.#end("reset"));
    socket.on("end", () => this.#end("closed"));
    socket.on("close", () => this.#end("closed"));
  }

  /** `netns`: path of the namespace to connect from. */
  static async connect(netns: string, from: string, to: string): Promise<RawPeer> {
    const socket = connectSocket({ netns, localAddress: parseAddress(from), address: parseAddress(to), port: 179 });
    const peer = new RawPeer(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return peer;
  }

  send(...messages: Uint8Array[]): void {
    for (const octets of messages) this.#socket.write(octets);
  }

  /** Like send(), and resolves when the kernel has taken all of it. */
  async pour(octets: Uint8Array): Promise<void> {
    await new Promise<void>((resolve, reject) => this.#socket.write(octets, error => (error ? reject(error) : resolve())));
  }

  /** Stops taking octets from the kernel, and goes on. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** The next message, which must be of this type. */
  async take(type: number, patience = PATIENCE): Promise<Uint8Array> {
    await this.until(() => this.messages.length > this.#next, `a message of type ${type}`, patience);
    const octets = this.messages[this.#next++];
    if (octets[18] !== type) throw new Error(`expected a message of type ${type}, got ${hex(octets)}`);
    return octets;
  }

  /** The next message of this type; others are passed over. */
  async find(type: number, patience = PATIENCE): Promise<Uint8Array> {
    for (;;) {
      await this.until(() => this.messages.length > this.#next, `a message of type ${type}`, patience);
      const octets = this.messages[this.#next++];
      if (octets[18] === type) return octets;
      if (octets[18] === Type.Notification) throw new Error(`expected a message of type ${type}, got ${hex(octets)}`);
    }
  }

  /** What ends the connection: "code/subcode data in hex", and then nothing but the end. */
  async dismissal(patience = PATIENCE): Promise<string> {
    await this.until(() => this.ended !== undefined, "the end of the connection", patience);
    const last = this.messages.at(-1);
    const others = this.messages.filter(octets => octets[18] === Type.Notification);
    if (last?.[18] !== Type.Notification || others.length !== 1) {
      return `${this.ended} after ${this.messages.map(octets => octets[18]).join(" ")}`;
    }
    return `${last[19]}/${last[20]} ${hex(last.subarray(21))}`.trim();
  }

  /** Exchanges OPENs; then the session is in OpenConfirm on the other side. Returns the speaker's OPEN. */
  async openWith(open: Uint8Array): Promise<Uint8Array> {
    const theirs = await this.take(Type.Open);
    this.send(open);
    await this.take(Type.Keepalive);
    return theirs;
  }

  async establish(open: Uint8Array): Promise<Uint8Array> {
    const theirs = await this.openWith(open);
    this.send(KEEPALIVE);
    return theirs;
  }

  async until(check: () => boolean, what: string, patience = PATIENCE): Promise<void> {
    const limit = performance.now() + patience;
    while (!check()) {
      const left = limit - performance.now();
      if (left <= 0 || (this.ended && !check())) {
        const came = this.messages.slice(-5).map(octets => hex(octets.subarray(16, 200)));
        throw new Error(`waited in vain for ${what}${this.ended ? ` (connection ${this.ended})` : ""}; last messages: ${came.join(", ")}`);
      }
      await new Promise<void>(resolve => {
        const wake = () => {
          clearTimeout(timer);
          this.#waiting.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, left);
        this.#waiting.add(wake);
      });
    }
  }

  /** No NOTIFICATION: as a process that dies. */
  close(): void {
    this.#socket.destroy();
  }

  #end(how: "closed" | "reset"): void {
    this.ended ??= how;
    this.#wake();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }
}

/** What a receiver holds after a run of UPDATEs. */
export class Holdings {
  readonly routes = new Map<string, AttributesView>();
  readonly endOfRib = new Set<string>();
  /** Prefixes whose last announcement was malformed; only where that is `tolerant`ly expected. */
  readonly refused = new Set<string>();
  updates = 0;
  readonly #decoder: UpdateDecoder;
  readonly #tolerant: boolean;
  #read = 0;

  constructor(options: { internal?: boolean; fourOctetAsn?: boolean; tolerant?: boolean } = {}) {
    const { internal = false, fourOctetAsn = true, tolerant = false } = options;
    this.#tolerant = tolerant;
    this.#decoder = new UpdateDecoder({ internal, fourOctetAsn, families: Families });
  }

  /** Takes in what has come since the last call. Throws for an UPDATE with any fault unless `tolerant`. */
  read(peer: RawPeer): this {
    for (; this.#read < peer.messages.length; this.#read++) {
      const octets = peer.messages[this.#read];
      if (octets[18] === Type.Update) this.take(octets);
    }
    return this;
  }

  /** One UPDATE. */
  take(octets: Uint8Array): void {
    const decoder = this.#decoder;
    decoder.decode(octets);
    if (decoder.problems.length > 0 && !this.#tolerant) throw new Error(`${decoder.problems[0].text}: ${hex(octets)}`);
    this.updates++;
    if (decoder.endOfRib !== undefined) this.endOfRib.add(FamilyTable[decoder.endOfRib].name);
    for (let i = 0; i < decoder.withdrawnCount; i++) {
      for (const prefix of prefixes(octets, decoder.withdrawnFamily[i], decoder.withdrawnStart[i], decoder.withdrawnEnd[i])) {
        this.routes.delete(prefix);
        this.refused.delete(prefix);
      }
    }
    for (let i = 0; i < decoder.announcedCount; i++) {
      if (decoder.treatAsWithdraw) {
        for (const prefix of prefixes(octets, decoder.announcedFamily[i], decoder.announcedStart[i], decoder.announcedEnd[i])) {
          this.routes.delete(prefix);
          this.refused.add(prefix);
        }
        continue;
      }
      decoder.canonical(i);
      const view = attributesView(parseAttributes(decoder.octets, 0, decoder.octetsLength));
      for (const prefix of prefixes(octets, decoder.announcedFamily[i], decoder.announcedStart[i], decoder.announcedEnd[i])) {
        this.routes.set(prefix, view);
        this.refused.delete(prefix);
      }
    }
  }
}

function* prefixes(octets: Uint8Array, family: number, start: number, end: number): Generator<string> {
  for (let at = start; at < end; ) {
    const length = octets[at];
    const address = new Uint8Array(family === 0 ? 4 : 16);
    const used = (length + 7) >> 3;
    address.set(octets.subarray(at + 1, at + 1 + used));
    yield formatPrefix({ address: maskAddress(address, length), length });
    at += 1 + used;
  }
}
