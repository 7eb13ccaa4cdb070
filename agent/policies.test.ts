/** The gate of an ADD, over the real index and a packet filter that is told what to answer. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import type { AttachmentView } from "../cni/types.ts";
import type { PolicyFeed } from "../config/sources/policy-feed.ts";
import type { NetworkPolicyObject, PolicyPod, PolicySink } from "../netfilter/policy/types.ts";
import type { RulesetChange } from "../netfilter/types.ts";
import type { Logger } from "../platform/log.ts";
import { Policies } from "./policies.ts";

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };

let clock: FakeClock;
let policies: Policies;
let sink: PolicySink | undefined;
let attachments: AttachmentView[] | undefined;
/** Names of objects that are in the kernel, and of what is on its way. */
let kernel: Set<string>;
let pending: { changes: readonly RulesetChange[]; done(error?: Error): void }[];
let holds: boolean;
let completed: string[];
let had: boolean;
let optional: true | undefined;
let bridgeLack: string | undefined;
let counters: Map<string, number>;

const feed: PolicyFeed = {
  get optional() {
    return optional;
  },
  follow(to) {
    sink = to;
  },
  stop() {
    sink = undefined;
  },
  missing: () => (sink ? undefined : "away"),
};

beforeEach(() => {
  clock = new FakeClock();
  sink = undefined;
  attachments = [];
  kernel = new Set();
  pending = [];
  holds = false;
  completed = [];
  counters = new Map();
  bridgeLack = undefined;
  had = false;
  optional = undefined;
  const change = (changes: readonly RulesetChange[]) =>
    new Promise<void>((resolve, reject) => {
      const done = (error?: Error) => {
        if (error) return reject(error);
        for (const { key, object } of changes) {
          if (object) kernel.add(key);
          else kernel.delete(key);
        }
        resolve();
      };
      if (holds) pending.push({ changes, done });
      else done();
    });
  const complete = async (prefix: string) => void completed.push(prefix);
  policies = new Policies({
    clock,
    log: quiet,
    feed,
    writer: { change, complete },
    attachments: () => attachments,
    bridgeOf: () => "podlane0",
    mark: {
      get: () => had,
      set: value => {
        had = value;
      },
    },
    bridgeLack: () => bridgeLack,
    counters: async () => counters,
  });
});
afterEach(() => policies.close());

const pod = (name: string, labels: Record<string, string> = {}, more: Partial<PolicyPod> = {}): PolicyPod => ({
  key: `shop/${name}`,
  namespace: "shop",
  name,
  uid: `${name}-uid`,
  labels,
  node: "n1",
  addresses: [],
  hostNetwork: false,
  ended: false,
  ports: [],
  ...more,
});
const deny: NetworkPolicyObject = { key: "shop/deny", namespace: "shop", name: "deny", pods: { matchLabels: { app: "web" } }, ingress: [] };
const attachment = (name: string, uid = `${name}-uid`): AttachmentView => ({
  network: "podlane",
  containerId: name,
  ifname: "eth0",
  netns: "/run/netns/x",
  hostInterface: `veth-${name}`,
  addresses: ["10.244.1.2/24"],
  state: "reserved",
  since: 0,
  pod: { namespace: "shop", name, uid },
});

function heard(...objects: (PolicyPod | NetworkPolicyObject)[]): void {
  for (const object of objects) {
    if ("labels" in object) sink!.setPod(object);
    else sink!.setPolicy(object);
  }
  sink!.settle();
}

/** What became of an ADD by now. */
async function outcome(add: Promise<void>): Promise<string> {
  const turn = new Promise<string>(resolve => setImmediate(resolve, "waits"));
  return Promise.race([
    add.then(
      () => "done",
      (error: Error) => error.message,
    ),
    turn,
  ]);
}

test("where policies are not carried out, and without a pod's name, nothing waits", async () => {
  policies.apply(false);
  expect(await outcome(policies.admit(attachment("web")))).toBe("done");
  policies.apply(true);
  const { pod: _, ...other } = attachment("web");
  expect(await outcome(policies.admit(other))).toBe("done");
});

test("before all was heard once nobody is let in, and what the kernel has stays", async () => {
  policies.apply(true);
  const add = policies.admit(attachment("web"));
  expect(await outcome(add)).toBe("waits");
  expect(completed).toEqual([]);
  heard();
  expect(await outcome(add)).toBe("done");
  expect(completed).toEqual(["np-"]);
});

test("in a namespace without policies no pod has to be known", async () => {
  policies.apply(true);
  heard({ ...deny, key: "other/deny", namespace: "other" });
  expect(await outcome(policies.admit(attachment("web")))).toBe("done");
});

test("a pod that policies may select waits until it is known, and until its rules are in force", async () => {
  policies.apply(true);
  heard(deny, pod("web", { app: "web" }, { uid: "former" }));
  holds = true;
  const add = policies.admit(attachment("web"));
  expect(await outcome(add)).toBe("waits");
  heard(pod("web", { app: "web" }));
  expect(await outcome(add)).toBe("waits");
  expect(pending).not.toEqual([]);
  for (const { done } of pending) done();
  expect(await outcome(add)).toBe("done");
  expect([...kernel]).toContain("inet podlane chain np-ingress");
  policies.released("veth-web");
  for (const { done } of pending) done();
  await Promise.resolve();
  expect([...kernel]).not.toContain("inet podlane chain np-ingress");
});

