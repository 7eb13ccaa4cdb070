/** Which of the agent's own events are worth an Event of Kubernetes: sessions lost, and back again, errors, and whether the node serves pods. */
import { apiVersion } from "../../config/resources/common.ts";
import type { Happening, ObjectReference } from "../../kubernetes/event-recorder.ts";
import type { EventView } from "../api/views.ts";

export class Happenings {
  readonly #node: string;
  /** Neighbours that have a session, or had one until now. */
  readonly #sessions = new Map<string, "up" | "lost">();
  #uid: string | undefined;
  #serves: boolean | undefined;

  constructor(node: string) {
    this.#node = node;
  }

  /** kubectl describe finds Events by the uid. */
  nodeSeen(uid: string | undefined): void {
    this.#uid = uid;
  }

  /** undefined: nothing that concerns anybody. */
  of(event: EventView): Happening | undefined {
    switch (event.type) {
      case "neighbor":
        return this.#session(String(event.neighbor), event.state === "Established", event);
      case "problem": {
        if (event.severity !== "error") return undefined;
        // That a session is down is told when it is lost.
        if (event.reason === "SessionDown") return undefined;
        const about = `${event.object} ${event.field}`;
        return { ...this.#about("NodeState"), type: "Warning", reason: String(event.reason), action: "Check", about, note: event.text };
      }
      case "serving":
        return this.#serving(event.ready === true, event.text);
      default:
        return undefined;
    }
  }

  #session(name: string, up: boolean, { text, reason }: EventView): Happening | undefined {
    const before = this.#sessions.get(name);
    if (up) this.#sessions.set(name, "up");
    else if (before !== undefined) this.#sessions.set(name, "lost");
    const common = { ...this.#about("NodeState"), about: name };
    if (before === "up" && !up)
      return { ...common, type: "Warning", reason: "SessionLost", action: "Peer", note: `session with ${name} lost: ${reason ?? text}` };
    if (before === "lost" && up)
      return { ...common, type: "Normal", reason: "SessionEstablished", action: "Peer", note: `session with ${name} is established again` };
    return undefined;
  }

  #serving(ready: boolean, note: string): Happening | undefined {
    const before = this.#serves;
    this.#serves = ready;
    // An agent that was just started serves nothing for a moment.
    if (before === undefined && !ready) return undefined;
    const common = { ...this.#about("Node"), action: "Serve", about: "", note };
    return ready ? { ...common, type: "Normal", reason: "PodNetworkReady" } : { ...common, type: "Warning", reason: "PodNetworkNotReady" };
  }

  #about(kind: "Node" | "NodeState"): { regarding: ObjectReference } {
    const name = this.#node;
    if (kind === "NodeState") return { regarding: { apiVersion, kind, name } };
    return { regarding: { apiVersion: "v1", kind, name, ...(this.#uid !== undefined && { uid: this.#uid }) } };
  }
}
