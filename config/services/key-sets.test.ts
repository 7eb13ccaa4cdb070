import { expect, test } from "vitest";
import { KeySets } from "./key-sets.ts";

test("each value stands once under its key, and a key without values is none", () => {
  const sets = new KeySets();
  for (const value of ["a", "a", "b", "c", "b"]) sets.add("k", value);
  sets.add("other", "a");
  expect([sets.of("k"), sets.of("other"), sets.of("none"), [...sets.keys()]]).toEqual([["a", "b", "c"], ["a"], [], ["k", "other"]]);
  expect([sets.delete("k", "x"), sets.delete("none", "a"), sets.delete("other", "b")]).toEqual([false, false, false]);
  expect(["a", "b", "c", "c"].map(value => sets.delete("k", value))).toEqual([true, true, true, false]);
  expect([sets.has("k"), sets.delete("other", "a"), [...sets.keys()]]).toEqual([false, true, []]);
  sets.add("k", "d");
  expect(sets.of("k")).toEqual(["d"]);
});
