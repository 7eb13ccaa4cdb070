/** PodNetwork: how the pods of the selected nodes are attached. */
import { objectName, plainStatus, prefix, selector } from "./common.ts";
import { flag, integer, keyed, object, oneOf, optional, set, text } from "./schema.ts";

const masquerade = object("Source NAT of what pods send out.", {
  mode: oneOf(
    "None: pods keep their addresses everywhere. External: towards everything but pod subnets, nodes and `exceptions`; elsewhere they are seen with their node's address.",
    ["None", "External"],
    { default: "None" },
  ),
  exceptions: optional(set("Destinations that see the pod's own address.", prefix("A prefix."), 64)),
});

const vxlan = object(
  "How the overlay encapsulates: the same on all nodes.",
  {
    vni: integer(
      "Network identifier (RFC 7348), 1..16777215. One that another program on the nodes uses on the same port collides.",
      1,
      0xffffff,
      { default: 20179 },
    ),
    port: integer("UDP port, 1..65535.", 1, 65535, { default: 4789 }),
    checksumOffload: oneOf(
      "Whether checksums of encapsulated packets are left to the network card. Auto: where the kernel is not known to break them (before 5.7). Off: never, for cards and virtual machines that break them.",
      ["Auto", "On", "Off"],
      { default: "Auto" },
    ),
  },
  { default: {} },
);

const allocation = object("The pod subnets of one node.", {
  node: objectName("Name of the node."),
  podCIDRs: set("At most one per address family.", prefix("A pod subnet of the node."), 2, { minItems: 1 }),
});

export const podNetworkSpec = object("What is wanted.", {
  nodeSelector: selector("The nodes whose pods are attached this way."),
  mode: oneOf(
    "Bridge: pods of a node share a bridge. Routed: each pod has a point-to-point link, and no neighbours. A change concerns new pods; running ones stay as they are.",
    ["Bridge", "Routed"],
    { default: "Bridge" },
  ),
  bridgeName: text("Name of the bridge, 1..15 characters.", 15, {
    minLength: 1,
    pattern: "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$",
    default: "podlane0",
  }),
  mtu: optional(
    integer(
      "MTU of pod interfaces, 1280..65535 octets. Default: that of the interface that holds the node's InternalIP (on a loopback: of the default route), less what the overlay adds, at least 1280 where pods have IPv6. Running pods follow.",
      1280,
      65535,
    ),
  ),
  hairpin: flag("Let a pod reach itself through a service address. With mode Routed it always can.", true),
  serviceCIDRs: optional(set("The cluster's service ranges; no neighbour can take them over.", prefix("A service range."), 8)),
  masquerade: optional(masquerade),
  overlay: oneOf(
    "Whether packets to pods of other nodes are encapsulated in VXLAN. CrossSubnet: to nodes that are not on a segment with this one.",
    ["Never", "CrossSubnet", "Always"],
    { default: "Never" },
  ),
  vxlan,
  networkPolicy: oneOf(
    "Enforced: NetworkPolicy objects are carried out on the nodes. Ignored: by somebody else, or by nobody.",
    ["Enforced", "Ignored"],
    { default: "Enforced" },
  ),
  allocations: optional(
    keyed("Pod subnets of nodes for which Kubernetes assigns none (Node.spec.podCIDRs wins).", "node", allocation, 1024),
  ),
});

export const podNetworkStatus = plainStatus({});
