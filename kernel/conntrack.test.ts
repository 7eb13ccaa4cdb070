import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { forgetUdp } from "./conntrack.ts";
import { describeKernel, testNetns } from "./testnetns.ts";

describeKernel("UDP connections", () => {
  test("to a port are forgotten, in both families, and no others", ctx => {
    const { path, run, ip } = testNetns();
    ip("link set lo up");
    // Tracking begins with the first rule that asks for it.
    const rules = "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c ct state new counter";
    if (spawnSync("nsenter", [`--net=${path}`, "nft", rules]).status !== 0) ctx.skip("this kernel does not track connections");
    for (const address of ["127.0.0.1", "::1"])
      for (const port of [5353, 5353, 5354]) run("bash", ["-c", `echo x >/dev/udp/${address}/${port}`]);
    const tracked = () =>
      run("cat", ["/proc/net/nf_conntrack"])
        .split("\n")
        .flatMap(line => /^(ipv[46]) .* udp .*? dport=(\d+)/.exec(line)?.slice(1).join(" ") ?? [])
        .sort();
    expect(tracked()).toEqual(["ipv4 5353", "ipv4 5353", "ipv4 5354", "ipv6 5353", "ipv6 5353", "ipv6 5354"]);
    forgetUdp(5353, path);
    expect(tracked()).toEqual(["ipv4 5354", "ipv6 5354"]);
    forgetUdp(5353, path);
  });
});
