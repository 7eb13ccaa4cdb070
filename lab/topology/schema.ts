/**
 * What a topology file may say: one YAML document with nodes, routers, links, objects, pods, checks and scenarios. The types come from
 * the same schema that validates the file, so what the file may say and what the code reads cannot drift apart.
 */
import type { Static } from "typebox";
import * as Type from "typebox";

const strict = { additionalProperties: false };
/** Checked as what they are, by objects.ts. */
const open = { additionalProperties: true };

/** Also part of namespace names: short, and without the separator of lab names. */
const Name = Type.String({
  pattern: "^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
  maxLength: 20,
  description: "at most 20 lower-case letters, digits and hyphens, beginning with a letter",
});
const Asn = Type.Integer({ minimum: 1, maximum: 4294967295 });
const Text = Type.String({ minLength: 1 });
const Seconds = Type.Number({ minimum: 0.1, maximum: 600 });

const Link = Type.Object(
  {
    name: Name,
    /** The switch of this segment is part of that router: a top-of-rack switch with a routed interface on it. */
    inside: Type.Optional(Name),
    subnets: Type.Array(Text, { minItems: 1, maxItems: 4 }),
    /** Who is on the link, and which host number of each subnet it has. */
    members: Type.Record(Type.String(), Type.Integer({ minimum: 0, maximum: 65535 })),
    mtu: Type.Optional(Type.Integer({ minimum: 1280, maximum: 9216 })),
  },
  strict,
);

const RouterNeighbor = Type.Object(
  { name: Name, asn: Asn, link: Type.Optional(Name), passive: Type.Optional(Type.Boolean()), password: Type.Optional(Text) },
  strict,
);

const Router = Type.Object(
  {
    /**
     * The rows of engine/router-kinds.ts, which does not compile with one too few. "kubernetes" is a control plane, whose nodes are those of the lab; "host" is
     * a machine that runs nothing and has its default routes through the first router on each link.
     */
    kind: Type.Enum(["frr", "bird", "kubernetes", "host"], { type: "string" }),
    /** Short form: the daemon's configuration is generated from these. */
    asn: Type.Optional(Asn),
    neighbors: Type.Optional(Type.Array(RouterNeighbor)),
    announce: Type.Optional(Type.Array(Text)),
    holdTime: Type.Optional(Type.Integer({ minimum: 3, maximum: 65535 })),
    /** Long form: the daemon's configuration itself. */
    config: Type.Optional(Text),
    description: Type.Optional(Type.String()),
  },
  strict,
);

const Node = Type.Object(
  {
    pods: Type.Optional(Type.Integer({ minimum: 0, maximum: 50 })),
    /** Addresses on the loopback interface, /32 and /128. */
    loopback: Type.Optional(Type.Array(Text, { minItems: 1, maxItems: 4 })),
    /** It has default routes of its own through the first router on its links, as a host has. */
    defaultRoutes: Type.Optional(Type.Boolean()),
    description: Type.Optional(Type.String()),
  },
  strict,
);

const KernelRoute = Type.Object(
  {
    prefix: Text,
    /** Exactly these gateways. */
    via: Type.Optional(Type.Array(Text)),
    /** Exactly so many next hops. */
    paths: Type.Optional(Type.Integer({ minimum: 1 })),
    /** All of them by this device. */
    dev: Type.Optional(Text),
  },
  strict,
);

const ByMachine = <T extends Parameters<typeof Type.Record>[1]>(value: T) => Type.Record(Type.String(), value);

const conditionProperties = {
  /** Number of established sessions of a node or router. */
  sessions: Type.Optional(ByMachine(Type.Integer({ minimum: 0 }))),
  /** Prefixes in the BGP table of a router or node. */
  routes: Type.Optional(ByMachine(Type.Array(Text))),
  noRoutes: Type.Optional(ByMachine(Type.Array(Text))),
  /** Routes in the kernel of a node or router. */
  kernel: Type.Optional(ByMachine(Type.Array(KernelRoute))),
  noKernel: Type.Optional(ByMachine(Type.Array(Text))),
};

export const conditionNames = Object.keys(conditionProperties) as (keyof typeof conditionProperties)[];

/** What must be true. Every part that is given must hold. */
const Condition = Type.Object(conditionProperties, strict);

const Names = Type.Array(Name, { minItems: 1 });
const Addresses = Type.Array(Text, { minItems: 1 });
const Port = Type.Integer({ minimum: 1, maximum: 65535 });

const Reach = Type.Object(
  {
    /** Machines or pods. */
    from: Names,
    to: Addresses,
    /** Default 80. */
    port: Type.Optional(Port),
    /** Exactly these pods answer, each of them. */
    by: Names,
    /** They see the asker's own address, or never. */
    sees: Type.Enum(["own", "other"], { type: "string" }),
  },
  strict,
);

