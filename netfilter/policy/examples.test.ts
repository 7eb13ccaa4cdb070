/** The examples in Kubernetes' documentation of NetworkPolicy and in that of ClusterNetworkPolicy. */
import { expect, test } from "vitest";
import { Scene } from "./testing/scene.ts";
import type { NetworkPolicyObject } from "./types.ts";

const pods = {
  "default/db": { labels: { role: "db" } },
  "default/frontend": { labels: { role: "frontend" } },
  "default/other": {},
  "mine/any": {},
  "theirs/frontend": { labels: { role: "frontend" } },
};
const namespaces = { default: {}, mine: { project: "myproject" }, theirs: {} };

test("the one with everything", () => {
  const scene = new Scene(pods, namespaces).policy("default/test-network-policy", {
    pods: { matchLabels: { role: "db" } },
    ingress: [
      {
        peers: [
          { block: { cidr: "172.17.0.0/16", except: ["172.17.1.0/24"] } },
          { namespaces: { matchLabels: { project: "myproject" } } },
          { pods: { matchLabels: { role: "frontend" } } },
        ],
        ports: [{ protocol: "TCP", port: 6379 }],
      },
    ],
    egress: [{ peers: [{ block: { cidr: "10.9.0.0/24", except: [] } }], ports: [{ protocol: "TCP", port: 5978 }] }],
  });
  const asked = {
    "default/frontend -> default/db:6379": true,
    "default/frontend -> default/db:6380": false,
    "default/frontend -> default/db:6379/UDP": false,
    "default/other -> default/db:6379": false,
    "mine/any -> default/db:6379": true,
    "theirs/frontend -> default/db:6379": false,
    "172.17.0.9 -> default/db:6379": true,
    "172.17.1.9 -> default/db:6379": false,
    "172.17.2.0 -> default/db:6379": true,
    "default/db -> 10.9.0.7:5978": true,
    "default/db -> 10.9.1.7:5978": false,
    "default/db -> 10.9.0.7:5979": false,
    "default/db -> default/other:5978": false,
    "default/db -> default/db:1": true,
    "default/other -> theirs/frontend:1": true,
  };
  expect(scene.passing(Object.keys(asked))).toEqual(Object.entries(asked).flatMap(([text, passes]) => (passes ? [text] : [])));
});

const client = {
  "here/server": {},
  "here/client": { labels: { role: "client" } },
  "alice/client": { labels: { role: "client" } },
  "alice/other": {},
};
const owners = { here: {}, alice: { user: "alice" } };

test.each<[string, Required<NetworkPolicyObject>["ingress"][number]["peers"], string[]]>([
  [
    "both selectors in one element: both hold",
    [{ namespaces: { matchLabels: { user: "alice" } }, pods: { matchLabels: { role: "client" } } }],
    ["alice/client"],
  ],
  [
    "in two elements: one of them holds",
    [{ namespaces: { matchLabels: { user: "alice" } } }, { pods: { matchLabels: { role: "client" } } }],
    ["here/client", "alice/client", "alice/other"],
  ],
])("%s", (_, peers, passing) => {
  const scene = new Scene(client, owners).policy("here/p", { pods: {}, ingress: [{ peers }] });
  const asked = ["here/client", "alice/client", "alice/other"].map(from => `${from} -> here/server:80`);
  expect(scene.passing(asked)).toEqual(passing.map(from => `${from} -> here/server:80`));
});

test.each<[string, Partial<NetworkPolicyObject>, { in: boolean; out: boolean }]>([
  ["default deny all ingress", { ingress: [] }, { in: false, out: true }],
  ["allow all ingress", { ingress: [{}] }, { in: true, out: true }],
  ["default deny all egress", { egress: [] }, { in: true, out: false }],
  ["allow all egress", { egress: [{}] }, { in: true, out: true }],
  ["default deny all", { ingress: [], egress: [] }, { in: false, out: false }],
  [
    "empty lists of peers and ports are everybody and every port",
    { ingress: [{ peers: [], ports: [] }], egress: [] },
    { in: true, out: false },
  ],
])("%s", (_, policy, expected) => {
  const scene = new Scene({ "a/p": {}, "b/q": {} }).policy("a/policy", policy);
  expect({ in: scene.passes("b/q -> a/p:80"), out: scene.passes("a/p -> b/q:80/UDP") }).toEqual(expected);
});

test("an allow-all beside a deny-all opens", () => {
  const scene = new Scene({ "a/p": {}, "b/q": {} }).policy("a/deny", { ingress: [] }).policy("a/open", { ingress: [{}] });
  expect(scene.passes("b/q -> a/p:80/SCTP")).toBe(true);
});

test("a range of ports", () => {
  const scene = new Scene({ "default/db": { labels: { role: "db" } } }).policy("default/multi-port-egress", {
    pods: { matchLabels: { role: "db" } },
    egress: [{ peers: [{ block: { cidr: "10.9.0.0/24", except: [] } }], ports: [{ protocol: "TCP", port: 32000, endPort: 32768 }] }],
  });
  const asked = [31999, 32000, 32500, 32768, 32769].map(port => `default/db -> 10.9.0.1:${port}`);
  expect(scene.passing(asked)).toEqual(asked.slice(1, 4));
  expect(scene.passes("default/db -> 10.9.0.1:32500/UDP")).toBe(false);
});

