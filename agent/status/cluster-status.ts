/** What an agent that takes its objects from the API server tells it: its NodeState, its Node's condition, Events, and, as one of all, the others' status. */
import { hostname } from "node:os";
import { Controller } from "../../controller/controller.ts";
import type { ApiClient } from "../../kubernetes/client.ts";
import { EventRecorder } from "../../kubernetes/event-recorder.ts";
import type { ApiObject } from "../../kubernetes/types.ts";
import type { Clock } from "../../platform/clock.ts";
import type { EventView } from "../api/views.ts";
import { Happenings } from "./happenings.ts";
import { NetworkCondition } from "./node-condition.ts";
import { NodeStateWriter, type StatusParts } from "./node-state-writer.ts";

/** Milliseconds that the end waits for what is under way: the API server may be away. */
const CLOSE_BOUND = 3_000;

export interface ClusterStatusParts extends StatusParts {
  client: ApiClient;
}

export class ClusterStatus {
  readonly #state: NodeStateWriter;
  readonly #condition: NetworkCondition;
  readonly #happenings: Happenings;
  readonly #events: EventRecorder;
  readonly #controller: Controller;
  readonly #clock: Clock;

  /** `namespace`: podlane's own, where the Lease is. */
  constructor({ node, namespace }: { node: string; namespace: string }, parts: ClusterStatusParts) {
    this.#clock = parts.clock;
    this.#state = new NodeStateWriter(node, parts);
    this.#condition = new NetworkCondition(node, parts);
    this.#happenings = new Happenings(node);
    this.#events = new EventRecorder({ controller: "podlane.io/agent", instance: node }, parts);
    this.#controller = new Controller({ namespace, identity: `${node}_${hostname()}_${crypto.randomUUID()}` }, parts);
  }

  start(): void {
    this.#state.changed();
    this.#controller.start();
  }

  /** The Node object of this node, each time it comes; undefined: it was deleted. */
  nodeSeen(node: ApiObject | undefined): void {
    this.#state.nodeSeen(node);
    this.#condition.nodeSeen(node);
  }

  /** What the agent publishes. */
  happened(event: EventView): void {
    const happening = this.#happenings.of(event, this.#state.uids);
    if (happening) this.#events.record(happening);
    if (event.type === "serving") this.#condition.look();
    this.#state.changed();
  }

  async close(): Promise<void> {
    this.#events.close();
    const bound = Promise.withResolvers<void>();
    const timer = this.#clock.after(CLOSE_BOUND, bound.resolve);
    await Promise.race([bound.promise, Promise.all([this.#state.close(), this.#condition.close(), this.#controller.close()])]);
    timer.cancel();
  }
}
