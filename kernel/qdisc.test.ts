import { expect, test } from "vitest";
import { addVeth, describeKernel, testNetns } from "./testnetns.ts";

describeKernel("token buckets", () => {
  test("are set, replaced and read as tc(8) shows them, and go with their link", () => {
    const netns = testNetns();
    const { netlink } = netns;
    const ifindex = addVeth(netns);
    expect(netlink.tokenBucket(ifindex)).toBe(undefined);
    for (const [rate, words] of [
      [1_250_000, "rate 10Mbit"],
      [12_500_000_000, "rate 100Gbit"],
    ] as const) {
      netlink.setTokenBucket(ifindex, { rate, burst: 65_536, limit: 131_072 });
      expect(netlink.tokenBucket(ifindex)).toEqual({ rate, limit: 131_072 });
      const shown = netns.run("tc", ["-n", netns.name, "qdisc", "show", "dev", "v0"]);
      expect(shown).toMatch(new RegExp(`^qdisc tbf .* root .*${words} burst \\S+ `));
    }
    netlink.deleteLink(ifindex);
    expect(netlink.tokenBucket(ifindex)).toBe(undefined);
    expect(() => netlink.setTokenBucket(ifindex, { rate: 1, burst: 1, limit: 1 })).toThrow(/ENODEV/);
  });
});