const Death = Type.Object(
  {
    from: Names,
    to: Addresses,
    /** TCP to this port; absent: ICMP. */
    port: Type.Optional(Port),
    /** The last that a packet comes to: one of these. */
    at: Names,
    /** As how manieth machine on its way; the sender does not count. */
    hops: Type.Integer({ minimum: 1, maximum: 16 }),
  },
  strict,
);

const Carriage = Type.Object(
  {
    /** Pods. */
    from: Name,
    to: Names,
    /** What the first link of the sender's node carries: packets of the pods as they are, or in VXLAN. */
    as: Type.Enum(["plain", "vxlan"], { type: "string" }),
  },
  strict,
);

const Checks = Type.Object(
  {
    ...conditionProperties,
    /** Every pod to every pod, IPv4 and IPv6, ICMP and TCP; the receiver must see the sender's own address. */
    pods: Type.Optional(Type.Enum(["all"], { type: "string" })),
    /** Reachability without pods: from a machine to an address. */
    ping: Type.Optional(Type.Array(Type.Object({ from: Name, to: Text }, strict))),
    /** Addresses of Services, asked over HTTP: each of the senders gets an answer of each. */
    reach: Type.Optional(Type.Array(Reach)),
    /** Packets that nobody is to answer, and that must not wander. */
    dies: Type.Optional(Type.Array(Death)),
    /** How packets as large as a pod may send travel, in each family, without fragments: looked at by capture. */
    carried: Type.Optional(Type.Array(Carriage)),
    within: Type.Optional(Seconds),
  },
  strict,
);

/** Exactly one of the actions (load.ts holds that); `within` and `measure` belong to `await`. */
const Step = Type.Object(
  {
    /** SIGKILL to the agent of a node, or to the daemons of a router. */
    kill: Type.Optional(Name),
    /** SIGTERM. */
    stop: Type.Optional(Name),
    start: Type.Optional(Name),
    /** All links down and all processes killed, at once. */
    powerOff: Type.Optional(Name),
    powerOn: Type.Optional(Name),
    /** Let it run for so many seconds and watch. */
    observe: Type.Optional(Seconds),
    await: Type.Optional(Condition),
    within: Type.Optional(Seconds),
    /** What the time until the condition held is called in the result. */
    measure: Type.Optional(Text),
  },
  strict,
);

const Scenario = Type.Object(
  {
    name: Text,
    /** Packets that run during all steps. */
    ping: Type.Optional(
      Type.Object(
        {
          /** Pods (node1-1), or nodes: all pods of the node. */
          from: Type.Array(Name, { minItems: 1 }),
          to: Type.Array(Name, { minItems: 1 }),
          /** Milliseconds between two packets of one pair. */
          interval: Type.Optional(Type.Integer({ minimum: 2, maximum: 1000 })),
        },
        strict,
      ),
    ),
    steps: Type.Array(Step, { minItems: 1 }),
    expect: Type.Optional(
      Type.Object(
        {
          /** At most so many packets lost. */
          lost: Type.Optional(Type.Integer({ minimum: 0 })),
          /** Milliseconds that the longest gap of any pair may last. */
          outage: Type.Optional(Type.Integer({ minimum: 0 })),
          /** In these machines no kernel route to a pod subnet may be withdrawn at any moment. */
          undisturbed: Type.Optional(Type.Array(Name)),
        },
        strict,
      ),
    ),
  },
  strict,
);

export const TopologySchema = Type.Object(
  {
    /** Also the lab's name: letters and digits. */
    name: Type.String({
      pattern: "^[a-z][a-z0-9]{0,11}$",
      description: "at most 12 lower-case letters and digits, beginning with a letter",
    }),
    title: Text,
    description: Type.Optional(Type.String()),
    nodes: Type.Optional(Type.Record(Type.String(), Node)),
    routers: Type.Optional(Type.Record(Type.String(), Router)),
    links: Type.Array(Link, { minItems: 1 }),
    /** Kubernetes Node and podlane.io objects: literally what stands in the agents' configuration directory. With a control plane of any kind: it gets them. */
    objects: Type.Optional(Type.Array(Type.Object({ apiVersion: Text, kind: Text, metadata: Type.Object({ name: Text }, open) }, open))),
    checks: Type.Optional(Checks),
    scenarios: Type.Optional(Type.Array(Scenario)),
  },
  strict,
);

export type Topology = Static<typeof TopologySchema>;
export type LinkSpec = Static<typeof Link>;
export type RouterSpec = Static<typeof Router>;
export type Condition = Static<typeof Condition>;
export type Checks = Static<typeof Checks>;
export type Reach = Static<typeof Reach>;
export type Death = Static<typeof Death>;
export type Carriage = Static<typeof Carriage>;
export type Step = Static<typeof Step>;
export type Scenario = Static<typeof Scenario>;
