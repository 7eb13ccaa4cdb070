/** What a reload tells it did is that reload's: nothing gathers between reloads. Needs root on Linux. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ReloadView, StatusView } from "./api/views.ts";
import { Pair } from "./testing/agents.ts";

const missing = process.platform !== "linux" || process.getuid?.() !== 0 ? "network namespaces need root on Linux" : undefined;
const within = { timeout: 60_000, interval: 50 };

let pair: Pair;
beforeEach(ctx => {
  if (missing) ctx.skip(missing);
  pair = new Pair();
});
afterEach(() => pair?.close());

const third = (cidr: string) => `
apiVersion: v1
kind: Node
metadata: { name: node3 }
spec: { podCIDRs: [${cidr}] }
status: { addresses: [{ type: InternalIP, address: 192.0.2.3 }] }
`;

test("changes that the agent finds by itself are not told again by the next reload", async () => {
  pair.start(0);
  const configured = async () => (await pair.ask<StatusView>(0, "status"))?.speaker?.sessions?.configured;
  await expect.poll(configured, within).toBe(1);
  pair.write("third.yaml", third("10.244.3.0/24"));
  await expect.poll(configured, within).toBe(2);
  expect((await pair.ask<ReloadView>(0, "reload"))?.actions).toEqual([]);
  const { memory } = (await pair.ask<StatusView>(0, "status"))!;
  expect(memory.heapUsed).toBeLessThan(memory.resident);
});
