/** What the local API answers, as JSON: the border between the agent and the command line, tests and anybody else on the socket. */

import type { PlannedExport } from "../../bgpd/planned-exports.ts";
import type { RouteList } from "../../bgpd/route-list.ts";
import type { ApplyReport, Explanation, NeighborSnapshot, SendStep, SpeakerSnapshot } from "../../bgpd/snapshot.ts";
import type { AttachmentView } from "../../cni/types.ts";
import type { NodePlan, Problem } from "../../config/plan.ts";
import type { AddressVerdict, ServiceView } from "../../config/services/types.ts";
import type { Connection, Explanation as PolicyExplanation } from "../../netfilter/policy/explain.ts";
import type { PolicyFigures } from "../policy-figures.ts";
import type { PolicyPreview } from "../policy-preview.ts";
import type { TurnsView } from "../turns.ts";

/** Every answer with status 400 or more. */
export interface ErrorView {
  error: string;
  remedy: string;
}

export interface PlanView extends NodePlan {
  /** What is announced of what the node originates, for each neighbour and family. */
  announcements: PlannedExport[];
  /** Of a plan that is not in use: what it would do to the sessions there are. */
  changes?: ApplyReport["actions"];
  /** Of a plan that is not in use: connections that are open now and that its policies, beside those in use, would not let begin. */
  connections?: PolicyPreview;
}

export interface SessionsView {
  established: number;
  configured: number;
  /** Names of those that are wanted and have been down for longer than their hold time. */
  overdue: string[];
}

export interface StatusView {
  node: string;
  version: string;
  pid: number;
  /** Octets: of the process, and of these the ones of V8's heap (got, in use) and of what lies beside it. */
  memory: { resident: number; heapTotal: number; heapUsed: number; external: number };
  /** Turns of the event loop. */
  turns: TurnsView;
  /** RFC 3339. */
  startedAt: string;
  config: {
    /** Where it comes from, such as a directory. */
    source: string;
    /** "source": as read; "saved": the last good plan, as the source is broken or gone; "none": nothing to run yet. */
    inUse: "source" | "saved" | "none";
    /** RFC 3339; when the plan in use was applied. */
    appliedAt?: string;
  };
  /** Absent: the plan has no BGP. */
  speaker?: Omit<SpeakerSnapshot, "neighbors"> & { sessions: SessionsView };
  attachments: number;
  /** Absent: NetworkPolicies are not carried out here. */
  policies?: Omit<PolicyFigures, "dropped">;
  /** Prefixes that are originated for Services. */
  services: number;
  /** Whether the node can serve pods, and why. */
  serving: { ready: boolean; reason: string };
  problems: { errors: number; warnings: number };
}

export interface PeersView {
  peers: NeighborSnapshot[];
}

export interface ProblemsView {
  problems: Problem[];
}

export interface AttachmentsView {
  attachments: AttachmentView[];
}

export type RoutesView = RouteList;

/** With whose address it is. */
export interface ExplainView extends Explanation {
  /** Services that have it, and what comes of it on this node. */
  services?: AddressVerdict[];
  /** AddressPools that hold it, and in which range. */
  pools?: { pool: string; range: string }[];
}

export interface ServicesView {
  node: string;
  /**
   * "source": Services are known; "saved": they have not been read since the start, and what was announced before still is; "none": nobody asks for them,
   * as no Advertisement of type Service selects the node.
   */
  known: "source" | "saved" | "none";
  /** Prefixes that are originated for Services. */
  announced: number;
  /** Addresses of all Services by what comes of them: "announced", or the first broken link. */
  counts: Record<string, number>;
  /** By namespace and name. */
  services: ServiceDetails[];
  /** How many fit, on all pages. */
  total: number;
  /** Absent on the last page. */
  next?: string;
}

export interface ServiceDetails extends Pick<ServiceView, "type" | "externalTrafficPolicy" | "internalTrafficPolicy"> {
  /** "namespace/name" */
  service: string;
  verdicts: AddressVerdict[];
  /** What is originated for it, and who is told. Absent: it was not asked for by name. */
  routes?: { prefix: string; sent: { neighbor: string; advertised: boolean; step: SendStep; reason: string }[] }[];
}

/** Which rule of which policy lets a connection pass, or drops it, as this node knows policies and pods. */
export type ConnectionView = Connection & PolicyExplanation;

export interface PoliciesView {
  /** Policies are carried out on this node. */
  enforced: boolean;
  /** All that there are, of the cluster as well. */
  policies: PolicyView[];
}

export interface Drops {
  ingress: number;
  egress: number;
}

export interface PolicyView {
  /** NAMESPACE/NAME, or KIND/NAME. */
  policy: string;
  /** Pods that are attached here and that it selects, NAMESPACE/NAME. */
  pods: string[];
  /** Packets since its rules are there. One that several policies isolate from counts for each. Absent: the packet filter does not tell. */
  dropped?: Drops;
}

export interface ReloadView {
  /** One line for each thing done. */
  actions: string[];
  problems: Problem[];
}

/** One line of /v1/events. */
export interface EventView {
  /** RFC 3339. */
  at: string;
  type: string;
  text: string;
  [field: string]: unknown;
}
