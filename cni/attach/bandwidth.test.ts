/** Token buckets of several pods. Needs root on Linux. */
import { expect, it, onTestFinished } from "vitest";
import { openRtnetlink } from "../../kernel/index.ts";
import { describeKernel, testNetns } from "../../kernel/testnetns.ts";
import { mendBandwidth } from "./bandwidth.ts";

describeKernel("the bandwidth of pods", () => {
  it("is put back for the others where one pod cannot be entered", () => {
    const node = testNetns();
    for (const name of ["a", "b"]) node.ip(`link add pl${name} type veth peer name eth${name}`);
    const netlink = openRtnetlink({ netns: node.path });
    onTestFinished(() => netlink.close());
    const rate = { rate: 8e6, burst: 0 };
    const lost = { netns: `${node.path}-lost`, ifname: "etha", hostInterface: "pla", bandwidth: { egress: rate } };
    const other = { netns: "", ifname: "ethb", hostInterface: "plb", bandwidth: { ingress: rate } };
    const mended: string[] = [];
    expect(() => mendBandwidth(netlink, [lost, other], mended)).toThrow(lost.netns);
    expect(mended).toEqual(["limited the bandwidth of plb again"]);
    expect(netlink.tokenBucket(netlink.link("plb")!.index)?.rate).toBe(1e6);
  });
});
