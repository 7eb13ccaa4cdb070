import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { NeighborConfig, NetworkConfig, SpeakerConfig } from "../bgpd/config.ts";
import { neighborConfig } from "../bgpd/session/testing.ts";
import { accepting } from "../bgpd/testing/memory-speakers.ts";
import { TestNetwork } from "./network.ts";

const PROTOCOL = 201;

/** A speaker in a process of its own, because link-local addresses are connected to in the process's namespace only. */
class NamespaceSpeaker implements AsyncDisposable {
  readonly #child: ChildProcess;

  constructor(namespace: string, change: Pick<SpeakerConfig, "asn" | "routerId" | "neighbors" | "networks">) {
    const config: SpeakerConfig = {
      listen: { port: 179 },
      policies: {},
      multipath: { ebgp: 1, ibgp: 1, asPathRelax: false },
      decision: { alwaysCompareMed: false, preferOldest: false },
      fib: { enabled: true, table: 254, protocol: PROTOCOL, metric: 0 },
      protectedPrefixes: [],
      startupWait: 60,
      ...change,
    };
    const program = fileURLToPath(new URL("link-local-process.ts", import.meta.url));
    const args = ["netns", "exec", namespace, process.execPath, program, JSON.stringify(config)];
    this.#child = spawn("ip", args, { stdio: ["pipe", "ignore", "inherit"] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, "exit");
    this.#child.stdin?.end();
    await ended;
  }
}

function onLink(name: string, device: string, address: string, localAddress: string): NeighborConfig {
  const families = { "ipv6-unicast": accepting };
  return neighborConfig({ name, address, localAddress, interface: device, families, connectRetryTime: 1 });
}

const network = (prefix: string): NetworkConfig => ({ prefix, kind: "static", source: "test", discard: false });

describe("sessions over link-local addresses", () => {
  it("put routes on the link they came from, also where two neighbours have the same address", async () => {
    using net = new TestNetwork();
    const [a, b, c] = ["a", "b", "c"].map(label => net.namespace(label));
    const end = (namespace: string, device: string, address: string) => ({ namespace, device, addresses: [`${address}/64`] });
    net.link(end(a, "eth0", "fe80::1"), end(b, "eth0", "fe80::2"));
    net.link(end(a, "eth1", "fe80::1"), end(c, "eth0", "fe80::2"));
    const neighbors = [onLink("b", "eth0", "fe80::2", "fe80::1"), onLink("c", "eth1", "fe80::2", "fe80::1")];
    const back = [onLink("a", "eth0", "fe80::1", "fe80::2")];
    await using _left = new NamespaceSpeaker(b, {
      asn: 65002,
      routerId: "10.0.0.2",
      neighbors: back,
      networks: [network("2001:db8:b::/48")],
    });
    await using _right = new NamespaceSpeaker(c, {
      asn: 65003,
      routerId: "10.0.0.3",
      neighbors: back,
      networks: [network("2001:db8:c::/48")],
    });
    await using _middle = new NamespaceSpeaker(a, {
      asn: 65001,
      routerId: "10.0.0.1",
      neighbors,
      networks: [network("2001:db8:a::/48")],
    });
    const routes = (namespace: string) =>
      net
        .exec(namespace, "ip", "-6", "route", "show", "proto", String(PROTOCOL))
        .split("\n")
        .map(line => /^(\S+) via (\S+) dev (\S+)/.exec(line)?.slice(1).join(" "))
        .filter(line => line !== undefined)
        .sort();
    await expect
      .poll(() => [routes(a), routes(b), routes(c)], { timeout: 15_000 })
      .toEqual([
        ["2001:db8:b::/48 fe80::2 eth0", "2001:db8:c::/48 fe80::2 eth1"],
        ["2001:db8:a::/48 fe80::1 eth0", "2001:db8:c::/48 fe80::1 eth0"],
        ["2001:db8:a::/48 fe80::1 eth0", "2001:db8:b::/48 fe80::1 eth0"],
      ]);
  }, 30_000);
});
