/** The owners of kernel routes in words: names of iproute2's rt_protos, and ours. */
const names: Record<number, string> = {
  1: "redirect",
  2: "kernel",
  3: "boot",
  4: "static",
  9: "ra",
  11: "zebra",
  12: "bird",
  16: "dhcp",
  42: "babel",
  186: "bgp",
  187: "isis",
  188: "ospf",
  189: "rip",
  202: "podlane's pods",
};

/** "static" for 4; the number itself where it has no name. */
export function protocolName(protocol: number): string {
  return names[protocol] ?? String(protocol);
}
