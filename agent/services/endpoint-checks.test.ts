/** Whose word is waited for before an endpoint of policy Local is announced. */
import { expect, test } from "vitest";
import { FakeClock } from "../../bgpd/testing/fake-clock.ts";
import type { HttpAnswer } from "./ask.ts";
import { EndpointChecks } from "./endpoint-checks.ts";

const Ports = new Map([
  ["dual", 1],
  ["single", 2],
  ["none", 3],
]);

test("the proxies of both families must have the endpoints; one that does not answer on its port is not waited for", async () => {
  const answers = new Map<string, HttpAnswer>();
  const found: string[] = [];
  const clock = new FakeClock();
  const checks = new EndpointChecks({
    clock,
    ask: async (port, _path, family) => {
      const answer = answers.get(`${port} ${family}`);
      if (!answer) throw new Error("nothing listens there");
      return answer;
    },
    confirmed: service => found.push(service),
    subject: service => ({ uid: service, port: Ports.get(service) ?? 0, families: [4, 6] }),
  });
  const say = (key: string, endpoints: number) => answers.set(key, { status: 200, body: `{"localEndpoints": ${endpoints}}` });
  const pass = async () => {
    for (let i = 0; i < 4; i++) {
      await new Promise(setImmediate);
      clock.advance(50);
    }
  };
  say("1 4", 1);
  say("1 6", 0);
  say("2 4", 1);
  checks.want(Ports, 30);
  await pass();
  expect(found).toEqual(["single"]);
  say("1 6", 1);
  await pass();
  expect(found).toEqual(["single", "dual"]);
  checks.close();
});

test("of thousands that wait each is asked about before any is for the second time, and their time ends while all places are taken", async () => {
  const clock = new FakeClock();
  const asked = new Map<number, number>();
  const found: string[] = [];
  let answered = true;
  const checks = new EndpointChecks({
    clock,
    ask: async port => {
      asked.set(port, (asked.get(port) ?? 0) + 1);
      if (!answered) await new Promise(() => {});
      throw new Error("nothing listens there");
    },
    confirmed: service => found.push(service),
    subject: service => ({ uid: service, port: Number(service), families: [4] }),
  });
  const all = Array.from({ length: 1000 }, (_, at) => at + 1);
  checks.want(new Map(all.map(port => [`${port}`, port])), 30);
  // Some sixteen in each turn.
  while (asked.size < all.length) {
    await new Promise(setImmediate);
    clock.advance(2);
    if (Math.max(...asked.values()) > 1) break;
  }
  expect([asked.size, Math.max(...asked.values())]).toEqual([1000, 1]);
  answered = false;
  await new Promise(setImmediate);
  clock.advance(100);
  expect(found).toEqual([]);
  clock.advance(30_000);
  expect(found).toHaveLength(1000);
  checks.close();
  expect(clock.pending).toBe(0);
});
