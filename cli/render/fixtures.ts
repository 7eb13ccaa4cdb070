/** What an agent on node1 of the lab's rack would answer: the input of the rendering tests. */
import type { PlanView, StatusView } from "../../agent/api/views.ts";
import type { Explanation, NeighborSnapshot, RouteView } from "../../bgpd/snapshot.ts";
import type { Problem } from "../../config/plan.ts";

/** 2026-05-04 12:00:00 UTC. */
export const now = Date.UTC(2026, 4, 4, 12);

const messages = { open: 1, update: 14, notification: 0, keepalive: 1234, routeRefresh: 0 };

export const established: NeighborSnapshot = {
  name: "tor-a",
  source: "Peer/tor-a",
  description: "rack 1, FRR",
  address: "10.1.0.1",
  asn: 65001,
  localAsn: 65000,
  internal: false,
  routerId: "10.1.0.1",
  state: "Established",
  reason: "received KEEPALIVE",
  since: "2026-05-04T11:57:55.000Z",
  holdTime: 9,
  keepaliveTime: 3,
  localAddress: "10.1.0.11",
  capabilities: ["multiprotocol ipv4-unicast", "route refresh", "4-octet AS"],
  families: { "ipv4-unicast": { received: 1200, accepted: 1190, rejected: 10, sent: 1, endOfRib: true, prefixLimit: 10_000 } },
  counters: {
    messagesIn: messages,
    messagesOut: { ...messages, update: 2 },
    octetsIn: 123_456,
    octetsOut: 2345,
    connectAttempts: 1,
    establishedCount: 1,
  },
};

export const down: NeighborSnapshot = {
  ...established,
  name: "tor-b",
  source: "Peer/tor-b",
  description: undefined,
  address: "fe80::1",
  interface: "eth1",
  asn: "external",
  internal: undefined,
  routerId: undefined,
  state: "Active",
  reason: "connection refused; next attempt in 5 s",
  since: "2026-05-03T09:00:00.000Z",
  lastDown: {
    at: "2026-05-03T09:00:00.000Z",
    text: 'neighbour sent Cease/Administrative Shutdown: "\u001b[2Jupgrade"',
    code: 6,
    subcode: 2,
    direction: "received",
  },
  holdTime: undefined,
  keepaliveTime: undefined,
  localAddress: undefined,
  capabilities: undefined,
  families: {},
};

const route: RouteView = {
  prefix: "10.244.2.0/24",
  family: "ipv4-unicast",
  kind: "learned",
  from: "tor-a",
  best: true,
  multipath: true,
  eligible: true,
  step: "Best",
  reason: "best: lowest neighbour address",
  attributes: { origin: "igp", asPath: "65001 65000", nextHop: "10.1.0.1", med: 0, communities: ["65001:100"] },
  since: new Date(now - 60_000).toISOString(),
};

export const routes: RouteView[] = [
  {
    ...route,
    prefix: "10.244.1.0/24",
    kind: "pod",
    from: "PodNetwork/default",
    reason: "only path",
    attributes: { origin: "igp", asPath: "", nextHop: "0.0.0.0" },
  },
  route,
  {
    ...route,
    from: "tor-b",
    best: false,
    reason: "equal (ECMP)",
    attributes: { ...route.attributes, asPath: "65002 65000", nextHop: "10.2.0.1" },
  },
  {
    ...route,
    prefix: "2001:db8:244:2::/64",
    family: "ipv6-unicast",
    from: "node2",
    best: false,
    multipath: false,
    eligible: false,
    reason: "next hop 2001:db8::2: no route",
    attributes: { origin: "incomplete", asPath: "", nextHop: "2001:db8::2", localPref: 100 },
  },
];

export const explanation: Explanation = {
  prefix: "10.244.2.7/32",
  matched: "10.244.2.0/24",
  candidates: [
    {
      ...route,
      import: {
        accepted: true,
        decidedBy: 'policy "from-tor", rule "pods"',
        trace: [
          { policy: "from-tor", rule: "no-default", matched: false, detail: "prefix 10.244.2.0/24 is not 0.0.0.0/0" },
          { policy: "from-tor", rule: "pods", matched: true, detail: "accept; local-pref 200 set" },
        ],
      },
    },
    routes[2],
    {
      ...routes[3],
      prefix: "10.244.2.0/24",
      from: "old-router",
      step: "Policy",
      reason: "rejected by import policy",
      attributes: { origin: "igp", asPath: "64999", nextHop: "10.9.0.1" },
      import: {
        accepted: false,
        decidedBy: 'policy "from-old", rule "deny-default"',
        trace: [{ policy: "from-old", rule: "deny-default", matched: true, detail: "reject" }],
      },
    },
  ],
  decision: "tor-a and tor-b share the traffic: equal up to the interior cost; tor-a is best by the lowest neighbour address (step g)",
  sent: [
    { neighbor: "node2", advertised: false, step: "IsItsSource", reason: "it is where the route came from" },
    {
      neighbor: "tor-b",
      advertised: true,
      step: "Policy",
      reason: 'accepted by policy "to-tor", rule "all"',
      attributes: { origin: "igp", asPath: "65000 65001 65000", nextHop: "10.2.0.11" },
    },
  ],
  passedOver: [{ prefix: "10.244.2.0/28", reason: "old-router: rejected by import policy" }],
  kernel: {
    installed: true,
    text: "via 10.1.0.1 dev eth0, via 10.2.0.1 dev eth1",
    others: ["static, metric 50: via 10.1.0.9 dev eth0"],
  },
  forwards: {
    to: "10.244.2.7",
    text: "via 10.1.0.9 dev eth0",
    prefix: "10.244.2.0/25",
    owner: "static",
    ours: false,
    metric: 0,
    table: "main",
    rule: "32766 (all packets → table main)",
    rulesBefore: ["100 (from 10.9.0.0/16 → table 7)"],
    conflict: "the static route 10.244.2.0/25 is longer than 10.244.2.0/24",
  },
  protectedBy: undefined,
};

