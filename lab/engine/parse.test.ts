/** What the daemons print, as Debian's FRR 8.4 and BIRD 2.0 print it, and what `ping -O` and `ip monitor` print. */
import { expect, test } from "vitest";
import { judgeEnding, readCounters } from "../probe/death.ts";
import { describeRoute, lookup, readProbe } from "../probe/path.ts";
import { judgeAnswers, readAnswers } from "../probe/reach.ts";
import { countPackets } from "../probe/stream.ts";
import { deletedRoutes } from "../scenario.ts";
import { parseBirdProtocols, parseBirdRoutes } from "./bird.ts";
import { parseFrrRoutes, parseFrrSummary } from "./frr.ts";
import { sumColumn } from "./neighbours.ts";

test("FRR: a session that carries two families is one session", () => {
  const peer = { remoteAs: 65011, state: "Established", desc: "node1", pfxRcd: 1, pfxSnt: 3 };
  const answer = JSON.stringify({ ipv4Unicast: { peers: { "172.16.1.11": peer } }, ipv6Unicast: { peers: { "172.16.1.11": peer } } });
  expect(parseFrrSummary(answer)).toEqual([
    { neighbor: "node1", address: "172.16.1.11", asn: "65011", state: "Established", received: 2, sent: 6 },
  ]);
});

test("FRR: no families configured, no routes", () => {
  expect(parseFrrSummary("{}")).toEqual([]);
  expect(parseFrrRoutes('{"vrfName":"default"}')).toEqual([]);
});

test("FRR: the global next hop is shown, not the link-local one; own routes come from itself", () => {
  const routes = {
    "fd00::/64": [
      {
        bestpath: true,
        path: "65011",
        peerId: "fd00:1::11",
        nexthops: [
          { ip: "fd00:1::11", scope: "global" },
          { ip: "fe80::1", scope: "link-local" },
        ],
      },
    ],
    "10.0.0.0/8": [{ path: "", peerId: "(unspec)", nexthops: [{ ip: "0.0.0.0" }] }],
  };
  expect(parseFrrRoutes(JSON.stringify({ routes }))).toEqual([
    { prefix: "fd00::/64", best: true, asPath: "65011", nextHops: ["fd00:1::11"], from: "fd00:1::11" },
    { prefix: "10.0.0.0/8", best: false, asPath: "", nextHops: [], from: "itself" },
  ]);
});

test("BIRD: routes, with further paths of the same prefix and one the kernel refused", () => {
  const text = `BIRD 2.0.12 ready.
Table master4:
10.244.1.0/24        unicast [node1_4 09:11:02.338] * (100) [AS65011i]
	via 172.16.2.11 on leaf-b
	Type: BGP univ
	BGP.origin: IGP
	BGP.as_path: 65001 65011
	BGP.next_hop: 172.16.2.11
                     unicast [node2_4 09:11:02.338] (100) [AS65011i]
	via 172.16.2.12 on leaf-b
	bgp_path: 65002 65001 65011
203.0.113.128/25     blackhole [own4 09:54:23.565] * (200)
	Type: static univ

Table master6:
fd00:10:244:1::/64   unicast [node1_6 10:15:14.571] ! (100) [AS65011i]
	via fd00:172:16:2::11 on leaf-b
	BGP.as_path: 65011
`;
  expect(parseBirdRoutes(text)).toEqual([
    { prefix: "10.244.1.0/24", best: true, asPath: "65001 65011", nextHops: ["172.16.2.11"], from: "node1_4" },
    { prefix: "10.244.1.0/24", best: false, asPath: "65002 65001 65011", nextHops: ["172.16.2.12"], from: "node2_4" },
    { prefix: "203.0.113.128/25", best: true, asPath: "", nextHops: [], from: "own4" },
    { prefix: "fd00:10:244:1::/64", best: true, asPath: "65011", nextHops: ["fd00:172:16:2::11"], from: "node1_6" },
  ]);
});

