/** The objects that are given to an API server say the same as those that the index is given. */
import { expect, test } from "vitest";
import { type Findings, readNetworkPolicy } from "../config/resources/network-policy.ts";
import { clusterObjects, policyOf } from "./policy-cluster.ts";

test("a policy as it is written is read as the one that is compiled", () => {
  const found: Findings = { faults: [], warnings: [] };
  const policies = clusterObjects(0, 500).all.map(({ object }) => {
    const { name, namespace } = object.metadata;
    return readNetworkPolicy({ key: `${namespace}/${name}`, namespace, name }, (object as { spec?: object }).spec, found);
  });
  expect(policies).toEqual(Array.from({ length: 500 }, (_, at) => policyOf(at, 50)));
  expect(found).toEqual({ faults: [], warnings: [] });
});

test("one pod in fifty-one is on the node, in all namespaces", () => {
  const { here, all } = clusterObjects(5000, 0);
  expect(all).toHaveLength(5000);
  expect(here).toHaveLength(99);
  expect(new Set(here.map(({ metadata }) => metadata.namespace)).size).toBe(50);
});
