import { expect, test } from "vitest";
import { PodOwners } from "./pod-owners.ts";

test("a pod that comes back on another node belongs to the watch that knows the newer one, in whatever order both tell", () => {
  const owners = new PodOwners();
  // From another node to this one: the end of the old one is told late.
  expect(owners.claim("a/b", "5", false)).toBe(true);
  expect(owners.claim("a/b", "9", true)).toBe(true);
  expect(owners.claim("a/b", "8", false)).toBe(false);
  expect(owners.release("a/b", false)).toBe(false);
  // And away again.
  expect(owners.claim("a/b", "12", false)).toBe(true);
  expect(owners.release("a/b", true)).toBe(false);
  expect(owners.release("a/b", false)).toBe(true);
  expect(owners.release("a/b", false)).toBe(false);
});

test("other nodes' pods are forgotten together", () => {
  const owners = new PodOwners();
  owners.claim("a/own", "1", true);
  owners.claim("a/other", "2", false);
  expect(owners.clearOthers()).toEqual(["a/other"]);
  expect([owners.release("a/other", false), owners.release("a/own", true)]).toEqual([false, true]);
});