test("BIRD: sessions, up and down", () => {
  const text = `BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     09:53:55.061
node1_4    BGP        ---        up     09:53:57.061  Established
  BGP state:          Established
    Neighbor address: 172.16.2.11
    Neighbor AS:      65011
  Channel ipv4
    Routes:         1 imported, 2 exported, 1 preferred
node2_4    BGP        ---        start  09:53:57.061  Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: 172.16.2.12
    Neighbor AS:      65012
    Last error:       Socket: Connection refused
`;
  expect(parseBirdProtocols(text)).toEqual([
    { neighbor: "node1_4", address: "172.16.2.11", asn: "65011", state: "Established", received: 1, sent: 2, reason: undefined },
    {
      neighbor: "node2_4",
      address: "172.16.2.12",
      asn: "65012",
      state: "Active",
      received: 0,
      sent: 0,
      reason: "Socket: Connection refused",
    },
  ]);
});

test("ping -O -D: what is answered a little late is not lost; what is refused, or comes after the link is back, is", () => {
  const output = `[1000.000000] 64 bytes from 10.0.0.2: icmp_seq=1 ttl=62 time=0.1 ms
[1000.020000] no answer yet for icmp_seq=2
[1000.020100] 64 bytes from 10.0.0.2: icmp_seq=3 ttl=62 time=0.1 ms
[1000.025000] 64 bytes from 10.0.0.2: icmp_seq=2 ttl=62 time=25 ms
[1000.060000] no answer yet for icmp_seq=4
From 10.0.0.1 icmp_seq=5 Destination Net Unreachable
[1000.100000] 64 bytes from 10.0.0.2: icmp_seq=6 ttl=62 time=0.1 ms
[1000.140000] no answer yet for icmp_seq=7
[1000.140100] 64 bytes from 10.0.0.2: icmp_seq=8 ttl=62 time=0.1 ms
[1002.140100] 64 bytes from 10.0.0.2: icmp_seq=7 ttl=62 time=2020 ms
[1002.160000] no answer yet for icmp_seq=9
`;
  const { gaps, ...counts } = countPackets(output);
  expect(counts).toEqual({ sent: 9, lost: 4 });
  expect(gaps.map(gap => ({ ...gap, at: Math.round(gap.at) }))).toEqual([
    { at: 1_000_060, duration: 80, lost: 2 },
    { at: 1_000_140, duration: 40, lost: 1 },
    { at: 1_002_160, duration: 2020, lost: 1 },
  ]);
});

test("ping: sequence numbers begin anew after 65535, and nothing at all is nothing", () => {
  const line = (sequence: number) => `[1000.000000] 64 bytes from 10.0.0.2: icmp_seq=${sequence} ttl=62 time=0.1 ms\n`;
  const numbers = [...Array.from({ length: 65_535 }, (_, index) => index + 1), 0, 1];
  expect(countPackets(numbers.map(line).join(""))).toEqual({ sent: 65_537, lost: 0, gaps: [] });
  expect(countPackets("")).toEqual({ sent: 0, lost: 0, gaps: [] });
});

test("ip monitor: only deleted routes of the subnets count", () => {
  const output = `10.244.1.0/24 via 172.16.1.1 dev eth0 proto 201
Deleted 10.244.1.0/24 proto 201 metric 0
Deleted local 10.9.9.9 dev eth0 table local
Deleted fd00::/64 via fe80::1 dev eth0 proto 201 metric 1024 pref medium
`;
  expect(deletedRoutes(output, new Set(["10.244.1.0/24"]))).toEqual(["Deleted 10.244.1.0/24 proto 201 metric 0"]);
});

test("/proc/net/stat: hexadecimal, a line for each processor; what an older kernel lacks is 0", () => {
  const text = "entries  allocs   table_fulls\n0000003e 00003638 0000000a\n0000003e 0000402f 00000010\n";
  expect([sumColumn(text, "table_fulls"), sumColumn(text, "nonsense")]).toEqual([26, 0]);
});

