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
    const { status, stderr } = spawnSync("nsenter", [`--net=${path}`, "nft", rules], { encoding: "utf8" });
    if (status !== 0) ctx.skip(`connections are not tracked here: ${stderr.trim().split("\n")[0]}`);
    for (const address of ["127.0.0.1", "::1"])
      for (const port of [5353, 5353, 5354]) run("bash", ["-c", `echo x >/dev/udp/${address}/${port}`]);
    const tracked = () =>
      run("cat", ["/proc/net/nf_conntrack"])
        .split("\n")
        .flatMap(line => /^(ipv[46]) .* udp .*? dport=(\d+)/.exec(line)?.slice(1).join(" ") ?? [])
        .sort();
    expect(tracked()).toEqual(["ipv4 5353", "ipv4 5353", "ipv4 5354", "ipv6 5353", "ipv6 5353", "ipv6 5354"]);
    forgetUdp([5353], [], path);
    expect(tracked()).toEqual(["ipv4 5354", "ipv6 5354"]);
    forgetUdp([5353], [], path);

    // Of many ports all at once.
    const many = Array.from({ length: 1000 }, (_, at) => 6000 + at);
    for (const port of [5999, 6000, 6999]) run("bash", ["-c", `echo x >/dev/udp/127.0.0.1/${port}`]);
    forgetUdp(many, [], path);
    expect(tracked()).toEqual(["ipv4 5354", "ipv4 5999", "ipv6 5354"]);
    forgetUdp([5999], [], path);

    // A Service's backend, and a pod's.
    const port = (address: string, family: string) => `add rule inet t d ${family} daddr ${address} udp dport 5355 dnat ${family} to`;
    const nat = `add chain inet t d { type nat hook output priority -100; }; ${port("127.0.0.2", "ip")} 127.0.0.8; ${port("127.0.0.3", "ip")} 127.0.0.9`;
    run("nft", [nat]);
    for (const address of ["127.0.0.2", "127.0.0.3"]) run("bash", ["-c", `echo x >/dev/udp/${address}/5355`]);
    expect(tracked()).toEqual(["ipv4 5354", "ipv4 5355", "ipv4 5355", "ipv6 5354"]);
    forgetUdp([5355], [], path);
    expect(tracked()).toEqual(["ipv4 5354", "ipv4 5355", "ipv4 5355", "ipv6 5354"]);
    forgetUdp([5355], [Uint8Array.of(127, 0, 0, 9)], path);
    expect(run("cat", ["/proc/net/nf_conntrack"]).match(/127\.0\.0\.[89] /g)).toEqual(["127.0.0.8 "]);
  });
});
