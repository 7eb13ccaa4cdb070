/** Random clusters and what happens to them, small enough that rules meet: for fast-check. */
import fc from "fast-check";
import type { PolicyIndex } from "../policy-index.ts";
import type {
  ClusterPolicyObject,
  LabelSelector,
  NetworkPolicyObject,
  PolicyAttachment,
  PolicyNamespace,
  PolicyNode,
  PolicyPeer,
  PolicyPod,
  PolicyPort,
  TierPeer,
  TierRule,
} from "../types.ts";
import type { Cluster } from "./oracle.ts";

const NAMESPACES = ["a", "b", "c"];
/** Of each namespace. */
const PODS = 3;

const app = fc.constantFrom("web", "db");
const zone = fc.constantFrom("x", "y");

const expression = fc.oneof(
  fc.record({
    key: fc.constantFrom("app", "zone"),
    operator: fc.constantFrom("In" as const, "NotIn" as const),
    values: fc.subarray(["web", "db", "x"], { minLength: 1 }),
  }),
  fc.record({ key: fc.constantFrom("app", "zone"), operator: fc.constantFrom("Exists" as const, "DoesNotExist" as const) }),
);
const podSelector: fc.Arbitrary<LabelSelector> = fc.oneof(
  fc.constant({}),
  app.map(value => ({ matchLabels: { app: value } })),
  fc.record({ matchExpressions: fc.array(expression, { minLength: 1, maxLength: 2 }) }),
);
const namespaceSelector: fc.Arbitrary<LabelSelector> = fc.oneof(
  fc.constant({}),
  fc.constantFrom(...NAMESPACES).map(name => ({ matchLabels: { "kubernetes.io/metadata.name": name } })),
  zone.map(value => ({ matchLabels: { zone: value } })),
  fc.constant<LabelSelector>({ matchExpressions: [{ key: "zone", operator: "DoesNotExist" }] }),
);
const cidr = fc.constantFrom(
  "10.0.0.0/8",
  "10.0.1.0/24",
  "10.0.1.1/32",
  "10.0.1.0/31",
  "0.0.0.0/0",
  "192.0.2.0/24",
  "fd00::/16",
  "fd00::1:0/112",
  "::/0",
);
const block = fc
  .record({ cidr, except: fc.subarray(["10.0.1.0/25", "10.0.2.1/32", "10.0.0.0/15", "fd00::1:1/128", "192.0.2.9/32"]) })
  .map(one => ({ ...one, except: one.except.filter(hole => hole.includes(":") === one.cidr.includes(":")) }));
const peer: fc.Arbitrary<PolicyPeer> = fc.oneof(
  podSelector.map(pods => ({ pods })),
  namespaceSelector.map(namespaces => ({ namespaces })),
  fc.record({ pods: podSelector, namespaces: namespaceSelector }),
  block.map(one => ({ block: one })),
);
const protocol = fc.constantFrom("TCP" as const, "UDP" as const, "SCTP" as const);
const port: fc.Arbitrary<PolicyPort> = fc.oneof(
  protocol.map(one => ({ protocol: one })),
  fc.record({ protocol, port: fc.constantFrom<number | string>(80, 8080, 53, "http", "dns", "none") }),
  fc.constant<PolicyPort>({ protocol: "TCP", port: 79, endPort: 90 }),
  fc.constant<PolicyPort>({ protocol: "TCP", port: 85, endPort: 9000 }),
);
const ports = fc.option(fc.array(port, { maxLength: 3 }), { nil: undefined });
const rules = fc.option(
  fc.array(fc.record({ peers: fc.option(fc.array(peer, { maxLength: 3 }), { nil: undefined }), ports }), { maxLength: 3 }),
  { nil: undefined },
);
const policy: fc.Arbitrary<NetworkPolicyObject> = fc
  .record({ namespace: fc.constantFrom(...NAMESPACES), name: fc.constantFrom("p", "q"), pods: podSelector, ingress: rules, egress: rules })
  .map(one => ({ ...one, key: `${one.namespace}/${one.name}` }));

