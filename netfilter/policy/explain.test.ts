import { expect, test } from "vitest";
import type { Explanation } from "./explain.ts";
import { Scene } from "./testing/scene.ts";

const scene = new Scene({
  "a/server": { node: "n1", ports: { http: 8080 } },
  "a/client": { labels: { app: "web" } },
  "a/six": { addresses: ["fd00::66"], labels: { app: "web" } },
  "b/host": { hostNetwork: true, node: "n1", addresses: [] },
  "c/host": { hostNetwork: true, node: "n3", addresses: ["192.0.2.3"] },
  "c/p": { node: "n3" },
  "b/far": { hostNetwork: true, node: "n2", addresses: [] },
});
scene.index.setNode({ name: "n1", labels: {}, addresses: ["192.0.2.1", "2001:db8::1"] });
scene.index.setNode({ name: "n2", labels: {}, addresses: ["192.0.2.2"] });
scene
  .policy("a/in", {
    ingress: [
      { peers: [{ block: { cidr: "198.51.100.0/24", except: [] } }] },
      { peers: [{ pods: { matchLabels: { app: "web" } } }], ports: [{ protocol: "TCP", port: "http" }] },
    ],
  })
  .policy("c/in", { ingress: [] })
  .policy("a/more", { pods: {}, ingress: [] });

test.each<[string, string, string, number, Partial<Explanation["ingress"]>]>([
  ["a rule that lets it pass", "a/client", "a/server", 8080, { allowed: true, by: "rule", policy: "a/in", tier: "NetworkPolicy", rule: 2 }],
  ["the family that both ends have", "a/six", "a/server", 8080, { allowed: true, by: "rule", rule: 2 }],
  ["none of them", "a/client", "a/server", 80, { allowed: false, by: "isolated", isolatedBy: ["a/in", "a/more"] }],
  ["an address outside", "198.51.100.7", "a/server", 80, { allowed: true, by: "rule", rule: 1 }],
  ["an address in another spelling", "2001:DB8:0::1", "a/server", 80, { allowed: true, by: "own-node" }],
  ["the pod's own node", "b/host", "a/server", 80, { allowed: true, by: "own-node" }],
  ["the pod's own node, of which nothing else is known", "c/host", "c/p", 80, { allowed: true, by: "own-node" }],
  ["another node", "b/far", "a/server", 80, { allowed: false, by: "isolated" }],
  ["the pod itself", "a/server", "a/server", 80, { allowed: true, by: "self" }],
  ["to the host network", "a/client", "b/host", 80, { allowed: true, by: "host-network" }],
  ["to an address outside", "a/client", "203.0.113.1", 80, { allowed: true, by: "not-a-pod" }],
])("ingress: %s", (_, from, to, port, expected) => {
  const { ingress, egress, allowed } = scene.index.explain({ from, to, protocol: "TCP", port });
  expect(ingress).toMatchObject(expected);
  expect([allowed, egress.allowed]).toEqual([expected.allowed, true]);
});

test("who is neither a pod nor an address is an error", () => {
  expect(() => scene.index.explain({ from: "a/nobody", to: "a/server", protocol: "TCP", port: 80 })).toThrow(
    "a/nobody is neither a pod that is known (NAMESPACE/NAME) nor an address",
  );
});
