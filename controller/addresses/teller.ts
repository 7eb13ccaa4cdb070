/** Events on Services about their load-balancer addresses. */
import type { Decision } from "../../config/services/address-decision.ts";
import { releasedText } from "../../config/services/address-texts.ts";
import type { BalancedService } from "../../config/services/balanced.ts";
import { EventRecorder, type RecorderParts } from "../../kubernetes/event-recorder.ts";

/** Events at once, and milliseconds for each further one: of all Services together. */
const BURST = 1000;
const REFILL = 1000;

export class Teller {
  readonly #events: EventRecorder;

  constructor(instance: string, parts: RecorderParts) {
    this.#events = new EventRecorder({ controller: "podlane.io/controller", instance, burst: BURST, refill: REFILL }, parts);
  }

  /** `service`: as it was before. */
  written(service: BalancedService, { addresses = service.addresses, condition }: Decision): void {
    const { namespace, name, uid, condition: before } = service;
    const regarding = { apiVersion: "v1", kind: "Service", namespace, name, uid };
    const added = addresses.filter(one => !service.addresses.includes(one));
    const removed = service.addresses.filter(one => !addresses.includes(one));
    const about = addresses.join(",");
    if (added.length > 0 && condition)
      this.#events.record({
        regarding,
        type: "Normal",
        reason: "AddressAssigned",
        action: "AssignAddress",
        about,
        note: condition.message,
      });
    if (removed.length > 0)
      this.#events.record({
        regarding,
        type: "Normal",
        reason: "AddressReleased",
        action: "ReleaseAddress",
        about,
        note: releasedText(removed),
      });
    const isNew = condition && (condition.reason !== before?.reason || condition.message !== before.message);
    if (isNew && condition.reason !== "AddressAssigned")
      this.#events.record({
        regarding,
        type: "Warning",
        reason: condition.reason,
        action: "AssignAddress",
        about: condition.message,
        note: condition.message,
      });
  }

  close(): void {
    this.#events.close();
  }
}
