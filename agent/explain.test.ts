/** What `podlane explain ADDRESS` says forwards, held against what others put into the kernel: real agents, both families. Needs root on Linux. */
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Explanation } from "../bgpd/snapshot.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 100 };

const families = [
  {
    option: "-4",
    pod: "10.244.2.7",
    range: "10.244.2.0/24",
    longer: "10.244.2.0/25",
    all: "default",
    gateway: "192.0.2.2",
    own: "192.0.2.1",
  },
  {
    option: "-6",
    pod: "fd00:244:2::7",
    range: "fd00:244:2::/64",
    longer: "fd00:244:2::/80",
    all: "default",
    gateway: "2001:db8::2",
    own: "2001:db8::1",
  },
];

let pair: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
  for (const at of [0, 1]) ip("-n", pair.names[at], "address", "add", `2001:db8::${at + 1}/64`, "dev", "eth0", "nodad");
  const node = (n: number) => `
apiVersion: v1
kind: Node
metadata: { name: node${n} }
spec: { podCIDRs: [10.244.${n}.0/24, "fd00:244:${n}::/64"] }
status: { addresses: [{ type: InternalIP, address: 192.0.2.${n} }, { type: InternalIP, address: "2001:db8::${n}" }] }
`;
  pair.write("nodes.yaml", [node(1), node(2)].join("---"));
  pair.write(
    "fabric.yaml",
    `
apiVersion: podlane.io/v1alpha1
kind: Fabric
metadata: { name: cluster }
spec: { nodeSelector: {}, asn: 64512, forwarding: { metric: 20 } }
`,
  );
});
afterEach(() => pair?.close());

function ip(...words: string[]): string {
  return execFileSync("ip", words, { encoding: "utf8" });
}

async function explain(question: string): Promise<Explanation> {
  return (await pair.ask<Explanation>(0, "explain", question))!;
}

test("the kernel's own answer is told with its route, owner and rule, and why it is not the one that was chosen", async () => {
  pair.start(0);
  pair.start(1);
  for (const { pod } of families) {
    await expect.poll(async () => (await explain(pod))?.forwards, within).toMatchObject({ owner: "podlane", ours: true });
  }
  for (const { option, pod, range, longer, all, gateway, own } of families) {
    const route = (...words: string[]) => ip("-n", pair.names[0], option, "route", ...words);
    const rule = (...words: string[]) => ip("-n", pair.names[0], option, "rule", ...words);
    const forwards = async (question = pod) => (await explain(question)).forwards;

    expect(await explain(pod)).toMatchObject({
      matched: range,
      kernel: { installed: true, others: [] },
      forwards: { to: pod, prefix: range, owner: "podlane", table: "main", rule: "32766 (all packets → table main)", rulesBefore: [] },
    });
    expect((await forwards())?.conflict).toBeUndefined();
    expect((await forwards())?.text).toBe(`via ${gateway} dev eth0`);
    expect(await forwards(own)).toMatchObject({ text: "delivered on this node", owner: "kernel", table: "local" });

    route("add", longer, "via", gateway, "proto", "static");
    expect(await forwards()).toMatchObject({
      owner: "static",
      prefix: longer,
      conflict: `the static route ${longer} is longer than ${range}`,
    });
    route("del", longer);

    route("add", range, "dev", "eth0", "metric", "1", "proto", "boot");
    expect(await forwards()).toMatchObject({ owner: "boot", metric: 1, conflict: expect.stringContaining("lower metric") });
    expect((await explain(range)).kernel.others).toEqual(["boot, metric 1: dev eth0"]);
    expect((await pair.podlane(0, "explain", pod)).stdout).toMatch(/^forwards +✗ .* is sent dev eth0\n +by boot's route/m);
    route("del", range, "metric", "1");

    route("add", all, "via", gateway, "table", "77");
    rule("add", "to", range, "lookup", "77", "priority", "50");
    rule("add", "fwmark", "9", "lookup", "78", "priority", "40");
    expect(await forwards()).toMatchObject({
      table: "77",
      rule: `50 (to ${range} → table 77)`,
      rulesBefore: ["40 (mark 0x9 → table 78)"],
      conflict: expect.stringContaining("ours are in table main"),
    });
    rule("del", "priority", "50");
    rule("del", "priority", "40");

    route("add", "prohibit", longer);
    expect(await forwards()).toMatchObject({ ours: false, text: expect.stringContaining("administratively prohibited") });
    route("del", "prohibit", longer);
    expect((await forwards())?.conflict).toBeUndefined();
  }
});

test("an address that nobody announced is answered by the kernel alone", async () => {
  pair.start(0);
  await expect
    .poll(() => explain("198.51.100.1"), within)
    .toMatchObject({ forwards: { text: "refused (network unreachable): no route matches" } });
  ip("-n", pair.names[0], "route", "add", "default", "via", "192.0.2.2", "proto", "static");
  expect(await explain("198.51.100.1")).toMatchObject({
    candidates: [],
    forwards: { text: "via 192.0.2.2 dev eth0", prefix: "0.0.0.0/0", owner: "static" },
  });
});
