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