test("a pod that no policy selects does not wait for rules", async () => {
  policies.apply(true);
  holds = true;
  heard(deny, pod("api"));
  expect(await outcome(policies.admit(attachment("api")))).toBe("done");
});

test("the wait is bounded, and says what is missing", async () => {
  policies.apply(true);
  heard(deny);
  const add = policies.admit(attachment("web"));
  expect(await outcome(add)).toBe("waits");
  clock.advance(10_000);
  expect(await outcome(add)).toMatch(/policies may select pod shop\/web, .* nothing is said of this pod \(waited 10 s\)/);
  await expect(add).rejects.toMatchObject({ code: 11 });
});

test("what the packet filter refuses keeps selected pods out, others not, and is tried again", async () => {
  policies.apply(true);
  holds = true;
  heard(deny, pod("web", { app: "web" }), pod("api"));
  const add = policies.admit(attachment("web"));
  expect(await outcome(add)).toBe("waits");
  for (const { done } of pending.splice(0)) done(new Error("nft: no such program"));
  expect(await outcome(add)).toMatch(/policies select pod shop\/web, .* nft: no such program/);
  expect(policies.obstacle()).toMatch(/nft: no such program/);
  expect(policies.problems()).toEqual([expect.objectContaining({ reason: "PacketFilterRefused" })]);
  expect(await outcome(policies.admit(attachment("api")))).toBe("done");
  clock.advance(30_000);
  for (const { done } of pending.splice(0)) done();
  await outcome(Promise.resolve());
  expect([policies.obstacle(), policies.problems()]).toEqual([undefined, []]);
});

test("a packet filter that refuses all is no obstacle while there is no policy", async () => {
  policies.apply(true);
  holds = true;
  heard(pod("web"));
  expect(await outcome(policies.admit(attachment("web")))).toBe("done");
  for (const { done } of pending.splice(0)) done(new Error("nft: no such program"));
  await outcome(Promise.resolve());
  expect([policies.obstacle(), policies.problems()]).toEqual([undefined, []]);
  heard(deny);
  expect(policies.obstacle()).toMatch(/nft: no such program/);
});

test("what is dropped is logged where that is asked for", async () => {
  const kept: RulesetChange[] = [];
  const change = async (changes: readonly RulesetChange[]) => void kept.push(...changes);
  const parts = {
    clock,
    log: quiet,
    feed,
    attachments: () => attachments,
    bridgeOf: () => null,
    bridgeLack: () => undefined,
    mark: { get: () => false, set() {} },
  };
  const logging = new Policies({ ...parts, logDrops: true, writer: { change, complete: async () => {} }, counters: async () => counters });
  logging.apply(true);
  heard(deny, pod("web", { app: "web" }));
  await logging.admit(attachment("web"));
  logging.close();
  expect(JSON.stringify(kept)).toContain('"log":{"prefix":"podlane ingress drop, shop/deny: "}');
});

test("policies that are somebody else's from now on take their rules along", async () => {
  policies.apply(true);
  heard(deny, pod("web", { app: "web" }));
  await policies.admit(attachment("web"));
  expect(kernel.size).toBeGreaterThan(0);
  policies.apply(false);
  await outcome(Promise.resolve());
  expect([[...kernel], sink]).toEqual([[], undefined]);
});

test("the view says whom each policy selects here and what was dropped for it; an explanation which rule decides", async () => {
  expect(() => policies.explain({ from: "shop/web", to: "shop/api", port: 80, protocol: "TCP" })).toThrow("not carried out");
  expect(await policies.view()).toEqual({ enforced: false, policies: [] });
  policies.apply(true);
  heard(deny, pod("web", { app: "web" }), pod("api"), { ...deny, key: "other/deny", namespace: "other" });
  attachments = [attachment("web")];
  await policies.admit(attachment("web"));
  counters = new Map([...kernel].filter(key => key.includes(" counter ")).map(key => [key.split(" ").at(-1)!, 3]));
  expect(await policies.view()).toEqual({
    enforced: true,
    policies: [
      { policy: "shop/deny", pods: ["shop/web"], dropped: { ingress: 3, egress: 0 } },
      { policy: "other/deny", pods: [], dropped: { ingress: 0, egress: 0 } },
    ],
  });
  policies.look();
  await outcome(Promise.resolve());
  const dropped = [{ policy: "shop/deny", ingress: 3, egress: 0 }];
  expect(policies.figures()).toEqual({ policies: 2, isolated: 1, inForce: true, dropped });
  const { allowed, ingress } = policies.explain({ from: "shop/api", to: "shop/web", port: 80, protocol: "TCP" });
  const unknown = { from: "shop/api", to: "shop/wbe", port: 80, protocol: "TCP" } as const;
  expect(() => policies.explain(unknown)).toThrow(expect.objectContaining({ status: 404, message: expect.stringContaining("shop/wbe") }));
  expect([allowed, ingress]).toEqual([false, { allowed: false, by: "isolated", isolatedBy: ["shop/deny"] }]);
});

