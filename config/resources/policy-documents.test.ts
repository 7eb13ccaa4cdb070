/** What of policies and pods is taken, and what becomes of that which cannot be read: it never lets more through. */
import { expect, test } from "vitest";
import { formatProblem } from "../plan.ts";
import { readDocuments } from "./documents.ts";

const read = (...objects: object[]) => readDocuments(objects.map(one => JSON.stringify(one)).join("\n---\n"), "a.yaml");
const policy = (spec: object, more: object = {}) => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: "web", namespace: "shop", ...more },
  spec,
});
const cluster = (spec: object, apiVersion = "policy.networking.k8s.io/v1beta1", kind = "ClusterNetworkPolicy") => ({
  apiVersion,
  kind,
  metadata: { name: "c" },
  spec: { subject: { namespaces: {} }, ...spec },
});
const only = (object: object) => {
  const { policies, problems } = read(object);
  expect(policies).toHaveLength(1);
  return { read: policies[0].object.read as unknown, closed: policies[0].closed, problems: problems.map(formatProblem) };
};
const anyone = { podSelector: {} };

test.each<[what: string, spec: object, expected: object]>([
  ["policyTypes absent is Ingress", anyone, { ingress: [] }],
  ["and Egress where there is some", { ...anyone, egress: [{}] }, { ingress: [], egress: [{}] }],
  ["an empty egress is none", { ...anyone, egress: [] }, { ingress: [] }],
  ["Egress alone", { ...anyone, policyTypes: ["Egress"], ingress: [{}] }, { egress: [] }],
  ["an empty rule opens", { ...anyone, ingress: [{}] }, { ingress: [{}] }],
  ["empty lists are everybody and every port", { ...anyone, ingress: [{ from: [], ports: [] }] }, { ingress: [{}] }],
  ["null is absent", { ...anyone, ingress: [{ from: null, ports: null }], egress: null }, { ingress: [{}] }],
  [
    "peers: both selectors in one entry, each in its own, blocks",
    {
      ...anyone,
      ingress: [
        {
          from: [
            { podSelector: { matchLabels: { a: "b" } }, namespaceSelector: {} },
            { podSelector: {} },
            { namespaceSelector: { matchExpressions: [{ key: "k", operator: "In", values: ["v"] }] } },
            { ipBlock: { cidr: "10.1.2.3/8", except: ["10.2.0.0/16"] } },
            { ipBlock: { cidr: "2001:DB8::/32" } },
          ],
        },
      ],
    },
    {
      ingress: [
        {
          peers: [
            { pods: { matchLabels: { a: "b" } }, namespaces: {} },
            { pods: {} },
            { namespaces: { matchExpressions: [{ key: "k", operator: "In", values: ["v"] }] } },
            { block: { cidr: "10.0.0.0/8", except: ["10.2.0.0/16"] } },
            { block: { cidr: "2001:db8::/32", except: [] } },
          ],
        },
      ],
    },
  ],
  [
    "ports by number, range, name, protocol",
    { ...anyone, ingress: [{ ports: [{ port: 80 }, { protocol: "UDP", port: 1, endPort: 9 }, { port: "http" }, { protocol: "SCTP" }] }] },
    {
      ingress: [
        {
          ports: [
            { protocol: "TCP", port: 80 },
            { protocol: "UDP", port: 1, endPort: 9 },
            { protocol: "TCP", port: "http" },
            { protocol: "SCTP" },
          ],
        },
      ],
    },
  ],
])("NetworkPolicy: %s", (_, spec, expected) => {
  const name = { key: "shop/web", namespace: "shop", name: "web", pods: {} };
  expect(only(policy(spec))).toEqual({ read: { ...name, ...expected }, closed: undefined, problems: [] });
});

