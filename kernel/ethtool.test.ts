import { expect, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { describeKernel, testNetns } from "./testnetns.ts";

describeKernel("checksum offload", () => {
  test("of a tunnel is on when it is made, and can be turned off and on", () => {
    const { netlink } = testNetns();
    netlink.addLink({ kind: "vxlan", name: "vx0", id: 5, port: 4789, local: parseAddress("10.0.0.1"), learning: false });
    expect(netlink.checksumOffload("vx0")).toBe(true);
    netlink.setChecksumOffload("vx0", false);
    expect(netlink.checksumOffload("vx0")).toBe(false);
    netlink.setChecksumOffload("vx0", true);
    expect(netlink.checksumOffload("vx0")).toBe(true);
  });

  test("of a device that there is not is an error with its name", () => {
    const { netlink } = testNetns();
    expect(() => netlink.checksumOffload("nowhere")).toThrow(/ask whether nowhere leaves checksums to the hardware.*ENODEV/);
    expect(() => netlink.setChecksumOffload("nowhere", false)).toThrow(/turn checksum offload of nowhere off.*ENODEV/);
  });
});
