/**
 * One TCP connection of a session: cuts the octets into messages, decodes them into the events of the state machine and sends ours.
 * It knows both OPENs and what they allow together, and nothing of states.
 */
import type { Family } from "../family.ts";
import { MessageFramer, MessageType } from "../message/header.ts";
import { KEEPALIVE } from "../message/keepalive.ts";
import { decodeNotification, describeReceived, ErrorCode, encodeNotification } from "../message/notification.ts";
import { decodeOpen, encodeOpen, type LocalCapabilities, type LocalGracefulRestart, negotiate, validateOpen } from "../message/open.ts";
import type { NotificationMessage } from "../message/types.ts";
import { MessageError } from "../message/types.ts";
import type { FsmEvent } from "./fsm/types.ts";
import type { Negotiated, SessionCounters } from "./types.ts";
import type { Wire, WireHandler } from "./wire.ts";

/** What our OPEN says and what the neighbour's must say. */
export interface OpenSettings {
  localAsn: number;
  /** Unsigned 32 bit. */
  localId: number;
  remoteAsn: number | "external" | "internal";
  /** Seconds. */
  holdTime: number;
  /** Seconds; 0 = a third of the negotiated hold time. */
  keepaliveTime: number;
  families: readonly Family[];
  hostname?: string;
  /** RFC 4724; asked for each OPEN, because what we say of ourselves changes once our start is complete. */
  gracefulRestart?: () => LocalGracefulRestart;
}

export interface ConnectionOwner {
  event(event: FsmEvent): void;
  /** Reading these octets threw what nobody expected. */
  fault(error: unknown, octets: Uint8Array): void;
  writable(): void;
  readonly counters: SessionCounters;
}

/** Octets of an offending message that are kept for display. */
const MAX_OFFENDING = 4096;

export class Connection implements WireHandler {
  readonly #settings: OpenSettings;
  readonly #owner: ConnectionOwner;
  readonly #framer = new MessageFramer();
  #wire: Wire | undefined;
  #closed = false;
  #negotiated: Negotiated | undefined;
  /** What our OPEN said: what we say of ourselves may be something else by the time the other one comes. */
  #announced: LocalCapabilities | undefined;
  #localOpen: Uint8Array = new Uint8Array();
  /** Messages of the chunk at hand, in octets. */
  #delivered = 0;

  constructor(settings: OpenSettings, owner: ConnectionOwner) {
    this.#settings = settings;
    this.#owner = owner;
  }

  /** To be called once, with the wire whose handler this is. */
  use(wire: Wire): void {
    this.#wire = wire;
  }

  /** After a valid OPEN. */
  get negotiated(): Negotiated | undefined {
    return this.#negotiated;
  }

