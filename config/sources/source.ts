/** Where objects come from. All sources yield the same Resources; compile() does not know which one it was. */
import type { Problem } from "../plan.ts";
import type { Resources } from "../resources/kinds.ts";
import type { ServiceIndex } from "../services/service-index.ts";
import type { PolicyFeed } from "./policy-feed.ts";

export type ResourceListener = (resources: Resources, problems: Problem[]) => void;

export interface ResourceSource {
  /** Reads once, calls the listener with what is there, and again after every change. Rejects where nothing can be read at all. */
  start(listener: ResourceListener): Promise<void>;
  /** Reads everything again now (SIGHUP); the listener is called if something changed. */
  reload(): Promise<void>;
  /** Services and their endpoints, followed while the objects ask for them. It settles as soon as all were read. Absent: the source has none. */
  readonly services?: ServiceIndex;
  /** NetworkPolicies and what they are about. Absent: the source has none. */
  readonly policies?: PolicyFeed;
  /** What it does not show is not there: it cannot be that a file was not copied yet. */
  readonly authoritative?: boolean;
  /** Milliseconds since it last heard that what it said is still so. Absent: it sees all that happens. */
  age?(): number;
  close(): Promise<void>;
}
