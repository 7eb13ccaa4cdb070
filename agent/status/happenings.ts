/** Which of the agent's own events are worth an Event of Kubernetes: sessions lost, and back again, errors, and whether the node serves pods. */
import { apiVersion } from "../../config/resources/common.ts";
import type { Happening } from "../../kubernetes/event-recorder.ts";
import type { EventView } from "../api/views.ts";

/** Of the objects, where they are known: kubectl describe finds Events by them. */
export interface Uids {
  Node: string | undefined;
  NodeState: string | undefined;
}

interface Found {
  about: keyof Uids;
  happening: Omit<Happening, "regarding">;
}

/** What the speaker says of a session that it ends for good. */
const REMOVED = "stopped";

export class Happenings {
  readonly #node: string;
  /** Neighbours that have a session, or had one until now. */
  readonly #sessions = new Map<string, "up" | "lost">();
  #serves: boolean | undefined;

  constructor(node: string) {
    this.#node = node;
  }

  /** undefined: nothing that concerns anybody. */
  of(event: EventView, uids: Uids): Happening | undefined {
    const found = this.#of(event);
    if (!found) return undefined;
    const { about: kind, happening } = found;
    const uid = uids[kind];
    const apiVersionOf = kind === "Node" ? "v1" : apiVersion;
    return { ...happening, regarding: { apiVersion: apiVersionOf, kind, name: this.#node, ...(uid !== undefined && { uid }) } };
  }

  #of(event: EventView): Found | undefined {
    switch (event.type) {
      case "neighbor":
        return this.#session(String(event.neighbor), event.state === "Established", event);
      case "problem": {
        if (event.severity !== "error") return undefined;
        // That a session is down is told when it is lost.
        if (event.reason === "SessionDown") return undefined;
        const about = `${event.object} ${event.field}`;
        return inState({ type: "Warning", reason: String(event.reason), action: "Check", about, note: event.text });
      }
      case "serving":
        return this.#serving(event.ready === true, event.text);
      default:
        return undefined;
    }
  }

  #session(name: string, up: boolean, { text, reason }: EventView): Found | undefined {
    const before = this.#sessions.get(name);
    // Taken out of the plan: nothing is lost that is wanted.
    if (reason === REMOVED) {
      this.#sessions.delete(name);
      return undefined;
    }
    if (up) this.#sessions.set(name, "up");
    else if (before !== undefined) this.#sessions.set(name, "lost");
    const common = { action: "Peer", about: name };
    if (before === "up" && !up)
      return inState({ ...common, type: "Warning", reason: "SessionLost", note: `session with ${name} lost: ${reason ?? text}` });
    if (before === "lost" && up)
      return inState({ ...common, type: "Normal", reason: "SessionEstablished", note: `session with ${name} is established again` });
    return undefined;
  }

  #serving(ready: boolean, note: string): Found | undefined {
    const before = this.#serves;
    this.#serves = ready;
    // An agent that was just started serves nothing for a moment, and then goes on.
    if (before === undefined || before === ready) return undefined;
    const common = { action: "Serve", about: "", note };
    if (ready) return { about: "Node", happening: { ...common, type: "Normal", reason: "PodNetworkReady" } };
    return { about: "Node", happening: { ...common, type: "Warning", reason: "PodNetworkNotReady" } };
  }
}

function inState(happening: Found["happening"]): Found {
  return { about: "NodeState", happening };
}
