import { expect, test } from "vitest";
import type { Problem } from "../config/plan.ts";
import { checkObject } from "../config/resources/check-object.ts";
import { type AnyResource, collect } from "../config/resources/kinds.ts";
import { complete, ownObjects, readObjects } from "./former-objects.ts";

const read = (kind: string, name: string, spec: object) =>
  checkObject({ apiVersion: "podlane.io/v1alpha1", kind, metadata: { name }, spec }).object as AnyResource;
const fabric = read("Fabric", "all", { nodeSelector: {}, asn: 64512 });
const policy = read("Policy", "in", { rules: [{ result: "Accept" }] });
const fault = (object: string, severity: Problem["severity"] = "error"): Problem => ({
  severity,
  reason: "UnknownField",
  object,
  field: "spec.x",
  message: "unknown field",
  remedy: "take it out",
});
const { resources } = collect([fabric]);

test("what cannot be read is as it was, and says so", () => {
  const { resources: both, problems, lacking } = complete(resources, [fault("Policy/in")], [fabric, policy]);
  expect([...both.policies.values()]).toEqual([policy]);
  expect([...both.fabrics.values()]).toEqual([fabric]);
  expect(problems.map(({ message }) => message)).toEqual(["unknown field; its last good version stays in force"]);
  expect(lacking).toBe(false);
});

test("what was never in force stays out, and what was deleted does not come back", () => {
  expect(complete(resources, [fault("Policy/new")], [fabric])).toEqual({ resources, problems: [fault("Policy/new")], lacking: false });
  expect(complete(resources, [], [fabric, policy]).resources).toBe(resources);
});

test("something is lacking where it is not known what was in force, or what it is that cannot be read", () => {
  expect(complete(resources, [fault("Policy/in")], undefined).lacking).toBe(true);
  expect(complete(resources, [fault("/etc/podlane/a.yaml")], [fabric]).lacking).toBe(true);
  expect(complete(resources, [fault("Policy/in", "warning")], undefined).lacking).toBe(false);
});

test("an object of which the source has the last good version is left to it", () => {
  const given = [fault("Fabric/all")];
  expect(complete(resources, given, [fabric])).toEqual({ resources, problems: given, lacking: false });
});

test("objects are read again as this version can, and Nodes and Secrets are not among them", () => {
  const node = checkObject({ apiVersion: "v1", kind: "Node", metadata: { name: "n1" }, spec: {}, status: {} }).object as AnyResource;
  const kept = ownObjects(collect([fabric, policy, node]).resources);
  expect(kept).toEqual([fabric, policy]);
  expect(readObjects(JSON.parse(JSON.stringify([...kept, { kind: "Fabric" }, 5])))).toEqual([fabric, policy]);
  expect(readObjects(undefined)).toBeUndefined();
});
