/** Advertisement: what the selected nodes announce to which peers. */
import { community, communitySet, interfaceName, largeCommunity, objectName, plainStatus, prefix, selector } from "./common.ts";
import { flag, integer, keyed, object, oneOf, optional, set, text } from "./schema.ts";

const attributes = object("Attributes of what is announced, towards the selected peers.", {
  communities: optional(communitySet("Communities (RFC 1997) to add.", community)),
  largeCommunities: optional(communitySet("Large communities (RFC 8092) to add.", largeCommunity)),
  localPref: optional(integer("LOCAL_PREF, internal peers only. 0..4294967295.", 0, 4294967295)),
  med: optional(integer("MED. 0..4294967295.", 0, 4294967295)),
  prepend: optional(integer("How often our own AS is put in front once more, 1..16.", 1, 16)),
});

const aggregation = object(
  "Announce the covering prefix of this length instead. The node gets a discard route for it, so that unassigned addresses do not loop.",
  {
    ipv4: optional(integer("Length for IPv4, 8..32.", 8, 32)),
    ipv6: optional(integer("Length for IPv6, 16..128.", 16, 128)),
  },
  { rules: [{ rule: "has(self.ipv4) || has(self.ipv6)", message: "give ipv4, ipv6 or both" }] },
);

/** What annotations of a Service may say of its own announcement, where the Advertisement lets them. */
export const ServiceAnnotations = ["Communities", "LargeCommunities", "LocalPref", "MED", "Prepend"] as const;

const service = object(
  "For type Service. An address is announced from the nodes where a packet to it reaches an endpoint.",
  {
    addresses: set("Which addresses.", oneOf("Kind of address.", ["ClusterIP", "ExternalIP", "LoadBalancerIP"]), 3, { minItems: 1 }),
    externalRanges: optional(
      set(
        "External addresses are announced where they lie in one of these, and covering prefixes of them where all of it does: who may write a Service may give it any external address. Needed where addresses has ExternalIP.",
        prefix("A range."),
        64,
        { minItems: 1 },
      ),
    ),
    selector: selector("The Services, by their labels."),
    namespaceSelector: optional(selector("The namespaces of the Services, by their labels. Absent: all.")),
    loadBalancerClasses: optional(
      set("Only Services whose spec.loadBalancerClass is one of these. Absent: all.", text("A class.", 317, { minLength: 1 }), 16),
    ),
    withoutEndpoints: oneOf(
      "Withdraw: an address without a ready endpoint is not announced. Keep: from where traffic policy Cluster applies it is announced all the same, and its packets are answered by the node's proxy.",
      ["Withdraw", "Keep"],
      { default: "Withdraw" },
    ),
    excludedNodes: oneOf(
      "Respect: a node with the label node.kubernetes.io/exclude-from-external-load-balancers announces no external and no load-balancer address. Ignore: it does.",
      ["Respect", "Ignore"],
      { default: "Respect" },
    ),
    linkBandwidth: oneOf(
      "Endpoints: routes carry a link bandwidth community (draft-ietf-idr-link-bandwidth) in proportion to the ready endpoints of the Service on the node, so that a router that looks at it gives each endpoint the same share. None: they carry none.",
      ["None", "Endpoints"],
      { default: "None" },
    ),
    annotations: optional(
      set(
        "What a Service may say of its own routes: podlane.io/communities, podlane.io/large-communities (lists with commas), podlane.io/local-pref, podlane.io/med, podlane.io/prepend. Absent: nothing.",
        oneOf("What may be said.", [...ServiceAnnotations]),
        ServiceAnnotations.length,
      ),
    ),
  },
  {
    rules: [
      {
        rule: "!('ExternalIP' in self.addresses) || has(self.externalRanges)",
        message: "is needed where addresses has ExternalIP: anybody who may write a Service may give it any external address",
        fieldPath: ".externalRanges",
      },
    ],
  },
);

const staticPrefix = object("A prefix to originate.", {
  prefix: prefix("The prefix."),
  discard: flag("Install a discard route for it on the node, so that what no more specific route covers is dropped there.", false),
});

const only = (field: string, type: string) => ({
  rule: `(self.type == '${type}') == has(self.${field})`,
  message: `is for type ${type}, and is needed there`,
  fieldPath: `.${field}`,
});

export const advertisementSpec = object(
  "What is wanted.",
  {
    nodeSelector: selector("The nodes that announce."),
    type: oneOf(
      "PodCIDR: the node's pod subnets. Interface: addresses of named interfaces. Static: given prefixes. Service: addresses of Services.",
      ["PodCIDR", "Interface", "Static", "Service"],
    ),
    interface: optional(
      object("For type Interface.", {
        names: set("Interfaces of the node.", interfaceName("Name of an interface."), 16, { minItems: 1 }),
        announce: oneOf("Subnet: the connected prefix. Address: the address alone (/32, /128).", ["Subnet", "Address"], {
          default: "Subnet",
        }),
      }),
    ),
    static: optional(object("For type Static.", { prefixes: keyed("What to announce.", "prefix", staticPrefix, 256, { minItems: 1 }) })),
    service: optional(service),
    peerSelector: optional(selector("The peers that hear it, by labels of the Peer objects.")),
    peers: optional(
      set("The peers that hear it, by name; together with peerSelector: either suffices.", objectName("Name of a Peer."), 64),
    ),
    mesh: optional(flag("Announce to the other nodes of the fabric as well. Pod subnets always go there. Default false.")),
    aggregation: optional(aggregation),
    attributes: optional(attributes),
  },
  {
    rules: [
      only("interface", "Interface"),
      only("static", "Static"),
      only("service", "Service"),
      {
        rule: "has(self.peerSelector) || has(self.peers) || (has(self.mesh) && self.mesh)",
        message: "say who hears it: peerSelector ({} selects all peers), peers, or mesh: true",
      },
      {
        rule: "!has(self.aggregation) || self.type != 'Static'",
        message: "is not for type Static: give the covering prefix itself",
        fieldPath: ".aggregation",
      },
    ],
  },
);

export const advertisementStatus = plainStatus({});
