/** A top-of-rack router for a test's cluster: FRR with its kernel routes, on the nodes' wire, and the objects that make podlane its neighbour. */
import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { frr } from "../../lab/engine/frr.ts";
import { Machine } from "../../lab/kubernetes/machine.ts";
import { until } from "../../lab/kubernetes/until.ts";
import { type Cluster, ROUTER } from "./cluster.ts";

const ASN = 65000;
const NODES = 64512;

/** Every node announces its pods to it, and takes nothing from it. */
export const torObjects = [
  ...["10.90.0.1", "fd00:90::1"].map((address, at) => ({
    apiVersion: "podlane.io/v1alpha1",
    kind: "Peer",
    metadata: { name: `tor-ipv${at === 0 ? 4 : 6}`, labels: { role: "tor" } },
    spec: { nodeSelector: {}, asn: ASN, address, timers: { connectRetryTime: 1 } },
  })),
  {
    apiVersion: "podlane.io/v1alpha1",
    kind: "Advertisement",
    metadata: { name: "pods" },
    spec: { nodeSelector: {}, type: "PodCIDR", peerSelector: { matchLabels: { role: "tor" } } },
  },
];

/** Resolves when it listens. It ends with close() of the returned machine's cluster. */
export async function startTor(cluster: Cluster): Promise<Machine> {
  const netns = cluster.network.namespace("tor");
  cluster.plug(netns, ROUTER);
  for (const name of ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"])
    cluster.network.exec(netns, "sh", "-c", `echo 1 > /proc/sys/${name}`);
  const machine = new Machine(netns, join(cluster.folder, "tor"));
  await machine.boot();
  const folder = join(machine.folder, "frr");
  mkdirSync(folder);
  for (const one of [cluster.folder, machine.folder, folder]) chmodSync(one, 0o755);
  const sessions = cluster.nodes.flatMap(({ name, octet }) =>
    [4, 6].map(family => ({
      name,
      link: "wire",
      asn: NODES,
      local: family === 4 ? `10.90.0.${ROUTER}` : `fd00:90::${ROUTER}`,
      remote: family === 4 ? `10.90.0.${octet}` : `fd00:90::${octet}`,
      family: family as 4 | 6,
      shared: true,
      passive: false,
    })),
  );
  const config = frr.config({ name: "tor", asn: ASN, routerId: `10.90.0.${ROUTER}`, holdTime: 9, sessions, announce: [] });
  await frr.start(
    { name: "tor", folder, config },
    (program, command, args) => machine.start(program, [command, ...args]),
    program =>
      until(`${program} of the router answers`, () =>
        frr.ask(folder, program).then(
          () => true,
          () => false,
        ),
      ),
  );
  return machine;
}
