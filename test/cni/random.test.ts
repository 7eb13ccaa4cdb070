/**
 * A node's life at random: pods come and go, the agent is killed at any point, the mode changes, others undo what they can reach. After each storm ledger and
 * kernel agree, no address is with two pods, and each pod that was promised its network has it. Once without and once with the packet filter and a policy in force: then after
 * each step the kernel guards and isolates whom it has to, and nobody else. PODLANE_SEED=n is another life, PODLANE_STEPS=n a longer one.
 */
import { afterEach, beforeAll, expect, test } from "vitest";
import { inNetns, type Outcome, requireRoot, TestNode, until } from "./harness.ts";

const SEED = Number(process.env.PODLANE_SEED ?? 1);
const STEPS = Number(process.env.PODLANE_STEPS ?? 60);
/** With the packet filter each step is a run of nft or more. */
const FILTERED_STEPS = Number(process.env.PODLANE_STEPS ?? 24);
/** Pods at a time, at most. */
const PODS = 8;

beforeAll(requireRoot);

let node: TestNode;
afterEach(() => node?.close());

/** xorshift32. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed * 2654435761 || 1;
  return below => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** A pod that the runtime was promised, or whose DEL has failed. */
interface Life {
  container: string;
  netns: string;
  added: Outcome | undefined;
}

/** Each other pod is isolated, and may be asked by all of them. */
const isIsolated = (serial: number) => serial % 2 === 0;

const policies = (pods: number) => ({
  pods: Array.from({ length: pods }, (_, serial) => ({
    key: `life/c${serial}`,
    namespace: "life",
    name: `c${serial}`,
    labels: { isolated: String(isIsolated(serial)) },
    node: "n1",
    addresses: [],
    hostNetwork: false,
    ended: false,
    ports: [],
  })),
  policies: [
    {
      key: "life/isolate",
      namespace: "life",
      name: "isolate",
      pods: { matchLabels: { isolated: "true" } },
      ingress: [{ peers: [{ pods: {} }] }],
    },
  ],
});

/** Keys of the elements of a map of ours; none where there is no map. */
function elements(family: string, name: string): string[] {
  const { stdout } = inNetns(node.netns, "nft", "-j", "list", "map", family, "podlane", name);
  const listed = stdout === "" ? [] : JSON.parse(stdout).nftables;
  const map = listed.find((entry: object) => "map" in entry)?.map as { elem?: [string, object][] } | undefined;
  return (map?.elem ?? []).map(([key]) => key).sort();
}

/** The kernel guards each pod where its packets come in, and isolates those that the policy selects; nobody else. */
async function filtered(): Promise<void> {
  let said = "";
  const holds = async () => {
    const attached = await node.attachments();
    const linksOf = (mode: string) => attached.filter(one => one.mode === mode).map(one => one.hostInterface);
    const isolated = attached.filter(({ containerId }) => isIsolated(Number(containerId.slice(1)))).flatMap(one => one.addresses);
    const wanted = [linksOf("bridge"), linksOf("routed"), linksOf("routed"), isolated.map(address => address.split("/")[0])];
    const found = [
      ...(["bridge", "inet", "arp"] as const).map(family => elements(family, "spoof-ports")),
      [...elements("inet", "np-in4"), ...elements("inet", "np-in6")],
    ];
    const texts = [wanted, found].map(lists => JSON.stringify(lists.map(list => list.sort())));
    said = texts.join(" is not ");
    return texts[0] === texts[1];
  };
  await until("the packet filter to fit the attachments", holds).catch((error: Error) =>
    expect.fail(`${error.message}: ${said}\n${node.log.slice(-2000)}`),
  );
}

const links = (): { ifname: string; master?: string; ifalias?: string }[] =>
  JSON.parse(inNetns(node.netns, "ip", "-j", "link").stdout || "[]");

