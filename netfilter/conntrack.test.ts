import { expect, test } from "vitest";
import { parseConntrack } from "./conntrack.ts";

test("connections are told from who began them to who answers, behind all translation", () => {
  const text = [
    "ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=4711 dport=80 src=10.244.2.3 dst=10.244.1.2 sport=8080 dport=4711 [ASSURED] mark=0 use=1",
    "ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.1.2 dst=10.96.0.10 sport=4712 dport=80 src=10.244.2.3 dst=10.244.1.2 sport=8080 dport=4712 [ASSURED] mark=0 use=1",
    "ipv6     10 udp      17 29 src=fd00:0000:0000:0000:0000:0000:0000:0001 dst=fd00::2 sport=1 dport=53 [UNREPLIED] src=fd00::2 dst=fd00::1 sport=53 dport=1 mark=0 use=1",
    "ipv4     2 tcp      6 5 TIME_WAIT src=10.244.1.2 dst=10.244.2.3 sport=1 dport=80 src=10.244.2.3 dst=10.244.1.2 sport=80 dport=1 mark=0 use=1",
    "ipv4     2 icmp     1 29 src=10.244.1.2 dst=10.244.2.3 type=8 code=0 id=1 src=10.244.2.3 dst=10.244.1.2 type=0 code=0 id=1 mark=0 use=1",
    "",
    "nonsense",
  ].join("\n");
  expect(parseConntrack(text)).toEqual([
    { from: "10.244.1.2", to: "10.244.2.3", protocol: "TCP", port: 8080 },
    { from: "fd00:0000:0000:0000:0000:0000:0000:0001", to: "fd00::2", protocol: "UDP", port: 53 },
  ]);
});
