/** All pods of the node on one bridge: they are neighbours of one another, and the bridge is their gateway. */
import type { Link, Rtnetlink } from "../../../kernel/types.ts";
import { addressOf } from "../../ipam/book.ts";
import type { PodPlan } from "../../types.ts";
import type { AttachMode, AttachPoint } from "../mode.ts";
import { attachPod, inspectPod } from "../pod.ts";
import { announcePod } from "./announce.ts";
import { ensureBridge } from "./bridge.ts";
import { mendPorts, plugIn } from "./ports.ts";

export const bridgeMode: AttachMode = {
  prepare: context => pointOn(ensureBridge(context), context.netlink, context.plan),
  mend: mendPorts,
  linkName: ({ bridgeName }) => bridgeName,
};

function pointOn(bridge: Link, netlink: Rtnetlink, { hairpin }: PodPlan): AttachPoint {
  return {
    attach(wanted) {
      const { ends, addresses, routes } = attachPod(netlink, wanted, bridge.mtu, host => plugIn(netlink, host, bridge, hairpin));
      const interfaces = [{ name: bridge.name, mac: bridge.address, mtu: bridge.mtu }, ...ends];
      return { interfaces, ips: addresses.map(entry => ({ ...entry, interface: interfaces.length - 1 })), routes };
    },
    async announce({ netns, ifname, hostInterface, addresses }) {
      const told = await announcePod(netlink, { netns, ifname, hostInterface, bridge: bridge.index, addresses: addresses.map(addressOf) });
      return told ? undefined : "the bridge does not forward from this pod";
    },
    inspect(wanted) {
      const host = netlink.link(wanted.hostInterface);
      const isOff = host !== undefined && host.master !== bridge.index;
      return [...inspectPod(netlink, wanted), ...(isOff ? [`the node's interface ${host.name} is not on the bridge ${bridge.name}`] : [])];
    },
  };
}
