/** Pods, policies and namespaces of a cluster that is made up, the same for the same numbers: what benchmarks of NetworkPolicy have in common. */
import type { NetworkPolicyObject, PolicyAttachment, PolicyNamespace, PolicyPod, PolicyRule } from "../netfilter/policy/types.ts";

export const APPS = ["web", "api", "db", "cache", "job"];

function namespaceName(number: number): string {
  return `team-${number}`;
}

export function namespaceOf(number: number): PolicyNamespace {
  const name = namespaceName(number);
  return { name, labels: { "kubernetes.io/metadata.name": name, team: String(number % 10) } };
}

export function podOf(number: number, namespaces: number): PolicyPod {
  const namespace = namespaceName(number % namespaces);
  const name = `pod-${number}`;
  const app = APPS[Math.floor(number / namespaces) % APPS.length];
  return {
    ...{ key: `${namespace}/${name}`, namespace, name, uid: `uid-${number}`, node: `node-${number % 50}` },
    labels: { app, "pod-template-hash": `${number % 97}`, version: `v${number % 3}` },
    addresses: [`10.${number >> 14}.${(number >> 7) & 127}.${number & 127}`, `fd00::${number.toString(16)}`],
    hostNetwork: false,
    ended: false,
    ports: [{ name: "http", protocol: "TCP", port: 8000 + (number % 2) }],
  };
}

/** In turn: shut, open to the own namespace's pods, to another team's, to addresses, by named port; and out to DNS and to the database. */
export function policyOf(number: number, namespaces: number): NetworkPolicyObject {
  const namespace = namespaceName(number % namespaces);
  const turn = Math.floor(number / namespaces);
  const app = APPS[turn % APPS.length];
  const friend = { matchLabels: { team: String((number + 1) % 10) } };
  const kinds: { ingress?: PolicyRule[]; egress?: PolicyRule[] }[] = [
    { ingress: [] },
    { ingress: [{ peers: [{ pods: { matchLabels: { app: "web" } } }], ports: [{ protocol: "TCP", port: 5432 }] }] },
    { ingress: [{ peers: [{ namespaces: friend, pods: { matchLabels: { app } } }], ports: [{ protocol: "TCP", port: "http" }] }] },
    {
      ingress: [
        { peers: [{ block: { cidr: "172.16.0.0/12", except: ["172.16.9.0/24"] } }], ports: [{ protocol: "TCP", port: 80, endPort: 90 }] },
      ],
    },
    { egress: [{ ports: [{ protocol: "UDP", port: 53 }] }, { peers: [{ pods: { matchLabels: { app: "db" } } }] }] },
  ];
  const pods = turn % 3 === 0 ? {} : { matchLabels: { app } };
  return { key: `${namespace}/policy-${number}`, namespace, name: `policy-${number}`, pods, ...kinds[turn % kinds.length] };
}

export function attachmentOf({ key, uid, addresses }: PolicyPod, hostInterface: string): PolicyAttachment {
  return { key, uid, addresses, hostInterface };
}

/** One in so many pods, and one more so that they are in different namespaces, is on the node that is measured. */
const NODES = 50;
const NAMESPACES = 50;

export interface Written {
  path: string;
  object: { metadata: { name: string; namespace: string } };
  /** Of a pod elsewhere. */
  address?: string;
}

/** The same as objects for an API server, in the order in which they can be made. `here`: the pods of node1, which have no address before they are attached. */
export function clusterObjects(pods: number, policies: number) {
  const namespaces = Array.from({ length: pods + policies > 0 ? NAMESPACES : 0 }, (_, at) => ({ metadata: namespaceOf(at) }));
  const allPods = Array.from({ length: pods }, (_, at): Written => {
    const { name, namespace, labels } = podOf(at, NAMESPACES);
    const ports = [{ name: "http", containerPort: 8000 + (at % 2) }];
    const isHere = at % (NODES + 1) === 0;
    const spec = {
      nodeName: isHere ? "node1" : `other${at % NODES}`,
      automountServiceAccountToken: false,
      containers: [{ name: "c", image: "i", ports }],
    };
    const object = { metadata: { name, namespace, labels }, spec };
    return { path: `/api/v1/namespaces/${namespace}/pods`, object, ...(!isHere && { address: `10.245.${at >> 8}.${at & 255}` }) };
  });
  const allPolicies = Array.from({ length: policies }, (_, at): Written => {
    const { name, namespace, pods: podSelector, ingress, egress } = policyOf(at, NAMESPACES);
    const spec = {
      podSelector,
      policyTypes: [ingress ? "Ingress" : "Egress"],
      ...(ingress && { ingress: ingress.map(rule => ruleObject(rule, "from")) }),
      ...(egress && { egress: egress.map(rule => ruleObject(rule, "to")) }),
    };
    const path = `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`;
    return { path, object: { metadata: { name, namespace }, spec } as Written["object"] };
  });
  const here = allPods.filter(({ address }) => address === undefined).map(({ object }) => object);
  return { namespaces, all: [...allPods, ...allPolicies], here };
}

function ruleObject({ peers, ports }: PolicyRule, of: "from" | "to"): object {
  const all = peers?.map(({ block, ...peer }) => {
    if (block) return { ipBlock: block };
    const { pods, namespaces } = peer as { pods?: object; namespaces?: object };
    return { ...(pods && { podSelector: pods }), ...(namespaces && { namespaceSelector: namespaces }) };
  });
  return { ...(all && { [of]: all }), ...(ports && { ports }) };
}
