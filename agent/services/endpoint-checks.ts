/**
 * Services of traffic policy Local are announced once the node's proxy says, on the port that Kubernetes gave each for this (healthCheckNodePort), that it
 * has endpoints of it here: it does so after its rules are in the kernel. Asked often at first, for a moment of waiting is a moment without the
 * endpoint; bounded, so that a proxy without such ports holds nothing up for good.
 */
import type { IpFamily } from "../../net/address.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Problem } from "../../platform/problem.ts";
import { type Ask, jsonOf } from "./ask.ts";
import { DueQueue } from "./due-queue.ts";

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
  service: string;
  uid: string;
  port: number;
  since: number;
  /** Clock.monotonic() of the next question. */
  due: number;
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
  /** In the order in which their time is over. */
  readonly #waiting = new Map<string, Waiting>();
  /** But for those that are being asked about; some may be waited for no more. */
  readonly #queue = new DueQueue<Waiting>();
  #deadline: Timer | undefined;
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
        const one = { service, uid, port, since: now, due: now };
        this.#waiting.set(service, one);
        this.#queue.push(one);
      }
    this.#expire();
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
    this.#deadline?.cancel();
  }

  #look(): void {
    if (this.#closed) return;
    this.#timer?.cancel();
    this.#timer = undefined;
    const now = this.#parts.clock.monotonic();
    let next = this.#queue.first;
    // Where all places are taken, the next answer looks again.
    while (next && next.due <= now && this.#underway < AT_ONCE) {
      this.#queue.takeFirst();
      if (this.#isWaited(next)) void this.#ask(next);
      next = this.#queue.first;
    }
    if (next && next.due > now) this.#timer = this.#parts.clock.after(next.due - now, () => this.#look());
  }

  /** Also while all places are taken. */
  #expire(): void {
    if (this.#closed) return;
    this.#deadline?.cancel();
    const { clock, subject } = this.#parts;
    const now = clock.monotonic();
    for (const one of this.#waiting.values()) {
      const left = one.since + this.#timeout - now;
      if (left > 0) {
        this.#deadline = clock.after(left, () => this.#expire());
        return;
      }
      this.#confirm(one, "assumed", subject(one.service)?.families ?? []);
    }
  }

  #isWaited(one: Waiting): boolean {
    return this.#waiting.get(one.service) === one;
  }

  async #ask(one: Waiting): Promise<void> {
    const { service } = one;
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
    if (this.#closed) return;
    const now = this.#parts.clock.monotonic();
    if (has && this.#isWaited(one)) this.#confirm(one, "said", families);
    else if (this.#isWaited(one)) {
      one.due = now + (now - one.since < SOON_FOR ? SOON : LATER);
      this.#queue.push(one);
    }
    this.#look();
  }

  #confirm({ service, uid, port }: Waiting, how: Confirmation, families: readonly IpFamily[]): void {
    this.#waiting.delete(service);
    this.#confirmed.set(service, { how, uid, port, families });
    this.#parts.confirmed(service);
  }
}

function isSame(a: Pick<CheckSubject, "uid" | "port">, b: Pick<CheckSubject, "uid" | "port"> | undefined): boolean {
  return a.uid === b?.uid && a.port === b.port;
}
