/**
 * The objects of the ruleset that policies come to on a node: two base chains, from which verdict maps lead a pod's packets to the chain of those policies
 * that select it. A packet's cost does not grow with the other policies. Pods with the same policies share a chain, policies that several of these
 * ask have one of their own. Pure.
 */
import type { IpFamily } from "../../net/address.ts";
import { type Chain, type Expression, type NamedMap, type NamedSet, objectKey, type Rule, type RulesetObject } from "../ruleset.ts";
import { BaseChains, comment, counterName, type Direction, Letters, mapName, nameOf, Place, selfName } from "./names.ts";
import { type Attached, familyOfText } from "./pods.ts";
import { Accept, address, equals, meta, type Needs, networkPolicyRules, payload, type RuleList, tierRules } from "./rules.ts";
import { addElements, type NamedPort, setType } from "./selection.ts";
import type { ClusterPolicyObject, NetworkPolicyObject } from "./types.ts";

export interface LogOptions {
  perSecond: number;
  burst: number;
}

/** What is asked of a pod's packets in a direction, in this order. Several pods may have the same. */
export interface Profile {
  /** Of its chain; the same for the same policies. */
  name: string;
  admin: readonly ClusterPolicyObject[];
  /** Any: what none of them lets pass is dropped. */
  networkPolicies: readonly NetworkPolicyObject[];
  /** None beside a NetworkPolicy: it is for pods that none isolates. */
  baseline: readonly ClusterPolicyObject[];
  /** The pod is not known, and policies may select it: nothing passes. */
  closed?: true;
}

/** Absent profile: nothing is asked. */
export interface Subject extends Attached {
  ingress?: Profile;
  egress?: Profile;
}

/** Sets that others keep. */
export interface Sets {
  pods(need: Needs["selections"][number]): NamedSet;
  nodes(need: Needs["nodes"][number]): NamedSet;
}

/** What a named counter of the ruleset counts: packets that the policy denied, or that were dropped at pods which it isolates. */
export interface DropCounter {
  name: string;
  /** NAMESPACE/NAME, or KIND/NAME. Absent: of pods that are not known. */
  policy?: string;
  direction: Direction;
}

export interface Assembled {
  objects: Map<string, RulesetObject>;
  counters: DropCounter[];
}

const Directions: readonly Direction[] = ["egress", "ingress"];
const Families: readonly IpFamily[] = [4, 6];
/** Just behind the filter of others, kube-proxy's among them; in the hook forward all translation of destinations is done. */
const Priorities: Readonly<Record<Direction, number>> = { egress: 5, ingress: 6 };
/** nftables bounds the expressions of a rule. */
const COUNTERS_PER_RULE = 32;
/** Of what the kernel takes, 127 octets, the rest is for its own words. */
const PREFIX_LENGTH = 100;
/** RFC 4861, RFC 2710, RFC 3810: what a link needs to work, and no policy is asked about. */
const LinkMessages = [
  "nd-neighbor-solicit",
  "nd-neighbor-advert",
  "mld-listener-query",
  "mld-listener-report",
  "mld-listener-done",
  "mld2-listener-report",
];

type TierChains = Map<string, { policies: readonly ClusterPolicyObject[]; chain: Chain; list: RuleList }>;
type ProfileChains = Map<string, Chain>;

export class Assembler {
  readonly #log: LogOptions | undefined;
  /** What was made of an object of policies, while that is the same. */
  readonly #policyChains = new WeakMap<NetworkPolicyObject, Map<string, { chain: Chain; list: RuleList; counter: string }>>();
  #tierChains: TierChains = new Map();
  #profileChains: ProfileChains = new Map();

  constructor(log: LogOptions | undefined) {
    this.#log = log;
  }

  /** None: no objects at all. Else connections are known to the kernel before the first policy comes, so that it finds those that may go on. */
  assemble(subjects: readonly Subject[], sets: Sets): Assembled {
    const run = new Run(subjects, sets);
    if (subjects.length > 0) {
      const [tiers, profiles] = [new Map(this.#tierChains), new Map(this.#profileChains)];
      this.#tierChains = new Map();
      this.#profileChains = new Map();
      for (const direction of Directions) this.#direction(run, direction, tiers, profiles);
    }
    return { objects: run.objects, counters: [...run.counters.values()] };
  }

  #direction(run: Run, direction: Direction, tiers: TierChains, profiles: ProfileChains): void {
    const profilesHere = new Map<string, Profile>();
    const asked = new Set<NetworkPolicyObject>();
    for (const { [direction]: profile } of run.subjects) if (profile) profilesHere.set(profile.name, profile);
    for (const profile of profilesHere.values()) {
      const { name } = profile;
      this.#profileChains.set(name, run.add(profiles.get(name) ?? this.#profileChain(profile, direction)));
      if (profile.closed) run.counter(unknownCounter(direction), direction);
      for (const policy of profile.networkPolicies) asked.add(policy);
      for (const policies of [profile.admin, profile.baseline]) this.#tierChain(run, policies, direction, tiers);
    }
    for (const policy of asked) this.#policyChain(run, policy, direction);
    run.base(direction);
  }

  #policyChain(run: Run, policy: NetworkPolicyObject, direction: Direction): void {
    const made = this.#policyChains.get(policy) ?? new Map();
    this.#policyChains.set(policy, made);
    const key = `${direction}${run.families}`;
    let known = made.get(key);
    if (!known) {
      const list = networkPolicyRules(policy, direction, run.families);
      const name = policyName(policy, direction);
      known = { list, chain: { ...Place, kind: "chain", name, rules: list.rules }, counter: counterName(direction, policy.key) };
      made.set(key, known);
    }
    run.add(known.chain);
    run.need(known.list);
    run.counter(known.counter, direction, policy.key);
  }

