/** What one node must do: the result of compile(). Plain JSON, so that it can be compared, stored as the last good plan and shown. */
import type { SpeakerConfig } from "../bgpd/config.ts";
import type { PodPlan } from "../cni/types.ts";
import type { IpFamily } from "../net/address.ts";
import type { MasqueradePlan } from "../netfilter/types.ts";
import type { OverlayPlan } from "../overlay/types.ts";
import type { Problem } from "../platform/problem.ts";
import type { ServicesPlan } from "./services/types.ts";

export type { Problem };

export interface NodePlan {
  node: string;
  /** Absent: the node has no part in BGP (a problem says why). */
  speaker: SpeakerConfig | undefined;
  pods: PodPlan;
  /** Absent: pods keep their addresses everywhere. */
  masquerade?: MasqueradePlan;
  /** Absent: nothing is encapsulated. */
  overlay?: OverlayPlan;
  /** NetworkPolicy objects are carried out here. */
  networkPolicy?: true;
  /** Absent: without sessions to wait for, as without BGP. */
  readiness?: ReadinessPlan;
  services?: ServicesPlan;
  problems: Problem[];
}

export interface Gateway {
  /** Of the default route. */
  family: IpFamily;
  address: string;
  interface: string;
}

/** When the node counts as ready for pods. Times in seconds. */
export interface ReadinessPlan {
  /** How many of the sessions must have sent their tables. */
  sessions: "Any" | "All" | "Percent";
  /** For sessions Percent. */
  percent?: number;
  /** After which it counts as ready without them. */
  timeout: number;
  /** For which all sessions of a ready node may be gone. */
  holdDown: number;
}

/** What the agent knows of its node from the kernel. */
export interface NodeFacts {
  name: string;
  /** Addresses of the node's interfaces: the connected networks, interface advertisements, and the router id where the Node object has no InternalIP. */
  addresses: { interface: string; address: string; prefixLength: number }[];
  /** Addresses of services that the agent knows: that of the API server, where it runs in a pod (KUBERNETES_SERVICE_HOST). */
  serviceAddresses?: string[];
  /** Addresses of pods that no present pod subnet of the node explains, as /32 and /128, in order: these pods outlived a change of it. */
  held?: string[];
  /** Pod subnets of each node as far as they were known before: what pods hold there outlives a change. */
  rangesBefore?: Record<string, string[]>;
  /** Of the default routes in the main table that are not ours, the best first. Absent: not known. */
  gateways?: Gateway[];
  /** Overrides every other source of the router id. Dotted quad. */
  routerId?: string;
}

/** What follows from a fault that is told already is told under it, not beside it. */
export function underCauses(told: readonly Problem[], found: readonly Problem[]): Problem[] {
  const heads = told.map(problem => ({ ...problem }));
  const rest: Problem[] = [];
  for (const problem of found) {
    const head = problem.cause && heads.find(({ object, severity }) => object === problem.cause && severity === "error");
    if (!head) rest.push(problem);
    else {
      const { object, field, message, consequences = [`${object} ${field}: ${message}`] } = problem;
      head.consequences = [...(head.consequences ?? []), ...consequences];
    }
  }
  return [...heads, ...rest];
}

/** "error Peer/tor-a spec.address: … — remedy" */
export function formatProblem(problem: Problem): string {
  const place = problem.place ? `${problem.place}: ` : "";
  const field = problem.field ? ` ${problem.field}` : "";
  return `${place}${problem.severity}: ${problem.object}${field}: ${problem.message}. ${problem.remedy}`;
}