  sendOpen(): void {
    const { localAsn: asn, localId: bgpId, holdTime } = this.#settings;
    this.#owner.counters.messagesOut.open++;
    this.#announced = announced(this.#settings);
    this.#localOpen = encodeOpen({ asn, holdTime, bgpId, capabilities: this.#announced });
    this.write(this.#localOpen.slice());
  }

  sendKeepalive(): void {
    this.#owner.counters.messagesOut.keepalive++;
    this.write(KEEPALIVE.slice());
  }

  /** false = no more until the owner's writable(). */
  write(octets: Uint8Array): boolean {
    if (this.#closed || !this.#wire) return false;
    this.#owner.counters.octetsOut += octets.length;
    return this.#wire.write(octets);
  }

  /** Throws SystemCallError. */
  rekey(password: string): void {
    if (!this.#closed) this.#wire?.rekey?.(password);
  }

  /** No event follows. Resolves when TCP is done, which is bounded. */
  close(notification?: NotificationMessage): Promise<void> {
    if (this.#closed) return Promise.resolve();
    this.#closed = true;
    this.#framer.reset();
    if (!notification) return this.#wire?.close() ?? Promise.resolve();
    const last = encodeNotification(notification.code, notification.subcode, notification.data);
    this.#owner.counters.messagesOut.notification++;
    this.#owner.counters.octetsOut += last.length;
    return this.#wire?.close(last) ?? Promise.resolve();
  }

  opened(): void {
    if (!this.#closed) this.#owner.event({ type: "TcpConnectionAcked" });
  }

  received(octets: Uint8Array): void {
    if (this.#closed) return;
    // A Buffer's slice() does not copy; everything behind this line relies on one that does.
    const chunk = new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength);
    this.#owner.counters.octetsIn += chunk.length;
    const pending = this.#framer.pending;
    this.#delivered = 0;
    try {
      this.#framer.push(chunk, message => this.#message(message));
    } catch (error) {
      const start = Math.max(0, this.#delivered - pending);
      const offending = chunk.slice(start, start + MAX_OFFENDING);
      if (error instanceof MessageError) this.#owner.event({ type: "BgpHeaderErr", error, offending });
      else this.#owner.fault(error, offending);
    }
  }

  writable(): void {
    if (!this.#closed) this.#owner.writable();
  }

  progressed(): void {
    if (!this.#closed) this.#owner.event({ type: "SendProgress" });
  }

  closed(reason: string): void {
    if (!this.#closed) this.#owner.event({ type: "TcpConnectionFails", reason });
  }

  #message(message: Uint8Array): void {
    if (this.#closed) return;
    this.#delivered += message.length;
    const { messagesIn } = this.#owner.counters;
    switch (message[18]) {
      case MessageType.Update:
        messagesIn.update++;
        this.#owner.event({ type: "UpdateMsg", message });
        return;
      case MessageType.Keepalive:
        messagesIn.keepalive++;
        this.#owner.event({ type: "KeepAliveMsg" });
        return;
      case MessageType.Open:
        messagesIn.open++;
        this.#owner.event(this.#open(message));
        return;
      case MessageType.Notification:
        messagesIn.notification++;
        this.#owner.event(this.#notification(message));
        return;
      default:
        messagesIn.routeRefresh++;
        this.#owner.event({ type: "RouteRefreshMsg", message });
    }
  }

  #notification(message: Uint8Array): FsmEvent {
    const notification = decodeNotification(message);
    const wrongVersion = notification.code === ErrorCode.Open && notification.subcode === 1;
    const { localAsn: asn, localId: id, holdTime } = this.#settings;
    return {
      type: wrongVersion ? "NotifMsgVerErr" : "NotifMsg",
      notification,
      text: describeReceived(notification, { asn, id, holdTime }),
    };
  }

  #open(message: Uint8Array): FsmEvent {
    const offending = message.slice();
    try {
      const open = decodeOpen(message);
      const { localAsn, localId, remoteAsn, families, holdTime, keepaliveTime } = this.#settings;
      validateOpen(open, { remoteAsn, localAsn, localId, families });
      const capabilities = this.#announced ?? announced(this.#settings);
      const negotiated = negotiate({ asn: localAsn, holdTime, keepaliveTime, capabilities }, open);
      if (!this.#negotiated && this.#wire) {
        const { local, remote } = this.#wire;
        const endpoints = { localAddress: local.address, localPort: local.port, remoteAddress: remote.address, remotePort: remote.port };
        this.#negotiated = { ...negotiated, localId, ...endpoints, localOpen: this.#localOpen, remoteOpen: offending };
        this.#framer.setMaxLength(negotiated.maxMessageLength);
      }
      const { remoteId } = negotiated;
      return {
        type: "BgpOpen",
        holdTime: negotiated.holdTime,
        keepaliveTime: negotiated.keepaliveTime,
        remoteId,
        remoteAsn: negotiated.remoteAsn,
        gracefulRestart: open.capabilities.gracefulRestart !== undefined,
        offending,
      };
    } catch (error) {
      if (!(error instanceof MessageError)) throw error;
      return { type: "BgpOpenMsgErr", error, offending };
    }
  }
}

/** Everything we can do; families are those configured (RFC 5492, RFC 4760, 6793, 2918, 8654, 4724). */
function announced({ families, hostname, gracefulRestart }: OpenSettings): LocalCapabilities {
  return {
    families,
    fourOctetAsn: true,
    routeRefresh: true,
    extendedMessage: true,
    ...(hostname && { hostname: { host: hostname } }),
    ...(gracefulRestart && { gracefulRestart: gracefulRestart() }),
  };
}
