/** Fabric: which AS a set of nodes belongs to, how they peer with each other, and the defaults of their sessions. */
import {
  dottedQuad,
  fromNode,
  objectName,
  passwordSecretRef,
  plainStatus,
  prefix,
  prefixRange,
  routerAsn,
  selector,
  timers,
} from "./common.ts";
import { flag, integer, keyed, list, object, oneOf, optional, set, text } from "./schema.ts";

const mesh = object(
  "The iBGP sessions among the nodes of this fabric. Where two nodes both have an InternalIP of a family, one session per family carries it.",
  {
    type: oneOf(
      "Full: every node with every other. RouteReflectors: clients with reflectors only. None: no sessions among nodes.",
      ["Full", "RouteReflectors", "None"],
      { default: "Full" },
    ),
    routeReflectors: optional(
      object("For type RouteReflectors.", {
        nodeSelector: selector("The nodes that reflect (RFC 4456)."),
        clusterID: optional(dottedQuad("CLUSTER_ID that all reflectors share. Default: each its own router id.")),
      }),
    ),
    passwordSecretRef: optional(passwordSecretRef()),
    ttlSecurity: optional(
      integer(
        "Hops from which packets of other nodes are trusted (GTSM, RFC 5082), 1..254. 1: on the sessions between nodes that share a link, and on no others; more: on all.",
        1,
        254,
      ),
    ),
    nextHopSelf: flag("Put the node's own address as next hop on routes that it learned from external peers.", true),
    trust: oneOf(
      "Own: from a node only what it may originate is accepted: its pod subnets, what Advertisements with `mesh: true` give it, what its Peers let in, and `accept`; behind a reflector the node is known by ORIGINATOR_ID. A neighbour outside that announces pod subnets of this fabric's nodes which do not come from them, by the end of the AS path or ORIGINATOR_ID, is refused. Any: whatever a node says.",
      ["Own", "Any"],
      { default: "Own" },
    ),
    accept: optional(
      list(
        "What every node may announce besides its own. What is guarded (see protectedPrefixes) stays refused unless an entry names that exactly: {prefix: 0.0.0.0/0} is the default route.",
        prefixRange(),
        64,
      ),
    ),
    importPolicies: optional(list("Policies on what other nodes send, in order; at the end: accept.", objectName("Name of a Policy."), 16)),
    exportPolicies: optional(
      list("Policies on what is sent to other nodes, in order; at the end: accept.", objectName("Name of a Policy."), 16),
    ),
  },
  {
    default: {},
    rules: [
      {
        rule: "(self.type == 'RouteReflectors') == has(self.routeReflectors)",
        message: "routeReflectors is for type RouteReflectors, and is needed there",
      },
    ],
  },
);

const listen = object(
  "Where sessions are accepted.",
  {
    port: integer("TCP port, 0..65535. 0 = accept nothing.", 0, 65535, { default: 179 }),
    addresses: oneOf("All: every address of the node. InternalIP: only the node's InternalIPs.", ["All", "InternalIP"], { default: "All" }),
  },
  { default: {} },
);

const multipath = object(
  "How many equally good routes are installed side by side (ECMP).",
  {
    external: integer("From external peers, 1..64.", 1, 64, { default: 16 }),
    internal: integer("From internal peers, 1..64.", 1, 64, { default: 16 }),
    relaxASPath: flag(
      "AS paths of equal length but other content count as equal: needed when the top-of-rack routers have different ASes.",
      true,
    ),
  },
  { default: {} },
);

const decision = object(
  "Variants of the decision process (RFC 4271 section 9.1.2.2).",
  {
    alwaysCompareMED: flag("Compare MED also between routes of different neighbouring ASes.", false),
    preferOldest: flag("Prefer the external route that has been there longest before router ids decide (RFC 5004).", false),
  },
  { default: {} },
);

const forwarding = object(
  "What is written into the kernel's forwarding table.",
  {
    enabled: flag("false: a pure reflector or route server; the kernel table is left alone.", true),
    table: integer("Kernel table, 1..4294967295. 254 = main.", 1, 4294967295, { default: 254 }),
    protocol: integer(
      "Protocol number that marks podlane's routes, 5..255 but 202, which marks those to the node's own pods. Routes with another number are never touched.",
      5,
      255,
      { default: 201, rules: [{ rule: "self != 202", message: "202 marks the routes to the node's own pods; choose another number" }] },
    ),
    metric: integer(
      "Metric of podlane's routes, 0..2147483647; of routes to one prefix the lowest is used. 0 = 0 for IPv4, the best, and 1023 for IPv6, one better than router advertisements and routes added without a metric (1024).",
      0,
      2147483647,
      { default: 0 },
    ),
  },
  { default: {} },
);

