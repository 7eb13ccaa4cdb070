import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { nodeFacts } from "./facts.ts";

const netlink = { links: () => [], addresses: () => [] } as unknown as Parameters<typeof nodeFacts>[1];

test.each([
  ["10.96.0.1", ["10.96.0.1"]],
  ["fd00:96::1", ["fd00:96::1"]],
  ["kubernetes.default", undefined],
  [undefined, undefined],
])("the API server's service address is what a pod's environment says: %s", (host, expected) => {
  const facts = nodeFacts("n", netlink, "podlane0", { KUBERNETES_SERVICE_HOST: host });
  expect(facts.serviceAddresses).toEqual(expected);
  for (const address of facts.serviceAddresses ?? []) parseAddress(address);
});
