/** All pods of the node on one bridge: they are neighbours of one another, and the bridge is their gateway. */
import type { Link, Rtnetlink } from "../../../kernel/types.ts";
import { parsePrefix } from "../../../net/address.ts";
import { addressOf } from "../../ipam/book.ts";
import { Pool } from "../../ipam/pool.ts";
import type { PodPlan } from "../../types.ts";
import type { AttachMode, AttachPoint } from "../mode.ts";
import { attachPod, inspectPod, type PodAddress } from "../pod.ts";
import { announcePod } from "./announce.ts";
import { ensureBridge } from "./bridge.ts";
import { mendPorts, plugIn } from "./ports.ts";
import { dropProxies } from "./proxies.ts";

export const bridgeMode: AttachMode = {
  prepare: context => pointOn(ensureBridge(context), context.netlink, context.plan),
  mend: mendPorts,
  linkPattern: ({ bridgeName }) => bridgeName,
};

function pointOn(bridge: Link, netlink: Rtnetlink, { hairpin }: PodPlan): AttachPoint {
  return {
    mode: "bridge",
    attach(wanted) {
      const addresses = wanted.addresses.map(podAddress);
      // Of a routed pod that had one of them.
      dropProxies(netlink, bridge, wanted.addresses.map(addressOf));
      const { ends, routes } = attachPod(netlink, wanted, {
        mtu: bridge.mtu,
        addresses,
        plugIn: host => plugIn(netlink, host, bridge, hairpin),
      });
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
      const found = inspectPod(netlink, wanted, wanted.addresses.map(podAddress));
      return [...found, ...(isOff ? [`the node's interface ${host.name} is not on the bridge ${bridge.name}`] : [])];
    },
  };
}

/** `ADDRESS/LENGTH` of the ledger as a pod on the bridge has it: the whole range is its neighbour. */
function podAddress(text: string): PodAddress {
  const prefix = parsePrefix(text, "clear");
  return { address: addressOf(text), length: prefix.length, gateway: new Pool(prefix).gateway };
}