const protectedPrefix = object("A prefix that no neighbour can take over unless a policy rule names it.", {
  prefix: prefix("The prefix."),
  orLonger: flag("Guard everything inside the prefix as well.", true),
  reason: text("Shown where a route is refused.", 128, { minLength: 1, default: "protected by the fabric" }),
});

const readiness = object(
  "When a node counts as ready for pods: Node condition NetworkUnavailable, /readyz and CNI STATUS follow it. A node that was ready stays so until pods cannot be attached, or all its sessions are gone for `holdDown`.",
  {
    sessions: oneOf(
      "How many of the node's sessions must be established and have sent their tables. Any: one. All: all. Percent: `percent` of them, at least one.",
      ["Any", "All", "Percent"],
      { default: "Any" },
    ),
    percent: optional(integer("For sessions Percent, 1..100; rounded up to whole sessions.", 1, 100)),
    timeout: integer("How long a node waits for these sessions until it counts as ready without them. Seconds, 0..3600.", 0, 3600, {
      default: 30,
    }),
    holdDown: integer("How long all sessions of a ready node may be gone until it is not ready any more. Seconds, 0..86400.", 0, 86400, {
      default: 60,
    }),
  },
  {
    default: {},
    rules: [{ rule: "(self.sessions == 'Percent') == has(self.percent)", message: "percent is for sessions Percent, and is needed there" }],
  },
);

const services = object(
  "When the node's proxy for Services can take packets: their addresses are announced from then on. Where it does not answer, they are after `timeout`.",
  {
    proxyHealthPort: integer("Port of kube-proxy's health server on the node (healthzBindAddress); 0: it is not asked.", 0, 65535, {
      default: 10256,
    }),
    timeout: integer("How long an answer is awaited until addresses are announced without it. Seconds, 0..3600.", 0, 3600, { default: 30 }),
  },
  { default: {} },
);

export const fabricSpec = object(
  "What is wanted.",
  {
    nodeSelector: selector("The nodes this fabric is made of."),
    asn: optional(routerAsn("The nodes' AS number; the node annotation podlane.io/asn overrides it for one node.")),
    asnFrom: optional(
      fromNode(
        "Instead of `asn`: each node says its AS number, for example that of its rack. The mesh is then among the nodes of one AS; those of another are reached through Peers. The node annotation podlane.io/asn overrides it.",
      ),
    ),
    routerIDFrom: oneOf(
      "InternalIP: the node's IPv4 InternalIP, else a number derived from its name. NodeName: always derived from the name. The node annotation podlane.io/router-id overrides both.",
      ["InternalIP", "NodeName"],
      { default: "InternalIP" },
    ),
    listen,
    mesh,
    timers: optional(timers()),
    allowASSets: flag(
      "Take AS_SETs and AS_CONFED_SETs in AS paths from neighbours, and pass them on: the sessions of the mesh, and of Peers that do not say. Without it such routes are refused (RFC 9774).",
      false,
    ),
    multipath,
    decision,
    forwarding,
    serviceCIDRs: optional(
      set(
        "The cluster's service ranges, beside those that PodNetworks name; no neighbour can take them over.",
        prefix("A service range."),
        8,
      ),
    ),
    protectedPrefixes: optional(
      keyed(
        "Prefixes guarded besides the node's pod subnets and connected networks, service ranges, default routes, prefixes shorter than /8 (IPv6: /16), and reserved ranges (0.0.0.0/8, 169.254.0.0/16, 240.0.0.0/4, ::/16, fec0::/10).",
        "prefix",
        protectedPrefix,
        64,
      ),
    ),
    startupWait: integer(
      "How long a starting agent waits for its neighbours' routes before it removes stale kernel routes; and, when the mesh changes to other reflectors or between types, how long sessions that it leaves out wait at most for others to carry their routes. Seconds, 1..3600.",
      1,
      3600,
      {
        default: 60,
      },
    ),
    readiness,
    services,
  },
  { rules: [{ rule: "has(self.asn) != has(self.asnFrom)", message: "asn or asnFrom says the AS of the nodes: one of both is needed" }] },
);

export const fabricStatus = plainStatus({
  nodes: optional(integer("Nodes of this fabric.", 0, 2147483647)),
  nodesReady: optional(integer("Nodes of it that serve pods.", 0, 2147483647)),
});
