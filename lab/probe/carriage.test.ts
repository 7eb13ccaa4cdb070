import { expect, test } from "vitest";
import { readFrames } from "./carriage.ts";

const line = (...words: string[]) => `${words.join("\t")}\n`;

test("frames say how they are carried, and between whom, the outermost header first", () => {
  const text = [
    line("eth:ethertype:ip:icmp:data", "10.244.1.2", "10.244.2.2", "", "", "8", ""),
    line("eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:icmp:data", "172.16.1.11,10.244.1.2", "172.16.2.13,10.244.3.2", "", "", "8", ""),
    line("eth:ethertype:ip:udp:vxlan:eth:ethertype:ipv6:icmpv6:data", "172.16.1.11", "172.16.2.13", "fd00::1", "fd00::2", "", "128"),
    line("eth:ethertype:ipv6:udp:vxlan:eth:ethertype:ip:icmp:data", "10.0.0.1", "10.0.0.2", "fd00::a", "fd00::b", "8", ""),
  ].join("");
  const ends = readFrames(text).map(({ as, ends }) => [as, ...ends.map(({ source, destination }) => `${source} ${destination}`)]);
  expect(ends).toEqual([
    ["plain", "10.244.1.2 10.244.2.2"],
    ["vxlan", "172.16.1.11 172.16.2.13", "10.244.1.2 10.244.3.2"],
    ["vxlan", "172.16.1.11 172.16.2.13", "fd00::1 fd00::2"],
    ["vxlan", "fd00::a fd00::b", "10.0.0.1 10.0.0.2"],
  ]);
});

test("answers, other packets and a line that has not ended are left out", () => {
  const text =
    line("eth:ethertype:ip:icmp:data", "10.244.2.2", "10.244.1.2", "", "", "0", "") +
    line("eth:ethertype:ip:udp:vxlan:eth:arp", "1.2.3.4", "1.2.3.5", "", "", "", "");
  expect(readFrames(`${text}eth:ethertype:ip:icmp\t10.244.1.2\t10.244.2.2\t\t\t8\t`)).toEqual([]);
});