test("before the plan is in force nobody is let in", async () => {
  expect(await outcome(policies.admit(attachment("web")))).toMatch(/the plan could not be applied/);
});

test("while the ledger cannot be read, what the kernel has stays; then those that were attached before keep their rules", async () => {
  attachments = undefined;
  policies.apply(true);
  heard(deny, pod("web", { app: "web" }));
  policies.look();
  await outcome(Promise.resolve());
  expect([completed, [...kernel]]).toEqual([[], []]);
  attachments = [attachment("web")];
  expect(await outcome(policies.admit({ ...attachment("api"), addresses: ["10.244.1.3/24"] }))).toBe("waits");
  expect([completed, [...kernel].includes("inet podlane map np-in4")]).toEqual([["np-"], true]);
});

test("an attachment that was taken over from its interface is the pod that has its addresses", async () => {
  const { pod: _, ...nameless } = attachment("web");
  attachments = [nameless, { ...nameless, hostInterface: "veth-other", addresses: ["10.244.1.9/24"] }];
  policies.apply(true);
  heard(deny, pod("web", { app: "web" }, { addresses: ["10.244.1.2"] }), pod("host", {}, { hostNetwork: true, addresses: ["10.244.1.9"] }));
  await outcome(Promise.resolve());
  expect([...kernel]).toContain("inet podlane map np-in4");
  expect(policies.summary()).toMatchObject({ isolated: 1 });
});

test("a pod that is known waits for a policy that was told a moment ago", async () => {
  policies.apply(true);
  heard(pod("web", { app: "web" }));
  sink!.setPolicy(deny);
  const add = policies.admit(attachment("web"));
  expect(await outcome(add)).toBe("waits");
  sink!.settle();
  expect([await outcome(add), [...kernel].includes("inet podlane map np-in4")]).toEqual(["done", true]);
});

test("what waits while its network is taken back, or the agent ends, is not let in", async () => {
  policies.apply(true);
  heard(deny);
  const [back, ended] = [policies.admit(attachment("web")), policies.admit(attachment("api"))];
  expect([await outcome(back), await outcome(ended)]).toEqual(["waits", "waits"]);
  policies.released("veth-web");
  heard(pod("web", { app: "web" }));
  expect(await outcome(back)).toMatch(/released meanwhile/);
  expect([...kernel]).toEqual([]);
  policies.close();
  expect(await outcome(ended)).toMatch(/about to end/);
});

test("what was refused is tried again as it shall be by then", async () => {
  policies.apply(true);
  attachments = [attachment("web")];
  holds = true;
  heard(deny, pod("web", { app: "web" }));
  for (const { done } of pending.splice(0)) done(new Error("nft: busy"));
  await outcome(Promise.resolve());
  sink!.deletePolicy(deny.key);
  sink!.settle();
  // On its way while the time to try again comes.
  clock.advance(30_000);
  const wanted = new Map(pending.flatMap(({ changes }) => changes.map(({ key, object }) => [key, object])));
  expect(wanted.get("inet podlane map np-in4")).toBeUndefined();
  expect(wanted.has("inet podlane map np-in4")).toBe(true);
});

test("a packet filter that takes nothing is no obstacle while there are no policies", async () => {
  policies.apply(true);
  attachments = [attachment("web")];
  holds = true;
  heard(pod("web", { app: "web" }));
  for (const { done } of pending.splice(0)) done(new Error("nft: no such program"));
  await outcome(Promise.resolve());
  expect([policies.obstacle(), policies.problems()]).toEqual([undefined, []]);
  expect(await outcome(policies.admit(attachment("web")))).toBe("done");
  heard(deny);
  expect(policies.obstacle()).toMatch(/nft: no such program/);
});

test("where packets between ports of the bridge pass by all rules, selected pods are kept out, and that is a problem", async () => {
  policies.apply(true);
  bridgeLack = "no br_netfilter";
  attachments = [attachment("web")];
  heard(deny, pod("web", { app: "web" }), pod("api"));
  expect(await outcome(policies.admit(attachment("web")))).toMatch(/no br_netfilter/);
  expect(await outcome(policies.admit(attachment("api")))).toBe("done");
  expect(policies.problems()).toEqual([expect.objectContaining({ reason: "PolicyBypassed" })]);
});

test("where many have no policies nobody waits for the first word of them, unless there were some before", async () => {
  optional = true;
  policies.apply(true);
  expect(await outcome(policies.admit(attachment("web")))).toBe("done");
  heard(deny);
  expect([had, await outcome(policies.admit(attachment("api")))]).toEqual([true, "waits"]);
  sink!.deletePolicy(deny.key);
  sink!.settle();
  expect(had).toBe(false);
  had = true;
  policies.apply(false);
  policies.apply(true);
  expect(await outcome(policies.admit(attachment("web")))).toBe("waits");
});