  #tierChain(run: Run, policies: readonly ClusterPolicyObject[], direction: Direction, tiers: TierChains): void {
    if (policies.length === 0) return;
    const key = `${direction}${run.families}${tierName(policies, direction)}`;
    let known = this.#tierChains.get(key) ?? tiers.get(key);
    if (!known || !sameItems(known.policies, policies)) {
      const list = tierRules(policies, direction, run.families, policy => this.#deny([policy.key], direction));
      known = { policies, list, chain: { ...Place, kind: "chain", name: tierName(policies, direction), rules: list.rules } };
    }
    this.#tierChains.set(key, known);
    run.add(known.chain);
    run.need(known.list);
    for (const policy of known.list.denying) run.counter(counterName(direction, policy), direction, policy);
  }

  #profileChain(profile: Profile, direction: Direction): Chain {
    const { name, admin, networkPolicies, baseline, closed } = profile;
    const jump = (target: string, text: string): Rule => ({ expressions: [{ jump: { target } }], comment: comment(text) });
    const rules: Rule[] = [];
    if (admin.length > 0) rules.push(jump(tierName(admin, direction), `tier Admin: ${listed(admin)}`));
    for (const policy of networkPolicies) rules.push(jump(policyName(policy, direction), policy.key));
    if (baseline.length > 0) rules.push(jump(tierName(baseline, direction), `tier Baseline: ${listed(baseline)}`));
    if (closed || networkPolicies.length > 0) {
      const policies = networkPolicies.map(({ key }) => key);
      const text = comment(closed ? "the pod is not known yet" : `isolated by ${listed(networkPolicies)}`);
      for (const expressions of this.#deny(policies, direction)) rules.push({ expressions, comment: text });
    }
    return { ...Place, kind: "chain", name, rules };
  }

  /** Logs, counts for each of these policies (none: for unknown pods), drops. */
  #deny(policies: readonly string[], direction: Direction): Expression[][] {
    const names = policies.length > 0 ? policies.map(policy => counterName(direction, policy)) : [unknownCounter(direction)];
    const counters = names.map(counter => ({ counter }));
    const rules: Expression[][] = [];
    if (this.#log) {
      const { perSecond, burst } = this.#log;
      const [first = "pod not known"] = policies;
      const more = policies.length > 1 ? ` and ${policies.length - 1} more` : "";
      const prefix = `podlane ${direction} drop, ${first}`.slice(0, PREFIX_LENGTH) + more;
      rules.push([{ limit: { rate: perSecond, burst, per: "second" } }, { log: { prefix: `${prefix}: ` } }]);
    }
    for (let at = 0; at < counters.length - COUNTERS_PER_RULE; at += COUNTERS_PER_RULE)
      rules.push(counters.slice(at, at + COUNTERS_PER_RULE));
    rules.push([...counters.slice(-(counters.length % COUNTERS_PER_RULE || COUNTERS_PER_RULE)), { drop: null }]);
    return rules;
  }
}

type MapEntry = { key: unknown; value: unknown };
const entries = new WeakMap<Profile, Map<string, MapEntry>>();

/** One making of all objects. */
class Run {
  readonly objects = new Map<string, RulesetObject>();
  readonly counters = new Map<string, DropCounter>();
  readonly subjects: readonly Subject[];
  /** Of the pods here: packets of others come to no chain. */
  readonly families: readonly IpFamily[];
  readonly #sets: Sets;

  constructor(subjects: readonly Subject[], sets: Sets) {
    this.subjects = subjects;
    this.#sets = sets;
    const has = (family: IpFamily) => subjects.some(({ attachment }) => attachment.addresses.some(one => familyOfText(one) === family));
    this.families = Families.filter(has);
  }

  add<T extends RulesetObject>(object: T): T {
    this.objects.set(objectKey(object), object);
    return object;
  }