async function settle(lives: readonly Life[]): Promise<void> {
  expect(await node.call("STATUS")).toMatchObject({ status: 0 });
  await node.sweep();
  expect(await node.look()).toEqual([]);
  const promised = lives.filter(({ added }) => added);
  const attached = await node.attachments();
  const addresses = attached.flatMap(found => found.addresses);
  expect(new Set(addresses).size).toBe(addresses.length);
  // What was never promised may be there until its DEL; what was, is.
  for (const { container } of promised) expect(attached.map(({ containerId }) => containerId)).toContain(container);
  const ports = links().filter(({ ifalias = "" }) => /^podlane (pod|routed) /.test(ifalias));
  expect(ports.map(({ ifname }) => ifname).sort()).toEqual(attached.map(({ hostInterface }) => hostInterface).sort());
  for (const { ifalias, master } of ports) expect(master).toBe(ifalias!.startsWith("podlane pod ") ? "podlane0" : undefined);
  const checked = await Promise.all(
    promised.map(({ container, netns, added }) => node.call("CHECK", { container, netns, config: { prevResult: added!.json } })),
  );
  expect(checked.filter(({ status }) => status !== 0)).toEqual([]);
  const targets = promised.flatMap(({ added }) => added!.json.ips.map(({ address }: { address: string }) => address.split("/")[0]));
  if (targets.length === 0) return;
  const script = `for one in ${targets.join(" ")}; do { ping -c 1 -w 5 -i 0.2 -n -q $one > /dev/null || echo $one; } & done; wait`;
  for (const netns of [node.netns, promised[0].netns, promised.at(-1)!.netns])
    expect(inNetns(netns, "sh", "-c", script).stdout, netns).toBe("");
}

async function live(steps: number, isFiltered: boolean): Promise<void> {
  const below = randomFrom(SEED);
  node = new TestNode({ mode: below(2) === 0 ? "routed" : "bridge" });
  if (isFiltered) node.options = { ...node.options, netfilter: true, policies: policies(PODS * steps) };
  await node.start();
  const lives: Life[] = [];
  let serial = 0;
  const add = async () => {
    const life: Life = { container: `c${serial++}`, netns: node.pod(), added: undefined };
    lives.push(life);
    const outcome = await node.call("ADD", { ...life, args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=life;K8S_POD_NAME=${life.container}` });
    if (outcome.status === 0) life.added = outcome;
  };
  const remove = async (life: Life) => {
    const bare = below(4) === 0;
    if (bare) node.removePod(life.netns);
    const { status, stdout } = await node.call("DEL", { container: life.container, netns: life.netns });
    expect(status, stdout).toBe(0);
    lives.splice(lives.indexOf(life), 1);
    if (!bare) node.removePod(life.netns);
  };
  const undo = [
    ["ip", "link", "set", "podlane0", "down"],
    ["ip", "address", "flush", "dev", "podlane0"],
    ["ip", "route", "flush", "proto", "202"],
    ["ip", "-6", "route", "flush", "proto", "202"],
    ["sysctl", "-qw", "net.ipv4.ip_forward=0"],
  ];
  for (let step = 0; step < steps; step++) {
    const what = below(10);
    if (what < 4) await Promise.all(Array.from({ length: Math.min(1 + below(4), PODS - lives.length) }, add));
    else if (what < 6 && lives.length > 0) await remove(lives[below(lives.length)]);
    else if (what === 6) await node.setPlan({ mode: node.plan.mode === "routed" ? "bridge" : "routed" });
    else if (what === 7) {
      const [program, ...words] = undo[below(undo.length)];
      inNetns(node.netns, program, ...words);
    } else {
      // In the middle of calls, whose outcome is what it is; the runtime takes back what it was refused.
      const pending = [...Array.from({ length: Math.min(2, PODS - lives.length) }, add), ...lives.slice(0, below(2)).map(remove)];
      await new Promise(resolve => setTimeout(resolve, below(40)));
      await node.kill();
      await Promise.all(pending);
      await node.start();
      for (const life of lives.filter(({ added }) => !added)) await remove(life);
    }
    if (isFiltered) await filtered();
    if (step % 6 === 5) await settle(lives);
  }
  await settle(lives);
  for (const life of [...lives]) await remove(life);
  await node.setPlan({ mode: "routed" });
  expect([await node.attachments(), links().filter(({ ifname }) => ifname.startsWith("p"))]).toEqual([[], []]);
  if (isFiltered) await until("all rules of pods are gone", () => !/pl[0-9a-f]{4}/.test(node.exec("nft", "list", "ruleset")));
}

test(`a life of ${STEPS} steps, seed ${SEED}`, () => live(STEPS, false), 300_000);

test(
  `a life of ${FILTERED_STEPS} steps with the guard and a policy, seed ${SEED}`,
  () => live(FILTERED_STEPS, true),
  60_000 + FILTERED_STEPS * 15_000,
);