test("the longest match decides", () => {
  const hop = (dev: string) => [{ dev, down: false }];
  const routes = [
    { prefix: "0.0.0.0/0", protocol: "", type: "unicast", hops: hop("up") },
    { prefix: "10.244.0.0/16", protocol: "", type: "blackhole", hops: [] },
    {
      prefix: "10.244.1.0/24",
      protocol: "",
      type: "unicast",
      hops: [
        { via: "172.16.1.1", dev: "eth0", down: false },
        { via: "172.16.2.1", dev: "eth1", down: false },
      ],
    },
  ];
  expect(describeRoute(lookup(routes, "10.244.1.9"))).toBe("10.244.1.0/24 via 172.16.1.1 eth0 | via 172.16.2.1 eth1");
  expect(describeRoute(lookup(routes, "10.244.9.9"))).toBe("10.244.0.0/16 blackhole");
  expect(describeRoute(lookup(routes, "fd00::1"))).toBe("no route");
});

test("a probe: an echo, a hop on the way, a refusal, silence", () => {
  expect(readProbe("64 bytes from fd00::2: icmp_seq=1 ttl=61 time=0.1 ms\n")).toEqual({ from: "fd00::2" });
  expect(readProbe("From 172.16.1.1 icmp_seq=1 Time to live exceeded\n")).toEqual({ from: "172.16.1.1" });
  expect(readProbe("From fd00::1 icmp_seq=1 Time exceeded: Hop limit\n")).toEqual({ from: "fd00::1" });
  expect(readProbe("From 10.244.1.1 icmp_seq=1 Destination Net Unreachable\n")).toEqual({
    from: "10.244.1.1",
    refused: "Destination Net Unreachable",
  });
  expect(readProbe("1 packets transmitted, 0 received\n")).toEqual({});
});

test("web servers: who answered, and whom they saw, by the names of the lab", () => {
  const names = new Map([["web-x", "node1-1"]]);
  const lines = [...Array(18).fill("web-x ::ffff:192.0.2.7"), "web-x [2001:db8::7]"];
  const read = readAnswers(`${lines.join("\n")}\n`, names);
  expect(read).toEqual({ by: ["node1-1"], seen: ["192.0.2.7", "2001:db8::7"], lost: 1 });
  const answers = { from: "client", to: "203.0.113.1", own: ["192.0.2.7"], ...read };
  expect(judgeAnswers({ ...answers, seen: ["192.0.2.7"], lost: 0 }, { by: ["node1-1"], sees: "own" })).toEqual([]);
  expect(judgeAnswers(answers, { by: ["node2-1"], sees: "own" })).toEqual([
    "203.0.113.1, asked by client, did not answer 1 of 20 times",
    "203.0.113.1, asked by client, is answered by node1-1",
    "203.0.113.1, asked by client, is not answered by node2-1",
    "203.0.113.1, asked by client, sees 2001:db8::7, not 192.0.2.7",
  ]);
  const silent = { ...answers, ...readAnswers("", names) };
  expect(judgeAnswers(silent, { by: ["node1-1"], sees: "other" })).toEqual(["203.0.113.1, asked by client, does not answer"]);
});

test("nft: packets that came and went; one that wanders is found out", () => {
  const counter = (name: string, packets: number) => ({
    counter: { family: "inet", name, table: "podlane-lab-probe", packets, bytes: 420 },
  });
  const json = JSON.stringify({ nftables: [{ metainfo: { version: "1.0.6" } }, counter("arrived", 5), counter("passed", 0)] });
  expect(readCounters(json)).toEqual({ arrived: 5, passed: 0 });
  const wandering = [
    { machine: "tor", arrived: 160, passed: 160 },
    { machine: "node1", arrived: 160, passed: 155 },
  ];
  const ending = { from: "client", to: "203.0.113.1", sent: 5, answered: false, seen: wandering };
  expect(judgeEnding(ending, { at: ["node1"], hops: 2 })).toEqual([
    "a packet to 203.0.113.1 from client comes to 64 machines, not 2",
    "node1 passed 155 packets to 203.0.113.1 from client on",
  ]);
});