  need({ needs }: RuleList): void {
    for (const need of needs.selections) this.add(this.#sets.pods(need));
    for (const need of needs.nodes) this.add(this.#sets.nodes(need));
    for (const set of needs.blocks) this.add(set);
    for (const { name, family, port } of needs.local) {
      if (!this.objects.has(objectKey({ ...Place, kind: "set", name }))) this.#local(name, family, port);
    }
  }

  counter(name: string, direction: Direction, policy?: string): void {
    if (this.counters.has(name)) return;
    this.counters.set(name, { name, direction, ...(policy !== undefined && { policy }) });
    this.add({ ...Place, kind: "counter", name });
  }

  base(direction: Direction): void {
    const rules: Rule[] = [
      {
        expressions: [{ match: { op: "in", left: { ct: { key: "state" } }, right: ["established", "related"] } }, Accept],
        comment: "replies, and what began before a policy came",
      },
    ];
    const judged = this.subjects.filter(subject => subject[direction]);
    if (judged.length > 0) rules.push(...this.#judging(direction, judged));
    const base = { type: "filter", hook: "forward", priority: Priorities[direction], policy: "accept" } as const;
    this.add({ ...Place, kind: "chain", name: BaseChains[direction], base, rules });
  }

  #judging(direction: Direction, judged: readonly Subject[]): Rule[] {
    const field = direction === "ingress" ? "daddr" : "saddr";
    const lookups = this.families.map(family => {
      this.#addSelf(family);
      this.add(verdicts(direction, family, judged));
      return { expressions: [{ vmap: { key: address(family, field), data: `@${mapName(direction, family)}` } }] };
    });
    const self = this.families.map(family => {
      const pair = { concat: [address(family, "saddr"), address(family, "daddr")] };
      return { expressions: [equals(pair, `@${selfName(family)}`), Accept], comment: "a pod to itself, through a Service" };
    });
    return [...this.#linkRules(direction, field, judged), ...self, ...lookups];
  }

  /**
   * Frames between ports of a bridge: a link-local address says not which pod it is, and a group is many. In the hook forward of a bridge the device
   * is the bridge itself. Bridges of others are left alone.
   */
  #linkRules(direction: Direction, field: "saddr" | "daddr", judged: readonly Subject[]): Rule[] {
    const bridges = new Set(judged.map(({ attachment }) => attachment.bridge));
    const names = [...bridges].flatMap(name => name ?? []).sort();
    if (names.length === 0 && !bridges.has(undefined)) return [];
    const here = bridges.has(undefined) ? [] : [equals(meta("iifname"), names.length === 1 ? names[0] : { set: names })];
    const groups = [...here, equals(meta("pkttype"), { set: ["broadcast", "multicast"] }), { drop: null }];
    const linkLocal = { prefix: { addr: "fe80::", len: 10 } };
    const six = [
      { expressions: [equals(payload("icmpv6", "type"), { set: LinkMessages }), Accept], comment: "the link itself" },
      {
        expressions: [...here, equals(address(6, field), linkLocal), { drop: null }],
        comment: "link-local addresses say not which pod it is",
      },
    ];
    return [
      ...(this.families.includes(6) ? six : []),
      ...(direction === "ingress" ? [{ expressions: groups, comment: "groups would reach isolated pods, too" }] : []),
    ];
  }

  #addSelf(family: IpFamily): void {
    if (this.objects.has(objectKey({ ...Place, kind: "set", name: selfName(family) }))) return;
    const elements = new Map<string, unknown>();
    for (const { attachment, ingress, egress } of this.subjects) {
      if (!ingress && !egress) continue;
      const own = attachment.addresses.filter(one => familyOfText(one) === family);
      for (const from of own) for (const to of own) elements.set(`${from} . ${to}`, { concat: [from, to] });
    }
    const type = setType(family, false) as string;
    this.add({ ...Place, kind: "set", name: selfName(family), type: [type, type], elements });
  }

  #local(name: string, family: IpFamily, port: NamedPort): void {
    const elements = new Map<string, unknown>();
    for (const { attachment, subject } of this.subjects) addElements(elements, attachment.addresses, subject?.ports ?? [], family, port);
    this.add({ ...Place, kind: "set", name, type: setType(family, true), elements });
  }
}

function verdicts(direction: Direction, family: IpFamily, judged: readonly Subject[]): NamedMap {
  const elements = new Map<string, MapEntry>();
  for (const { attachment, [direction]: profile } of judged) {
    for (const key of attachment.addresses) if (familyOfText(key) === family) elements.set(key, entryOf(profile!, key));
  }
  return { ...Place, kind: "map", name: mapName(direction, family), type: setType(family, false), map: "verdict", elements };
}

/** The same object for the same element, so that who compares has little to do. */
function entryOf(profile: Profile, address: string): MapEntry {
  const known = entries.get(profile) ?? new Map<string, MapEntry>();
  entries.set(profile, known);
  const entry = known.get(address) ?? { key: address, value: { goto: { target: profile.name } } };
  known.set(address, entry);
  return entry;
}

function policyName({ key }: NetworkPolicyObject, direction: Direction): string {
  return nameOf(`policy-${Letters[direction]}`, key);
}

function tierName(policies: readonly ClusterPolicyObject[], direction: Direction): string {
  return nameOf(
    `tier-${Letters[direction]}`,
    policies.map(({ key }) => key),
  );
}

function unknownCounter(direction: Direction): string {
  return `np-drop-${Letters[direction]}-unknown`;
}

function listed(policies: readonly { key: string }[]): string {
  return policies.map(({ key }) => key).join(", ");
}

function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((one, at) => one === b[at]);
}