export const problems: Problem[] = [
  {
    severity: "warning",
    reason: "NoEffect",
    object: "Policy/unused",
    field: "",
    message: "no peer uses this policy",
    remedy: "name it in a peer's importPolicies or exportPolicies, or remove it",
    place: "policies.yaml, document 2, line 14:1",
  },
  {
    severity: "error",
    reason: "ReferenceNotFound",
    object: "Peer/tor-b",
    field: "spec.passwordSecretRef.name",
    message: 'there is no Secret "tor-b"',
    remedy: "create it",
  },
];

export const status: StatusView = {
  node: "node1",
  version: "0.1.0",
  pid: 4711,
  turns: { longest: 12, at: "2026-05-04T09:00:00.000Z", now: 3 },
  memory: { resident: 120e6, heapTotal: 40e6, heapUsed: 20e6, external: 3e6 },
  startedAt: "2026-05-04T10:00:00.000Z",
  config: { source: "/etc/podlane", inUse: "source", appliedAt: "2026-05-04T11:00:00.000Z" },
  speaker: {
    asn: 65000,
    routerId: "10.1.0.11",
    listening: [
      { address: "0.0.0.0", port: 179 },
      { address: "::", port: 179 },
    ],
    tables: { "ipv4-unicast": { prefixes: 1200, paths: 2400, best: 1190 }, "ipv6-unicast": { prefixes: 3, paths: 3, best: 2 } },
    attributeSets: 40,
    updateGroups: 2,
    fib: {
      installed: 1192,
      adopted: 1100,
      pending: 0,
      failed: 1,
      swept: 0,
      written: 94,
      removed: 0,
      refused: 1,
      repaired: 2,
      lastError: "no route to host",
    },
    converged: false,
    sessions: { established: 1, configured: 2, overdue: ["tor-b"] },
  },
  services: 0,
  attachments: 12,
  serving: { ready: true, reason: "the routes are in" },
  problems: { errors: 1, warnings: 1 },
};

export const plan: PlanView = {
  node: "node1",
  announcements: [
    ...["tor-a", "tor-b"].map(neighbor => ({
      neighbor,
      family: "ipv4-unicast" as const,
      announced: [
        {
          prefix: "10.244.1.0/24",
          kind: "pod",
          source: "PodNetwork/default",
          attributes: { origin: "igp", asPath: "65000", communities: ["65000:1"] },
          decidedBy: 'policy "advertisement:pods", rule "announce"',
        },
      ],
      withheld: [{ prefix: "192.0.2.0/24", reason: "default: reject (RFC 8212)" }],
    })),
    { neighbor: "tor-c", family: "ipv4-unicast", announced: [], withheld: [] },
  ],
  changes: [
    { neighbor: "tor-d", action: "add", text: "a session is added" },
    { neighbor: "tor-a", action: "reset", text: "the session is reset: hold time changed" },
  ],
  speaker: {
    asn: 65000,
    routerId: "10.1.0.11",
    listen: { port: 179 },
    neighbors: [
      {
        name: "tor-a",
        source: "Peer/tor-a",
        address: "10.1.0.1",
        port: 179,
        remoteAsn: 65001,
        password: "(hidden)",
        passive: false,
        holdTime: 9,
        keepaliveTime: 3,
        connectRetryTime: 5,
        advertisementInterval: 0,
        ttlSecurity: 1,
        families: {
          "ipv4-unicast": {
            importPolicies: [],
            exportPolicies: [],
            prefixLimit: 1000,
            prefixWarning: 80,
            nextHopSelf: false,
            allowAsIn: 0,
          },
        },
        routeReflectorClient: false,
      },
    ],
    policies: {},
    networks: [{ prefix: "10.244.1.0/24", kind: "pod", source: "PodNetwork/default", discard: true, sources: ["PodNetwork/default"] }],
    multipath: { ebgp: 16, ibgp: 16, asPathRelax: true },
    decision: { alwaysCompareMed: false, preferOldest: false },
    fib: { enabled: true, table: 254, protocol: 201, metric: 0 },
    protectedPrefixes: [],
    startupWait: 60,
  },
  pods: {
    podCidrs: ["10.244.1.0/24"],
    mode: "bridge",
    bridgeName: "podlane0",
    mtu: "auto",
    hairpin: true,
  },
  problems,
};
