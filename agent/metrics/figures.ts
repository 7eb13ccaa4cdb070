/** What metrics are made of: plain data of one moment. The border between the agent and agent/metrics/. */
import type { FaultView } from "../../bgpd/faults.ts";
import type { NeighborSnapshot, SpeakerCounters, SpeakerSnapshot } from "../../bgpd/snapshot.ts";
import type { AttachmentView, RangeView } from "../../cni/types.ts";
import type { Problem } from "../../platform/problem.ts";
import type { StatusView } from "../api/views.ts";
import type { CniCallsView } from "../cni-calls.ts";
import type { PolicyFigures } from "../policy-figures.ts";
import type { ServiceFigures } from "../services.ts";
import type { SpoofingReason } from "../spoofing-drops.ts";
import type { Lateness, TurnsView } from "../turns.ts";

export interface Figures {
  version: string;
  /** Seconds since the epoch. */
  startedAt: number;
  ready: boolean;
  plan: {
    inUse: StatusView["config"]["inUse"];
    /** Seconds since it was applied; of one from the disk since it was saved there. */
    age?: number;
  };
  /** Seconds since the source heard from where the objects are. */
  sourceAge?: number;
  faults?: FaultView;
  turns: TurnsView;
  lateness: Lateness;
  /** Absent: the plan has no BGP. */
  speaker?: Omit<SpeakerSnapshot, "neighbors"> & SpeakerCounters;
  /** Absent: it announces none. */
  services?: ServiceFigures;
  /** Absent: policies are not carried out here. */
  policies?: PolicyFigures;
  /** Packets that the guard against spoofing dropped. */
  spoofed: Readonly<Record<SpoofingReason, number>>;
  calls: { underway: number; verbs: CniCallsView[] };
  attachments: AttachmentView[];
  ranges: RangeView[];
}

/** Whom metrics are asked of. */
export interface MetricsSubject {
  /** Why this node cannot serve pods now; undefined: it can. */
  ready(): string | undefined;
  figures(): Figures;
  /** These two step by step, for they grow with the number of neighbours. */
  neighbors(): Iterable<NeighborSnapshot>;
  findProblems(): Iterable<Problem[]>;
}
