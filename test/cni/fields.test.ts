/** What a refused field of a network configuration is told to be written as instead must be there. */
import { expect, test } from "vitest";
import { readConfig } from "../../cni/protocol/config.ts";
import type { CniError } from "../../cni/protocol/error.ts";
import { podNetworkSpec } from "../../config/resources/pod-network.ts";

test("a remedy names fields that a PodNetwork has", () => {
  const remedies = ["bridge", "mtu", "hairpinMode", "ipMasq", "ipam", "isGateway", "vlan"].map(field => {
    try {
      readConfig({ cniVersion: "1.0.0", name: "pods", [field]: 1 }, false);
    } catch (error) {
      return (error as CniError).details;
    }
    throw new Error(`${field} is not refused`);
  });
  const named = remedies.flatMap(text => [...text.matchAll(/spec\.(\w+)/g)].map(match => match[1]));
  expect(named).toEqual(["bridgeName", "mtu", "hairpin"]);
  expect(Object.keys(podNetworkSpec.properties)).toEqual(expect.arrayContaining(named));
});