const tierPods = fc.oneof(
  namespaceSelector.map(namespaces => ({ namespaces })),
  fc.record({ namespaces: namespaceSelector, pods: podSelector }).map(pods => ({ pods })),
);
const tierRule = (peers: fc.Arbitrary<TierPeer>): fc.Arbitrary<TierRule> =>
  fc.record({
    action: fc.constantFrom("Accept" as const, "Deny" as const, "Pass" as const),
    peers: fc.array(peers, { maxLength: 2 }),
    ports,
  });
const outside: fc.Arbitrary<TierPeer> = fc.oneof(
  tierPods,
  fc.array(cidr, { minLength: 1, maxLength: 2 }).map(networks => ({ networks })),
  zone.map(value => ({ nodes: { matchLabels: { zone: value } } })),
);
const clusterPolicy: fc.Arbitrary<ClusterPolicyObject> = fc
  .record({
    name: fc.constantFrom("k", "l", "m"),
    tier: fc.constantFrom("Admin" as const, "Baseline" as const),
    priority: fc.constantFrom(1, 2),
    subject: tierPods,
    ingress: fc.array(tierRule(tierPods), { maxLength: 2 }),
    egress: fc.array(tierRule(outside), { maxLength: 2 }),
  })
  .map(one => ({ ...one, key: `ClusterNetworkPolicy/${one.name}` }));

const pod: fc.Arbitrary<{ pod: PolicyPod; attached: boolean }> = fc
  .record({
    namespace: fc.integer({ min: 0, max: NAMESPACES.length - 1 }),
    number: fc.integer({ min: 1, max: PODS }),
    app,
    zone: fc.option(zone, { nil: undefined }),
    families: fc.constantFrom([4], [6], [4, 6], [4, 6]),
    kind: fc.constantFrom("usual", "usual", "usual", "usual", "host", "ended", "without"),
    attached: fc.boolean(),
    http: fc.constantFrom(80, 8080),
    dns: fc.boolean(),
  })
  .map(one => {
    const all = one.families.map(family =>
      family === 4 ? `10.0.${one.namespace}.${one.number}` : `fd00::${one.namespace + 1}:${one.number}`,
    );
    const addresses = one.kind === "without" ? [] : one.kind === "host" ? ["192.0.2.1"] : all;
    const namespace = NAMESPACES[one.namespace];
    const name = `p${one.number}`;
    return {
      attached: one.attached && one.kind === "usual",
      pod: {
        ...{ key: `${namespace}/${name}`, namespace, name, node: "n1", addresses },
        labels: { app: one.app, ...(one.zone && { zone: one.zone }) },
        hostNetwork: one.kind === "host",
        ended: one.kind === "ended",
        ports: [
          { name: "http", protocol: "TCP", port: one.http },
          ...(one.dns
            ? [
                { name: "dns", protocol: "UDP" as const, port: 53 },
                { name: "dns", protocol: "TCP" as const, port: 53 },
              ]
            : []),
        ],
      },
    };
  });
const namespace: fc.Arbitrary<PolicyNamespace> = fc
  .record({ name: fc.constantFrom(...NAMESPACES), zone: fc.option(zone, { nil: undefined }) })
  .map(one => ({ name: one.name, labels: { "kubernetes.io/metadata.name": one.name, ...(one.zone && { zone: one.zone }) } }));
const node: fc.Arbitrary<PolicyNode> = fc
  .record({ number: fc.constantFrom(1, 2), zone })
  .map(one => ({ name: `n${one.number}`, labels: { zone: one.zone }, addresses: [`192.0.2.${one.number}`, `2001:db8::${one.number}`] }));

export type Step =
  | { set: "pod"; value: PolicyPod; attached: boolean }
  | { set: "namespace"; value: PolicyNamespace }
  | { set: "node"; value: PolicyNode }
  | { set: "policy"; value: NetworkPolicyObject }
  | { set: "clusterPolicy"; value: ClusterPolicyObject }
  | { delete: "pod" | "policy" | "clusterPolicy" | "node"; at: number }
  | { take: true };

