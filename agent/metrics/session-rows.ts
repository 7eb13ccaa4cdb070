/** Metrics of BGP sessions: of all together, and of each neighbour. */
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import { by, type NeighborRow, type NodeRow, one } from "./row.ts";

/** bgpPeerState of RFC 4273. */
const stateNumbers: Record<NeighborSnapshot["state"], number> = {
  Idle: 1,
  Connect: 2,
  Active: 3,
  OpenSent: 4,
  OpenConfirm: 5,
  Established: 6,
};

export const SessionRows: readonly (NodeRow | NeighborRow)[] = [
  {
    name: "podlane_sessions",
    type: "gauge",
    help: "Sessions that are configured, by the state of RFC 4271 they are in.",
    labels: ["state"],
    read: ({ speaker }) => by("state", speaker?.states),
  },
  {
    name: "podlane_session_transitions_total",
    type: "counter",
    help: "Changes of a session into each state of RFC 4271.",
    labels: ["state"],
    read: ({ speaker }) => by("state", speaker?.entered),
  },
  {
    name: "podlane_session_ends_total",
    type: "counter",
    help: "Established sessions, and attempts at one, that ended: by the NOTIFICATION that ended them, Transport (TCP) or Stop, and who sent it.",
    labels: ["what", "reason", "notification"],
    read: ({ speaker }) => (speaker?.ends ?? []).map(({ count, ...labels }) => ({ value: count, labels })),
  },
  {
    name: "podlane_session_connects_total",
    type: "counter",
    help: "TCP connections that were begun to neighbours.",
    labels: [],
    read: ({ speaker }) => one(speaker?.sessions.connectAttempts),
  },
  {
    name: "podlane_messages_total",
    type: "counter",
    help: "BGP messages, of all neighbours.",
    labels: ["direction", "type"],
    read({ speaker }) {
      if (!speaker) return [];
      const { messagesIn: received, messagesOut: sent } = speaker.sessions;
      return Object.entries({ received, sent }).flatMap(([direction, types]) =>
        Object.entries(types).map(([type, value]) => ({ value, labels: { direction, type } })),
      );
    },
  },
  {
    name: "podlane_messages_bytes_total",
    type: "counter",
    help: "Octets of BGP messages, of all neighbours.",
    labels: ["direction"],
    read: ({ speaker }) => by("direction", speaker && { received: speaker.sessions.octetsIn, sent: speaker.sessions.octetsOut }),
  },
  {
    name: "podlane_neighbor_info",
    type: "gauge",
    help: "Always 1; the labels say who the neighbour is. asn is what it said, or what is configured while it said nothing.",
    labels: ["neighbor", "address", "asn", "object"],
    adds: false,
    neighbor: ({ address, asn, source = "" }) => [{ value: 1, labels: { address, asn, object: source } }],
  },
  {
    name: "podlane_neighbor_state",
    type: "gauge",
    help: "State of the session as RFC 4273 numbers them: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.",
    labels: ["neighbor"],
    adds: false,
    neighbor: ({ state }) => one(stateNumbers[state]),
  },
  {
    name: "podlane_neighbor_state_timestamp_seconds",
    type: "gauge",
    help: "When the session came into its state, in seconds since the epoch: of an Established one, since when it stands.",
    labels: ["neighbor"],
    adds: false,
    neighbor: ({ since }) => one(Date.parse(since) / 1000),
  },
  {
    name: "podlane_neighbor_established",
    type: "gauge",
    help: "1 while the session is Established, else 0.",
    labels: ["neighbor"],
    adds: true,
    neighbor: ({ state }) => one(Number(state === "Established")),
  },
  {
    name: "podlane_neighbor_overdue",
    type: "gauge",
    help: "1 while the session is wanted (not shut down) and has been down for longer than its hold time, else 0.",
    labels: ["neighbor"],
    adds: true,
    neighbor: ({ overdue = false }) => one(Number(overdue)),
  },
  {
    name: "podlane_neighbor_established_total",
    type: "counter",
    help: "How often the session came up.",
    labels: ["neighbor"],
    adds: true,
    neighbor: ({ counters }) => one(counters.establishedCount),
  },
  {
    name: "podlane_neighbor_updates_total",
    type: "counter",
    help: "UPDATE messages.",
    labels: ["neighbor", "direction"],
    adds: true,
    neighbor: ({ counters }) => by("direction", { received: counters.messagesIn.update, sent: counters.messagesOut.update }),
  },
  {
    name: "podlane_neighbor_prefixes",
    type: "gauge",
    help: "Prefixes that the neighbour sent (received), those of them that policy and checks let in (accepted), and those it has from us (sent).",
    labels: ["neighbor", "family", "direction"],
    adds: true,
    neighbor: ({ families }) =>
      Object.entries(families).flatMap(([family, { received, accepted, sent }]) =>
        Object.entries({ received, accepted, sent }).map(([direction, value]) => ({ value, labels: { family, direction } })),
      ),
  },
  {
    name: "podlane_neighbor_prefix_limit",
    type: "gauge",
    help: "How many prefixes may be accepted before the session is ended; absent where there is no limit.",
    labels: ["neighbor", "family"],
    adds: false,
    neighbor: ({ families }) =>
      Object.entries(families).map(([family, { prefixLimit }]) => ({ value: prefixLimit || undefined, labels: { family } })),
  },
];
