/** NodeState: what one node's agent reports. Nobody but the agent writes it. */
import type { Static } from "typebox";
import { conditions } from "./common.ts";
import { flag, integer, list, object, oneOf, optional, text } from "./schema.ts";

/** How many of each list are reported, and how long texts may be: all of it stays below the 1.5 MiB of an object in etcd. */
export const NodeStateLimits = { sessions: 512, announced: 256, problems: 64, podCIDRs: 16, reason: 256, message: 1024 } as const;

const counter = (description: string) => integer(description, 0, Number.MAX_SAFE_INTEGER);
const time = (description: string) => text(`${description} RFC 3339.`, 40);

const session = object("A session.", {
  name: text("Name of the neighbour.", 600, { minLength: 1 }),
  source: optional(text("The object it comes from, such as Peer/tor-a.", 300)),
  address: text("The neighbour's address.", 64),
  asn: optional(integer("The neighbour's AS number, once known.", 0, 4294967295)),
  state: oneOf("State of RFC 4271 section 8.2.2.", ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"]),
  reason: text("Why it is established, or what ended it or its last attempt.", NodeStateLimits.reason),
  since: time("Since when it is established, or is not."),
  lastError: optional(text("What ended it last.", NodeStateLimits.reason)),
  lastErrorTime: optional(time("When that was.")),
  shutdown: optional(flag("It is not wanted at present.")),
  received: optional(counter("Prefixes received.")),
  accepted: optional(counter("Prefixes accepted.")),
  sent: optional(counter("Prefixes sent.")),
});

const route = object("A prefix.", {
  prefix: text("The prefix.", 49),
  kind: optional(text("What it stands for.", 16)),
  reason: text("Why it is announced, or was chosen.", 512),
});

const problem = object("A problem that the agent found.", {
  severity: oneOf("error or warning.", ["error", "warning"]),
  reason: optional(text("CamelCase reason for programs.", 64)),
  object: text("Kind/name.", 320),
  field: text("Path of the field.", 512),
  message: text("What is wrong.", NodeStateLimits.message),
  remedy: text("What to do.", NodeStateLimits.message),
});

export const nodeStateStatus = object("Written by the agent.", {
  observedGeneration: optional(counter("metadata.generation that was last read.")),
  conditions: optional(conditions()),
  version: optional(text("Version of the agent.", 64)),
  summary: optional(
    object("Counts.", {
      sessions: text("Sessions that are established, of those that are wanted: 2/3.", 32),
      established: counter("Sessions that are established."),
      wanted: counter("Sessions that are wanted."),
      routes: counter("Routes in use, of all address families."),
      announced: counter("Prefixes that the node announces of its own."),
      services: optional(counter("Prefixes that the node announces for Services.")),
      errors: counter("Problems that are errors."),
      warnings: counter("Problems that are warnings."),
    }),
  ),
  asn: optional(integer("AS number of the node.", 1, 4294967295)),
  routerID: optional(text("BGP Identifier.", 15)),
  podCIDRs: optional(list("Pod subnets of the node.", text("A prefix.", 49), NodeStateLimits.podCIDRs)),
  drain: optional(
    object("Planned maintenance.", {
      state: oneOf("None, Draining (routes are de-preferred) or Drained (withdrawn).", ["None", "Draining", "Drained"]),
      since: optional(time("When it came into this state.")),
    }),
  ),
  sessions: optional(list(`Sessions, the first ${NodeStateLimits.sessions}.`, session, NodeStateLimits.sessions)),
  announced: optional(list(`What the node announces, the first ${NodeStateLimits.announced}.`, route, NodeStateLimits.announced)),
  learned: optional(
    object("What it learned.", {
      ipv4: optional(counter("IPv4 prefixes.")),
      ipv6: optional(counter("IPv6 prefixes.")),
      installed: optional(counter("Kernel routes.")),
    }),
  ),
  problems: optional(list(`Problems, the first ${NodeStateLimits.problems}, errors first.`, problem, NodeStateLimits.problems)),
});

export type NodeStateStatus = Static<typeof nodeStateStatus>;