test("several namespaces by label, and one by its name", () => {
  const apps = { "default/app": { labels: { app: "myapp" } }, "f/p": {}, "b/p": {}, "o/p": {} };
  const scene = new Scene(apps, { f: { namespace: "frontend" }, b: { namespace: "backend" }, o: {} }).policy("default/egress-namespaces", {
    pods: { matchLabels: { app: "myapp" } },
    egress: [
      { peers: [{ namespaces: { matchExpressions: [{ key: "namespace", operator: "In", values: ["frontend", "backend"] }] } }] },
      { peers: [{ namespaces: { matchLabels: { "kubernetes.io/metadata.name": "o" } } }], ports: [{ protocol: "TCP", port: 80 }] },
    ],
  });
  const asked = ["default/app -> f/p:1", "default/app -> b/p:1", "default/app -> o/p:1", "default/app -> o/p:80"];
  expect(scene.passing(asked)).toEqual([asked[0], asked[1], asked[3]]);
});

test("what a cluster forbids, a namespace cannot allow; what it accepts, none can forbid; what it passes on, they decide; baseline is for the rest", () => {
  const sensitive = { namespaces: { matchLabels: { "kubernetes.io/metadata.name": "sensitive" } } };
  const scene = new Scene({ "sensitive/vault": {}, "monitoring/scraper": {}, "shop/web": {}, "shop/db": {}, "guest/p": {} })
    .clusterPolicy("deny-sensitive", {
      priority: 50,
      subject: sensitive,
      ingress: [
        {
          name: "monitoring",
          action: "Accept",
          peers: [{ namespaces: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } }],
          ports: [{ protocol: "TCP", port: 9090 }],
        },
        { name: "shop-decides", action: "Pass", peers: [{ namespaces: { matchLabels: { "kubernetes.io/metadata.name": "shop" } } }] },
        { name: "others", action: "Deny", peers: [{ namespaces: {} }] },
      ],
    })
    .clusterPolicy("baseline", {
      tier: "Baseline",
      ingress: [{ action: "Deny", peers: [{ namespaces: { matchLabels: { "kubernetes.io/metadata.name": "guest" } } }] }],
    })
    .policy("sensitive/shut", {
      ingress: [
        {
          peers: [{ namespaces: { matchLabels: { "kubernetes.io/metadata.name": "shop" } }, pods: {} }],
          ports: [{ protocol: "TCP", port: 443 }],
        },
      ],
    });
  const asked = {
    "monitoring/scraper -> sensitive/vault:9090": true,
    "monitoring/scraper -> sensitive/vault:9091": false,
    "shop/web -> sensitive/vault:443": true,
    "shop/web -> sensitive/vault:444": false,
    "guest/p -> sensitive/vault:443": false,
    "guest/p -> shop/web:80": false,
    "shop/db -> shop/web:80": true,
  };
  expect(scene.passing(Object.keys(asked))).toEqual(Object.entries(asked).flatMap(([text, passes]) => (passes ? [text] : [])));
  expect(scene.index.explain({ from: "guest/p", to: "sensitive/vault", protocol: "TCP", port: 443 }).ingress).toEqual({
    ...{ allowed: false, by: "rule", policy: "ClusterNetworkPolicy/deny-sensitive", tier: "Admin", rule: 3, ruleName: "others" },
  });
});

test("of two cluster policies the lower priority decides, of equal ones the first by name", () => {
  const everybody = [{ namespaces: {} }];
  const scene = new Scene({ "a/p": {}, "b/q": {} })
    .clusterPolicy("x", { priority: 7, ingress: [{ action: "Deny", peers: everybody }] })
    .clusterPolicy("y", { priority: 7, ingress: [{ action: "Accept", peers: everybody }] });
  expect(scene.passes("b/q -> a/p:80")).toBe(false);
  scene.clusterPolicy("z", { priority: 6, ingress: [{ action: "Accept", peers: everybody }] });
  expect(scene.passes("b/q -> a/p:80")).toBe(true);
});

test("egress to networks and nodes; a namespace's policy is not asked behind an Accept", () => {
  const scene = new Scene({ "a/p": {}, "b/q": {} }).policy("a/shut", { egress: [] }).clusterPolicy("ways-out", {
    egress: [
      { action: "Pass", peers: [{ namespaces: {} }] },
      { action: "Accept", peers: [{ nodes: { matchLabels: { role: "control" } } }], ports: [{ protocol: "TCP", port: 6443 }] },
      { action: "Accept", peers: [{ networks: ["192.0.2.0/24", "2001:db8::/32"] }], ports: [{ protocol: "UDP", port: 53 }] },
      { action: "Deny", peers: [{ networks: ["0.0.0.0/0", "::/0"] }] },
    ],
  });
  scene.index.setNode({ name: "c1", labels: { role: "control" }, addresses: ["198.51.100.1", "2001:db8:1::1"] });
  scene.settle();
  const asked = [
    "a/p -> 198.51.100.1:6443",
    "a/p -> 198.51.100.1:6444",
    "a/p -> 192.0.2.5:53/UDP",
    "a/p -> 2001:db8::5:53/UDP",
    "a/p -> b/q:80",
    "b/q -> a/p:80",
    "b/q -> 203.0.113.1:80",
  ];
  expect(scene.passing(asked)).toEqual([asked[0], asked[2], asked[3], asked[5]]);
  scene.index.setNode({ name: "c1", labels: {}, addresses: ["198.51.100.1"] });
  scene.settle();
  expect(scene.passes("a/p -> 198.51.100.1:6443")).toBe(false);
});
