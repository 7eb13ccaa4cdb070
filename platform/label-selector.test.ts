import { expect, test } from "vitest";
import { type LabelSelector, selects } from "./label-selector.ts";

const labels = { app: "web", tier: "front", "kubernetes.io/metadata.name": "shop" };

test.each<[string, LabelSelector, boolean]>([
  ["an empty one selects all", {}, true],
  ["a label with its value", { matchLabels: { app: "web" } }, true],
  ["another value", { matchLabels: { app: "db" } }, false],
  ["all labels must be there", { matchLabels: { app: "web", zone: "a" } }, false],
  ["an inherited property is no label", { matchLabels: { constructor: "x" } }, false],
  ["In", { matchExpressions: [{ key: "app", operator: "In", values: ["db", "web"] }] }, true],
  ["In, another value", { matchExpressions: [{ key: "app", operator: "In", values: ["db"] }] }, false],
  ["In, absent", { matchExpressions: [{ key: "zone", operator: "In", values: ["a"] }] }, false],
  ["NotIn", { matchExpressions: [{ key: "app", operator: "NotIn", values: ["db"] }] }, true],
  ["NotIn, this value", { matchExpressions: [{ key: "app", operator: "NotIn", values: ["web"] }] }, false],
  ["NotIn, absent: it holds", { matchExpressions: [{ key: "zone", operator: "NotIn", values: ["a"] }] }, true],
  ["Exists", { matchExpressions: [{ key: "tier", operator: "Exists" }] }, true],
  ["Exists, absent", { matchExpressions: [{ key: "toString", operator: "Exists" }] }, false],
  ["DoesNotExist", { matchExpressions: [{ key: "tier", operator: "DoesNotExist" }] }, false],
  ["DoesNotExist, absent", { matchExpressions: [{ key: "zone", operator: "DoesNotExist" }] }, true],
  ["both parts hold", { matchLabels: { app: "web" }, matchExpressions: [{ key: "tier", operator: "DoesNotExist" }] }, false],
])("%s", (_, selector, expected) => {
  expect(selects(selector, labels)).toBe(expected);
});
