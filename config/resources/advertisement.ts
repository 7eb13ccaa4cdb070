/** Advertisement: what the selected nodes announce to which peers. */
import { community, communitySet, interfaceName, largeCommunity, objectName, plainStatus, prefix, selector } from "./common.ts";
import { flag, integer, keyed, notYet, object, oneOf, optional, set } from "./schema.ts";

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
    type: notYet(
      oneOf(
        "PodCIDR: the node's pod subnets. Interface: addresses of named interfaces. Static: given prefixes. Service: addresses of services.",
        ["PodCIDR", "Interface", "Static", "Service"],
      ),
      "Service",
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
    service: optional(
      notYet(
        object("For type Service.", {
          addresses: set("Which addresses.", oneOf("Kind of address.", ["ClusterIP", "ExternalIP", "LoadBalancerIP"]), 3, { minItems: 1 }),
          selector: selector("The services, by their labels."),
        }),
      ),
    ),
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
