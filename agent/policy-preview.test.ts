/** What policies that are not in use would refuse of what is open. */
import { expect, test } from "vitest";
import type { PolicyFeed } from "../config/sources/policy-feed.ts";
import type { NetworkPolicyObject, PolicyPod } from "../netfilter/policy/types.ts";
import { PolicyMemory, previewPolicies } from "./policy-preview.ts";

const pod = (name: string, address: string): PolicyPod => ({
  key: `shop/${name}`,
  namespace: "shop",
  name,
  labels: { app: name },
  node: "n1",
  addresses: [address],
  hostNetwork: false,
  ended: false,
  ports: [],
});
const policy = (name: string, ports: number[]): NetworkPolicyObject => ({
  key: `shop/${name}`,
  namespace: "shop",
  name,
  pods: { matchLabels: { app: "web" } },
  ingress: [{ ports: ports.map(port => ({ protocol: "TCP", port })) }],
});
const feed = (...policies: NetworkPolicyObject[]): PolicyFeed => ({
  follow: sink => {
    for (const one of policies) sink.setPolicy(one);
    sink.settle();
  },
  stop() {},
  missing: () => undefined,
});
const line = (from: string, to: string, port: number) =>
  `ipv4 2 tcp 6 99 ESTABLISHED src=${from} dst=${to} sport=5 dport=${port} src=${to} dst=${from} sport=${port} dport=5 [ASSURED] mark=0 use=1`;

test("connections that are open and could not begin anew are named, with the policies on which they fail", async () => {
  const known = new PolicyMemory();
  known.setPod(pod("web", "10.244.1.2"));
  known.setPod(pod("api", "10.244.2.3"));
  known.setNamespace({ name: "shop", labels: {} });
  known.setPolicy(policy("in-use", [80, 443]));
  const open = [80, 443, 22].map(port => line("10.244.2.3", "10.244.1.2", port));
  const text = [...open, line("10.244.1.2", "10.244.2.3", 80)].join("\n");
  expect(await previewPolicies(known, feed(), text)).toBe(undefined);
  expect(await previewPolicies(known, feed(policy("other", [1])), undefined)).toEqual({ refused: [], count: 0 });
  // In place of that of the same name. Port 22 is refused already.
  const refused = [{ from: "10.244.2.3", to: "10.244.1.2", protocol: "TCP", port: 443, by: ["shop/in-use"] }];
  expect(await previewPolicies(known, feed(policy("in-use", [80])), `${text}\n${text}`)).toEqual({ refused, count: 1, open: 4 });
  // Policies only let through: another one beside it refuses nothing.
  expect(await previewPolicies(known, feed(policy("other", [1])), text)).toEqual({ refused: [], count: 0, open: 4 });
});

test("each of many connections is asked about once, though they are read in parts", async () => {
  const known = new PolicyMemory();
  known.setPod(pod("web", "10.244.1.2"));
  known.setNamespace({ name: "shop", labels: {} });
  const text = Array.from({ length: 2000 }, (_, i) => line("10.244.2.3", "10.244.1.2", 1 + (i % 1000))).join("\n");
  const found = await previewPolicies(known, feed(policy("new", [1])), text);
  expect(found).toMatchObject({ count: 999, open: 1000 });
  expect(found!.refused).toHaveLength(100);
});
