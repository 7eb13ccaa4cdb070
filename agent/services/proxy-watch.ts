/**
 * Whether the node's proxy for Services (kube-proxy, or what stands in its place) can be relied on: asked by its health port, each second until it says
 * yes, then now and then. What was once in the kernel stays there, so that a proxy which falls silent later takes nothing back.
 */
import type { ServicesPlan } from "../../config/services/types.ts";
import type { Gates } from "../../config/services/verdicts.ts";
import type { Clock, Timer } from "../../platform/clock.ts";
import type { Problem } from "../../platform/problem.ts";
import { type Ask, type HttpAnswer, jsonOf } from "./ask.ts";

export const ProxyStates = ["NotAsked", "Waiting", "Ready", "Unhealthy", "Silent", "Ineligible"] as const;
export type ProxyState = (typeof ProxyStates)[number];

export interface ProxyWatchParts {
  clock: Clock;
  ask: Ask;
  /** `gates` may be others. */
  changed(): void;
}

/** Milliseconds between requests: until the first good answer, and from then on. */
const WAITING = 1000;
const WATCHING = 10_000;
const OK = 200;

export class ProxyWatch {
  readonly #parts: ProxyWatchParts;
  #plan: Pick<ServicesPlan, "proxyHealthPort" | "timeout"> | undefined;
  /** It was good once. */
  #seen = false;
  #since = 0;
  /** What was wrong with the last answer. Absent: nothing. */
  #fault: { silent: boolean; text: string } | undefined;
  #ineligible: string | undefined;
  #timer: Timer | undefined;
  #deadline: Timer | undefined;
  /** Of the questions: an answer to a former port is nobody's. */
  #turn = 0;

  constructor(parts: ProxyWatchParts) {
    this.#parts = parts;
  }

  /** undefined: nobody needs to know. */
  follow(plan: ServicesPlan | undefined): void {
    const before = this.#plan;
    this.#plan = plan && { proxyHealthPort: plan.proxyHealthPort, timeout: plan.timeout };
    if (before?.proxyHealthPort !== plan?.proxyHealthPort) this.#begin();
    else if (before?.timeout !== plan?.timeout) this.#setDeadline();
  }

  /** An agent before this one found it good, since this machine was started. */
  assume(): void {
    this.#seen = true;
  }

  /** It was found good, or is not asked. */
  get good(): boolean {
    return this.#seen || this.#plan?.proxyHealthPort === 0;
  }

  get gates(): Pick<Gates, "proxy" | "ineligible"> {
    if (!this.#plan || this.#plan.proxyHealthPort === 0) return {};
    const { timeout, proxyHealthPort: port } = this.#plan;
    const words = this.#fault?.text ?? "it is being asked";
    return {
      ...(this.#isOpen() ? {} : { proxy: `127.0.0.1:${port}/healthz: ${words}; it is waited for ${timeout} s at most` }),
      ...(this.#ineligible === undefined ? {} : { ineligible: this.#ineligible }),
    };
  }

  get state(): ProxyState {
    if (!this.#plan || this.#plan.proxyHealthPort === 0) return "NotAsked";
    if (this.#ineligible !== undefined) return "Ineligible";
    if (this.#fault && (this.#seen || this.#isOpen())) return this.#fault.silent ? "Silent" : "Unhealthy";
    return this.#seen ? "Ready" : "Waiting";
  }

  problems(): Problem[] {
    const { state } = this;
    if (!this.#plan || (state !== "Silent" && state !== "Unhealthy")) return [];
    const { proxyHealthPort: port, timeout } = this.#plan;
    const what = `the node's proxy for Services, asked at 127.0.0.1:${port}/healthz: ${this.#fault?.text}`;
    const effect = this.#seen
      ? "what it has put into the kernel stays, and so do the announcements"
      : `addresses of Services are announced without its word since ${timeout} s are over`;
    return [
      {
        severity: "warning",
        reason: state === "Silent" ? "ProxyUnreachable" : "ProxyUnhealthy",
        object: "services",
        field: "",
        message: `${what}: ${effect}`,
        remedy:
          "see the log of kube-proxy on this node; where its healthzBindAddress is another one, or another proxy is used, set Fabric spec.services.proxyHealthPort (0: it is not asked)",
      },
    ];
  }

  close(): void {
    this.#turn++;
    this.#timer?.cancel();
    this.#deadline?.cancel();
  }

  #begin(): void {
    this.close();
    this.#fault = undefined;
    this.#ineligible = undefined;
    this.#since = this.#parts.clock.monotonic();
    if (!this.#plan || this.#plan.proxyHealthPort === 0) return;
    this.#setDeadline();
    void this.#ask(this.#turn);
  }

  #setDeadline(): void {
    this.#deadline?.cancel();
    const left = this.#timeLeft();
    if (left > 0 && !this.#seen) this.#deadline = this.#parts.clock.after(left, () => this.#parts.changed());
  }

  #timeLeft(): number {
    return this.#since + (this.#plan?.timeout ?? 0) * 1000 - this.#parts.clock.monotonic();
  }

  #isOpen(): boolean {
    return this.#seen || this.#timeLeft() <= 0;
  }

  async #ask(turn: number): Promise<void> {
    const port = this.#plan?.proxyHealthPort;
    if (port === undefined) return;
    const answer = await this.#parts.ask(port, "/healthz").catch((error: Error) => error.message);
    if (turn !== this.#turn) return;
    if (typeof answer === "string") this.#fault = { silent: true, text: answer };
    else this.#take(answer);
    this.#timer = this.#parts.clock.after(this.#seen ? WATCHING : WAITING, () => void this.#ask(turn));
    this.#parts.changed();
  }

  /** kube-proxy says 503 as well where it is well and the node is about to be taken away: its body tells them apart. */
  #take({ status, body }: HttpAnswer): void {
    const { nodeEligible } = jsonOf(body) ?? {};
    if (status === OK || nodeEligible === true) this.#ineligible = undefined;
    if (nodeEligible === false) this.#ineligible = "kube-proxy says that it is about to be taken away (nodeEligible: false)";
    const good = status === OK || nodeEligible === false;
    if (good) this.#seen = true;
    this.#fault = good ? undefined : { silent: false, text: `it answers with status ${status}` };
  }
}
