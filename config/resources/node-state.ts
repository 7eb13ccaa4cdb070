/** NodeState: what one node's agent reports. Nobody but the agent writes it. */
import { conditions } from "./common.ts";
import { integer, keyed, list, object, oneOf, optional, text } from "./schema.ts";

const counter = (description: string) => integer(description, 0, Number.MAX_SAFE_INTEGER);
const time = (description: string) => text(`${description} RFC 3339.`, 40);

const session = object("A session.", {
  name: text("Name of the neighbour.", 600, { minLength: 1 }),
  source: optional(text("The object it comes from, such as Peer/tor-a.", 300)),
  address: text("The neighbour's address.", 64),
  asn: optional(integer("The neighbour's AS number, once known.", 0, 4294967295)),
  state: oneOf("State of RFC 4271 section 8.2.2.", ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"]),
  reason: text("Why it is in this state.", 1024),
  since: time("When it came into this state."),
  received: optional(counter("Prefixes received.")),
  accepted: optional(counter("Prefixes accepted.")),
  sent: optional(counter("Prefixes sent.")),
});

const route = object("A prefix.", {
  prefix: text("The prefix.", 49),
  kind: optional(text("What it stands for.", 16)),
  reason: text("Why it is announced, or was chosen.", 512),
});

const problem = object("A problem that compiling the configuration for this node found.", {
  severity: oneOf("error or warning.", ["error", "warning"]),
  object: text("Kind/name.", 320),
  field: text("Path of the field.", 512),
  message: text("What is wrong.", 1024),
  remedy: text("What to do.", 1024),
});

export const nodeStateStatus = object("Written by the agent.", {
  observedGeneration: optional(counter("metadata.generation that was last read.")),
  conditions: optional(conditions()),
  asn: optional(integer("AS number of the node.", 1, 4294967295)),
  routerID: optional(text("BGP Identifier.", 15)),
  podCIDRs: optional(list("Pod subnets of the node.", text("A prefix.", 49), 16)),
  drain: optional(
    object("Planned maintenance.", {
      state: oneOf("None, Draining (routes are de-preferred) or Drained (withdrawn).", ["None", "Draining", "Drained"]),
      since: optional(time("When it came into this state.")),
    }),
  ),
  sessions: optional(keyed("Sessions, at most 512.", "name", session, 512)),
  announced: optional(list("What the node announces, the first 256.", route, 256)),
  learned: optional(
    object("What it learned.", {
      ipv4: optional(counter("IPv4 prefixes.")),
      ipv6: optional(counter("IPv6 prefixes.")),
      installed: optional(counter("Kernel routes.")),
    }),
  ),
  problems: optional(list("Problems, the first 64.", problem, 64)),
});