test("what a newer API says in a rule lets nothing through, and is told", () => {
  const spec = { ...anyone, ingress: [{ from: [{ serviceSelector: {} }] }, { from: [{ podSelector: {} }, {}] }, { when: "now" }] };
  const { read: found, closed, problems } = only(policy(spec));
  expect(found).toMatchObject({ ingress: [{ peers: [{ pods: {} }] }] });
  expect(closed).toBeUndefined();
  expect(problems).toEqual([
    expect.stringMatching(
      /warning: NetworkPolicy\/shop\/web spec.ingress\[0\].from\[0\]: serviceSelector is not understood: this peer is nobody/,
    ),
    expect.stringMatching(/spec.ingress\[1\].from\[1\]: an empty entry is not understood/),
    expect.stringMatching(/spec.ingress\[2\]: when is not understood: the rule lets nothing through/),
  ]);
});

test.each<[what: string, spec: object, left: object]>([
  ["a block that is none", { ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0" } }] }] }, { ingress: [] }],
  ["an exception that is none", { ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8", except: ["x"] } }] }] }, { ingress: [] }],
  [
    "a port out of range",
    { ingress: [{ ports: [{ port: 70000 }, { port: 80 }] }] },
    { ingress: [{ ports: [{ protocol: "TCP", port: 80 }] }] },
  ],
  ["a range of names", { ingress: [{ ports: [{ port: "http", endPort: 9 }] }] }, { ingress: [] }],
  [
    "an operator that is none",
    { ingress: [{ from: [{ podSelector: { matchExpressions: [{ key: "a", operator: "Like" }] } }] }] },
    { ingress: [] },
  ],
  ["a type that is none", { policyTypes: ["ingress"], ingress: [{}] }, { ingress: [{}], egress: [] }],
  ["a list that is none", { ingress: [{ from: { podSelector: {} } }] }, { ingress: [] }],
])("%s is a fault, and what is left lets less through", (_, spec, left) => {
  const { read: found, closed, problems } = only(policy({ ...anyone, ...spec }));
  expect(closed).toBe(true);
  expect(problems).not.toEqual([]);
  expect(found).toMatchObject(left);
});

test("a policy of which nobody can tell whom it selects is a problem and nothing else", () => {
  const { policies, problems } = read(policy({ podSelector: { matchLabels: [] } }));
  expect([policies, problems.length]).toEqual([[], 1]);
});

test("cluster policies of each version come to the same words", () => {
  const peers = { pods: { namespaceSelector: { matchLabels: { a: "b" } }, podSelector: {} } };
  const ingress = [
    { name: "r", action: "Accept", from: [{ namespaces: {} }, peers], protocols: [{ tcp: { destinationPort: { number: 80 } } }] },
  ];
  const egress = [
    { action: "Deny", to: [{ networks: ["10.0.0.0/8"] }], protocols: [{ udp: { destinationPort: { range: { start: 1, end: 9 } } } }] },
    { action: "Pass", to: [{ nodes: {} }] },
  ];
  const expected = {
    key: "ClusterNetworkPolicy/c",
    name: "c",
    tier: "Admin",
    priority: 7,
    subject: { namespaces: {} },
    ingress: [
      {
        name: "r",
        action: "Accept",
        peers: [{ namespaces: {} }, { pods: { namespaces: { matchLabels: { a: "b" } }, pods: {} } }],
        ports: [{ protocol: "TCP", port: 80 }],
      },
    ],
    egress: [
      { action: "Deny", peers: [{ networks: ["10.0.0.0/8"] }], ports: [{ protocol: "UDP", port: 1, endPort: 9 }] },
      { action: "Pass", peers: [{ nodes: {} }] },
    ],
  };
  for (const version of ["v1beta1", "v1alpha2"]) {
    const found = only(cluster({ tier: "Admin", priority: 7, ingress, egress }, `policy.networking.k8s.io/${version}`));
    expect(found).toEqual({ read: expected, closed: undefined, problems: [] });
  }
  const ports = [{ portNumber: { port: 80 } }, { portRange: { protocol: "UDP", start: 1, end: 9 } }, { namedPort: "http" }];
  const admin = cluster(
    { priority: 3, ingress: [{ action: "Allow", from: [peers], ports }] },
    "policy.networking.k8s.io/v1alpha1",
    "AdminNetworkPolicy",
  );
  expect(only(admin)).toMatchObject({
    problems: [],
    read: {
      tier: "Admin",
      priority: 3,
      egress: [],
      ingress: [
        {
          action: "Accept",
          ports: [
            { protocol: "TCP", port: 80 },
            { protocol: "UDP", port: 1, endPort: 9 },
            { protocol: "TCP", port: "http" },
            { protocol: "UDP", port: "http" },
            { protocol: "SCTP", port: "http" },
          ],
        },
      ],
    },
  });
  const baseline = cluster(
    { egress: [{ action: "Deny", to: [{ namespaces: {} }] }] },
    "policy.networking.k8s.io/v1alpha1",
    "BaselineAdminNetworkPolicy",
  );
  expect(only(baseline)).toMatchObject({ problems: [], read: { key: "BaselineAdminNetworkPolicy/c", tier: "Baseline", priority: 0 } });
});

test("a rule of a cluster policy that is not understood fails closed: Accept matches nothing, the others deny all", () => {
  const everybody = [{ networks: ["0.0.0.0/0", "::/0"] }];
  const egress = [
    { action: "Accept", to: [{ domainNames: ["example.org"] }] },
    { action: "Accept", to: [{ domainNames: ["example.org"] }, { namespaces: {} }] },
    { action: "Deny", to: [{ services: {} }] },
    { action: "Pass", to: [{ namespaces: {} }], protocols: [{ icmp: {} }] },
    { action: "Accept", to: [{ namespaces: {} }], protocols: [{ icmp: {} }] },
  ];
  const { read: found, problems } = only(cluster({ tier: "Baseline", priority: 0, egress }));
  expect(found).toMatchObject({
    egress: [
      { action: "Accept", peers: [{ namespaces: {} }] },
      { action: "Deny", peers: everybody },
      { action: "Deny", peers: everybody },
    ],
  });
  expect(problems).toHaveLength(5);
  expect(only(cluster({ tier: "Admin", priority: 0, egress: [{ action: "Audit", to: [{ namespaces: {} }] }] }))).toMatchObject({
    closed: true,
    read: { egress: [{ action: "Deny", peers: everybody }] },
  });
});

test("of a pod is kept what decides", () => {
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "a",
      namespace: "shop",
      uid: "u",
      labels: { app: "web" },
      annotations: { x: "y" },
      managedFields: [{}],
      creationTimestamp: "2026-01-01T00:00:00Z",
    },
    spec: {
      nodeName: "n1",
      containers: [{ name: "c", image: "i", ports: [{ name: "http", containerPort: 8080 }, { containerPort: 9 }] }],
      initContainers: [
        { name: "s", restartPolicy: "Always", ports: [{ name: "side", containerPort: 1, protocol: "UDP" }] },
        { name: "i", ports: [{ name: "no", containerPort: 2 }] },
      ],
    },
    status: { phase: "Running", podIP: "10.244.1.2", podIPs: [{ ip: "10.244.1.2" }, { ip: "FD00::2" }] },
  };
  expect(only(pod)).toEqual({
    problems: [],
    closed: undefined,
    read: {
      key: "shop/a",
      namespace: "shop",
      name: "a",
      uid: "u",
      created: "2026-01-01T00:00:00Z",
      labels: { app: "web" },
      node: "n1",
      addresses: ["10.244.1.2", "fd00::2"],
      hostNetwork: false,
      ended: false,
      ports: [
        { name: "http", protocol: "TCP", port: 8080 },
        { name: "side", protocol: "UDP", port: 1 },
      ],
    },
  });
  const mirror = { ...pod, metadata: { ...pod.metadata, annotations: { "kubernetes.io/config.mirror": "hash" } } };
  expect(only(mirror).read).toMatchObject({ uid: "hash" });
  const ended = { ...pod, spec: { hostNetwork: true }, status: { phase: "Failed" } };
  expect(only(ended).read).toMatchObject({ addresses: [], hostNetwork: true, ended: true, ports: [] });
});