export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: pod.map(one => ({ set: "pod" as const, value: one.pod, attached: one.attached })) },
  { weight: 2, arbitrary: namespace.map(value => ({ set: "namespace" as const, value })) },
  { weight: 1, arbitrary: node.map(value => ({ set: "node" as const, value })) },
  { weight: 4, arbitrary: policy.map(value => ({ set: "policy" as const, value })) },
  { weight: 2, arbitrary: clusterPolicy.map(value => ({ set: "clusterPolicy" as const, value })) },
  {
    weight: 3,
    arbitrary: fc.record({
      delete: fc.constantFrom("pod" as const, "policy" as const, "clusterPolicy" as const, "node" as const),
      at: fc.nat({ max: 20 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ take: true as const }) },
);

/** What the steps come to, told to an index as they happen. */
export class World {
  readonly #index: PolicyIndex;
  readonly #all = {
    pod: new Map<string, PolicyPod>(),
    namespace: new Map<string, PolicyNamespace>(NAMESPACES.map(name => [name, { name, labels: { "kubernetes.io/metadata.name": name } }])),
    node: new Map<string, PolicyNode>(),
    policy: new Map<string, NetworkPolicyObject>(),
    clusterPolicy: new Map<string, ClusterPolicyObject>(),
  };
  readonly attachments = new Map<string, PolicyAttachment>();

  constructor(index: PolicyIndex) {
    this.#index = index;
    for (const one of this.#all.namespace.values()) index.setNamespace(one);
    index.settle();
  }

  do(one: Step): void {
    if ("delete" in one) this.#delete(one.delete, one.at);
    else if ("set" in one) this.#set(one);
    this.#index.settle();
  }

  get cluster(): Cluster {
    const { pod, namespace, node, policy, clusterPolicy } = this.#all;
    return {
      pods: [...pod.values()],
      namespaces: [...namespace.values()],
      nodes: [...node.values()],
      policies: [...policy.values()],
      clusterPolicies: [...clusterPolicy.values()],
    };
  }

  /** Tells another index what there is at last. */
  tell(index: PolicyIndex): void {
    const { pod, namespace, node, policy, clusterPolicy } = this.#all;
    for (const one of clusterPolicy.values()) index.setClusterPolicy(one);
    for (const one of policy.values()) index.setPolicy(one);
    for (const one of node.values()) index.setNode(one);
    for (const one of namespace.values()) index.setNamespace(one);
    for (const one of pod.values()) index.setPod(one);
    index.setAttachments([...this.attachments.values()].reverse());
    index.settle();
  }

  #set(one: Extract<Step, { set: string }>): void {
    const index = this.#index;
    if (one.set === "pod") {
      this.#all.pod.set(one.value.key, one.value);
      index.setPod(one.value);
      this.#attach(one.value, one.attached);
    } else if (one.set === "namespace") {
      this.#all.namespace.set(one.value.name, one.value);
      index.setNamespace(one.value);
    } else if (one.set === "node") {
      this.#all.node.set(one.value.name, one.value);
      index.setNode(one.value);
    } else if (one.set === "policy") {
      this.#all.policy.set(one.value.key, one.value);
      index.setPolicy(one.value);
    } else {
      this.#all.clusterPolicy.set(one.value.key, one.value);
      index.setClusterPolicy(one.value);
    }
  }

  #delete(kind: "pod" | "policy" | "clusterPolicy" | "node", at: number): void {
    const keys = [...this.#all[kind].keys()];
    if (keys.length === 0) return;
    const key = keys[at % keys.length];
    const value = this.#all[kind].get(key)!;
    this.#all[kind].delete(key);
    if (kind === "policy") this.#index.deletePolicy(key);
    else if (kind === "clusterPolicy") this.#index.deleteClusterPolicy(key);
    else if (kind === "node") this.#index.deleteNode(key);
    else {
      this.#index.deletePod(key);
      this.#attach(value as PolicyPod, false);
    }
  }

  #attach(value: PolicyPod, attached: boolean): void {
    const hostInterface = `veth-${value.namespace}-${value.name}`;
    if (attached) {
      const attachment = { key: value.key, addresses: value.addresses, hostInterface };
      this.attachments.set(hostInterface, attachment);
      this.#index.setAttachment(attachment);
    } else {
      this.attachments.delete(hostInterface);
      this.#index.deleteAttachment(hostInterface);
    }
  }
}
