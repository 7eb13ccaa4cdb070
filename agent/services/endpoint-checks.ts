/**
 * Services of traffic policy Local are announced once the node's proxy says, on the port that Kubernetes gave each for this (healthCheckNodePort), that it
 * has endpoints of it here: it does so after its rules are in the kernel. Asked often at first, for a moment of waiting is a moment without the
 * endpoint; bounded, so that a proxy without such ports holds nothing up for good.
 */
import type { IpFamily } from "../../net/address.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Problem } from "../../platform/problem.ts";
import { type Ask, jsonOf } from "./ask.ts";

export interface EndpointChecksParts {
  clock: Clock;
  ask: Ask;
  /** These are waited for no more. */
  confirmed(service: string): void;
  /** undefined: there is no such Service, or it has no port of this kind. */
  subject(service: string): CheckSubject | undefined;
}

/** What the proxy's word is about. Another Service of the same name, or another port, is another subject. */
export interface CheckSubject {
  uid: string;
  port: number;
  /** Of which it has endpoints here. */
  families: readonly IpFamily[];
}

interface Waiting {
  uid: string;
  port: number;
  since: number;
  /** Clock.monotonic() of the next question. */
  due: number;
  asked: boolean;
}

/** "said": by the proxy; "assumed": it did not say so in time. */
type Confirmation = "said" | "assumed";

interface Confirmed extends CheckSubject {
  how: Confirmation;
}

/** Questions at once. */
const AT_ONCE = 16;
/** Milliseconds between questions about one Service: at first, for so long, and then. */
const SOON = 50;
const SOON_FOR = 1000;
const LATER = 1000;
/** Services that a problem names. */
const NAMED = 5;

export class EndpointChecks {
  readonly #parts: EndpointChecksParts;
  readonly #waiting = new Map<string, Waiting>();
  readonly #confirmed = new Map<string, Confirmed>();
  #underway = 0;
  #timer: Timer | undefined;
  #timeout = 0;
  #closed = false;

  constructor(parts: EndpointChecksParts) {
    this.#parts = parts;
  }

  /** Services that are not waited for any more. */
  services(): string[] {
    return [...this.#confirmed.keys()];
  }

  /** What is known of them for this reason, for assume() of the next agent. */
  confirmed(why: Confirmation): string[] {
    return [...this.#confirmed].flatMap(([service, { how, uid, port, families }]) =>
      how === why ? [[service, uid, port, families.join()].join(" ")] : [],
    );
  }

  has(service: string, family: IpFamily): boolean {
    const known = this.#confirmed.get(service);
    return known?.families.includes(family) === true && isSame(known, this.#parts.subject(service));
  }

  /** An agent before this one announced them, since this machine was started. */
  assume(confirmed: Iterable<string>, how: Confirmation): void {
    for (const text of confirmed) {
      const [service, uid, port, families] = text.split(" ");
      const known = families?.split(",").map(Number) ?? [];
      this.#confirmed.set(service, { how, uid, port: Number(port), families: ([4, 6] as const).filter(one => known.includes(one)) });
    }
  }

  /** A Service is another one: whose endpoints here are gone is asked about again when it has some. True: less is known now. */
  review(service: string): boolean {
    const subject = this.#parts.subject(service);
    const waiting = this.#waiting.get(service);
    if (waiting && !isSame(waiting, subject)) this.#waiting.delete(service);
    const known = this.#confirmed.get(service);
    if (!known) return false;
    const families = isSame(known, subject) ? known.families.filter(family => subject?.families.includes(family)) : [];
    if (families.length === 0) this.#confirmed.delete(service);
    else this.#confirmed.set(service, { ...known, families });
    return families.length < known.families.length || families.length === 0;
  }

  /** With their ports; others are not asked about any more. `timeout`: seconds. */
  want(services: ReadonlyMap<string, number>, timeout: number): void {
    this.#timeout = timeout * 1000;
    const now = this.#parts.clock.monotonic();
    for (const [service, { port }] of this.#waiting) if (services.get(service) !== port) this.#waiting.delete(service);
    for (const [service, port] of services)
      if (!this.#waiting.has(service)) {
        const { uid = "" } = this.#parts.subject(service) ?? {};
        this.#waiting.set(service, { uid, port, since: now, due: now, asked: false });
      }
    this.#look();
  }

  problems(): Problem[] {
    const names = [...this.#confirmed].flatMap(([service, { how }]) => (how === "assumed" ? [service] : []));
    if (names.length === 0) return [];
    const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
    return [
      {
        severity: "warning",
        reason: "ProxyUnreachable",
        object: "services",
        field: "spec.healthCheckNodePort",
        message: `the node's proxy does not say that it has taken over endpoints of ${names.slice(0, NAMED).join(", ")}${more}: they are announced without its word since ${this.#timeout / 1000} s are over`,
        remedy: "see the log of kube-proxy on this node; a proxy that does not serve healthCheckNodePort costs this wait each time",
      },
    ];
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #look(): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    const now = this.#parts.clock.monotonic();
    let next = Infinity;
    for (const [service, one] of this.#waiting) {
      if (one.asked) continue;
      if (one.due > now) next = Math.min(next, one.due);
      else if (now - one.since >= this.#timeout) this.#confirm(service, one, "assumed", this.#parts.subject(service)?.families ?? []);
      else if (this.#underway < AT_ONCE) void this.#ask(service, one);
    }
    // Where all places are taken, the next answer looks again.
    if (next < Infinity) this.#timer = this.#parts.clock.after(Math.max(0, next - now), () => this.#look());
  }

  async #ask(service: string, one: Waiting): Promise<void> {
    one.asked = true;
    this.#underway++;
    const families = this.#parts.subject(service)?.families ?? [];
    // kube-proxy has one proxy for each family, which says what its own rules have, on addresses of that family; they may be a second apart.
    const answers = await Promise.all(
      families.map(family =>
        this.#parts.ask(one.port, "/", family).then(
          ({ body }) => Number(jsonOf(body)?.localEndpoints ?? 0) > 0,
          () => undefined,
        ),
      ),
    );
    const has = answers.includes(true) && !answers.includes(false);
    this.#underway--;
    one.asked = false;
    if (this.#closed) return;
    const now = this.#parts.clock.monotonic();
    const wait = now - one.since < SOON_FOR ? SOON : LATER;
    one.due = Math.min(now + wait, Math.max(now, one.since + this.#timeout));
    if (has && this.#waiting.get(service) === one) this.#confirm(service, one, "said", families);
    this.#look();
  }

  #confirm(service: string, { uid, port }: Waiting, how: Confirmation, families: readonly IpFamily[]): void {
    this.#waiting.delete(service);
    this.#confirmed.set(service, { how, uid, port, families });
    this.#parts.confirmed(service);
  }
}

function isSame(a: Pick<CheckSubject, "uid" | "port">, b: Pick<CheckSubject, "uid" | "port"> | undefined): boolean {
  return a.uid === b?.uid && a.port === b.port;
}
