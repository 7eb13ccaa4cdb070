import { expect, test } from "vitest";
import { CallBuckets, CniCalls } from "./cni-calls.ts";

test("calls are counted by verb, result and duration; a verb that is none is no label of its own", async () => {
  let now = 0;
  const calls = new CniCalls(() => now);
  const answer = (code: number, milliseconds: number) => async () => {
    expect(calls.underway).toBe(1);
    now += milliseconds;
    return { status: 200, body: "", code };
  };
  await calls.count("ADD", answer(0, 20));
  await calls.count("ADD", answer(11, 60_000));
  await calls.count("rm -rf", answer(4, 0));
  await calls.count(undefined, answer(4, 0));
  const [add, other] = calls.view();
  expect(add).toMatchObject({ verb: "ADD", codes: new Map([0, 11].map(code => [code, 1])), seconds: 60.02, count: 2 });
  expect(add.buckets).toEqual(CallBuckets.map(limit => (limit === 0.025 ? 1 : 0)));
  expect(other).toMatchObject({ verb: "other", codes: new Map([[4, 2]]), count: 2 });
  expect([calls.view().length, calls.underway]).toEqual([2, 0]);
});
