import { expect, it } from "vitest";
import { GivenOut, MAX_GIVEN_OUT } from "./given-out.ts";

const address = (n: number) => Uint8Array.of(10, n >> 16, n >> 8, n);

it("keeps no more addresses than its bound, and never denies one", () => {
  const given = new GivenOut();
  for (let n = 0; n < MAX_GIVEN_OUT; n++) given.add(address(n));
  expect([given.has(address(0)), given.has(address(MAX_GIVEN_OUT - 1)), given.has(address(MAX_GIVEN_OUT))]).toEqual([true, true, false]);
  for (let n = MAX_GIVEN_OUT; n < 3 * MAX_GIVEN_OUT; n++) given.add(address(n));
  expect([0, MAX_GIVEN_OUT, 4 * MAX_GIVEN_OUT].map(n => given.has(address(n)))).toEqual([true, true, true]);
  given.clear();
  expect([given.has(address(0)), given.has(address(9))]).toEqual([false, false]);
});
