/** Peer: sessions of the selected nodes with a neighbour outside the mesh: a top-of-rack router, a route server, other nodes. */
import { Families } from "../../bgpd/family.ts";
import {
  address,
  family,
  fromNode,
  interfaceName,
  objectName,
  passwordSecretRef,
  plainStatus,
  prefixRange,
  routerAsn,
  selector,
  timers,
} from "./common.ts";
import { flag, integer, keyed, list, notYet, object, oneOf, optional, set, text } from "./schema.ts";

const outcome = (description: string) => oneOf(description, ["Accept", "Reject"]);
const policies = (what: string) => optional(list(`Policies on what ${what}, asked in order.`, objectName("Name of a Policy."), 16));

const importRules = () =>
  object("What is accepted from the neighbour.", {
    policies: policies("the neighbour sends"),
    accept: optional(
      list(
        "Short form: accept exactly these prefixes, after `policies`. {prefix: 0.0.0.0/0} is the default route alone. What is guarded (spec.protectedPrefixes of a Fabric lists it) stays refused unless an entry names that exactly.",
        prefixRange(),
        64,
      ),
    ),
    default: optional(outcome("What nothing above decided. Default: Reject from external peers (RFC 8212), Accept from internal ones.")),
  });

const exportRules = () =>
  object("What is sent to the neighbour. Advertisements that select this peer add what they announce.", {
    policies: policies("is sent"),
    default: optional(
      outcome(
        "What neither these policies nor an Advertisement decided. Default: Reject to external peers (RFC 8212), Accept to internal ones.",
      ),
    ),
  });

/** What can be set for all families of a peer or for one of them. */
const familySettings = () => ({
  import: optional(importRules()),
  export: optional(exportRules()),
  prefixLimit: optional(
    integer(
      "Prefixes accepted of a family before the session is closed (RFC 4486). 0 = no limit. Default: 10000 from external peers, 0 from internal ones.",
      0,
      100000000,
    ),
  ),
  receivedLimit: optional(
    integer(
      "Prefixes kept of a family, accepted or rejected, before the session is closed; what comes beyond is not kept. 0 = no limit. Default: ten times prefixLimit, at least 100000; 0 where prefixLimit is set to 0.",
      0,
      1000000000,
    ),
  ),
  prefixLimitRestart: optional(
    integer(
      "Seconds after which a session closed by prefixLimit is tried again. 0 = never: it stays down until the limit changes or the session is reset. Default 300.",
      0,
      86400,
    ),
  ),
  prefixWarning: optional(integer("Percent of prefixLimit at which a problem is reported, 1..100. Default 75.", 1, 100)),
  nextHopSelf: optional(flag("Internal peers: put the node's own address as next hop on routes from external peers. Default false.")),
  allowASIn: optional(integer("How often the node's own AS may occur in an accepted AS path, 0..10. Default 0.", 0, 10)),
  removePrivateASN: optional(flag("Remove private AS numbers from what is sent. Default false.")),
});

const familyEntry = object("One address family; what it sets goes before what the peer sets for all.", {
  name: family(`${Families.join(" or ")}.`),
  ...familySettings(),
});

/** What a peer takes from another one. */
const inherited = () => ({
  port: optional(integer("The neighbour's TCP port, 1..65535. Default 179.", 1, 65535)),
  localAddress: optional(address("Bind the session to this address of the node. Default: the kernel's choice.")),
  bindInterface: optional(interfaceName("Bind the session to this interface.")),
  asn: optional(routerAsn("The neighbour's AS number.")),
  asnFrom: optional(fromNode("Instead of `asn`: each node says its neighbour's AS number.")),
  type: optional(oneOf("Instead of `asn`: any AS but our own (External), or our own (Internal).", ["External", "Internal"])),
  localASN: optional(routerAsn("Present ourselves to this neighbour under this AS number.")),
  passwordSecretRef: optional(passwordSecretRef()),
  passive: optional(flag("Never connect, only accept. Default false.")),
  shutdown: optional(flag("Keep the session down on purpose. Default false.")),
  shutdownMessage: optional(text("Sent to the neighbour with the shutdown (RFC 9003).", 128)),
  multihop: optional(integer("TTL of sent packets when routers stand between, 1..255. Excludes ttlSecurity.", 1, 255)),
  ttlSecurity: optional(
    integer("Hops from which packets are trusted (GTSM, RFC 5082), 1..254; 1 = directly connected. Excludes multihop.", 1, 254),
  ),
  allowASSets: optional(
    flag(
      "Take AS_SETs and AS_CONFED_SETs in AS paths from the neighbour, and pass them on to it (RFC 9774 deprecates both). Default: that of the fabric, false. Nodes of a fabric without it do not hear such routes from each other.",
    ),
  ),
  enforceFirstAS: optional(
    flag(
      "External peers: refuse routes whose AS path does not begin with the neighbour's AS. false for a route server, which does not add its own (RFC 7947). Default true.",
    ),
  ),
  timers: optional(timers()),
  attributeOctetsLimit: optional(
    integer(
      "Octets of path attributes that the session may bring before it is closed. 0 = no limit. Default: 67108864, or 256 for each prefix of receivedLimit where that is more; 0 where receivedLimit is 0.",
      0,
      1000000000000,
    ),
  ),
  families: optional(
    keyed("Address families of the session. Default: the one of the session's address.", "name", familyEntry, 2, { minItems: 1 }),
  ),
  ...familySettings(),
  routeReflectorClient: optional(flag("This internal neighbour is our client (RFC 4456). Default false.")),
});

const inheritedName = () => oneOf("Name of a field of spec.", Object.keys(inherited()).sort());

export const peerSpec = object(
  "What is wanted.",
  {
    template: optional(flag("true: selects no node and makes no session; other peers take fields from it with `from`.")),
    from: optional(
      objectName(
        "Name of a Peer from which every field is taken that is absent here, save template, nodeSelector, address, addressFrom, interface, gateway, peerSelector and description, and those in `unset`.",
      ),
    ),
    unset: optional(
      set("Fields that are not taken from `from`: they have their defaults, as if no template had set them.", inheritedName(), 40),
    ),
    nodeSelector: optional(selector("The nodes that hold a session. Needed unless `template` is true.")),
    description: optional(text("For people.", 256)),
    address: optional(address("The neighbour's address; a link-local one needs bindInterface.")),
    addressFrom: optional(
      fromNode(
        "Instead of `address`: each node says its neighbours' addresses, at most 8, with commas between them. A label can hold one IPv4 address; a link-local address needs bindInterface, or the interface behind it: fe80::1%eth0.",
      ),
    ),
    interface: optional(
      notYet(interfaceName("The neighbour at the other end of this interface, found by its link-local address (unnumbered).")),
    ),
    gateway: optional(
      oneOf(
        "The neighbours are the node's default gateways of this family, at most 8: all next hops of the default routes in the kernel's main table that podlane did not write itself. While there is none, those that were there last stay.",
        ["IPv4", "IPv6"],
      ),
    ),
    peerSelector: optional(selector("Nodes that are the neighbours, by their InternalIPs.")),
    ...inherited(),
  },
  {
    rules: [
      {
        rule: "(has(self.template) && self.template) != has(self.nodeSelector)",
        message: "nodeSelector is needed ({} selects all nodes), except on a template, which has none",
      },
      {
        rule: "[has(self.address), has(self.addressFrom), has(self.interface), has(self.gateway), has(self.peerSelector)].filter(x, x).size() == (has(self.template) && self.template ? 0 : 1)",
        message:
          "exactly one of address, addressFrom, interface, gateway and peerSelector says who the neighbour is; a template has none of them",
      },
      {
        rule: "!(has(self.asn) && has(self.type))",
        message: "asn and type exclude each other",
        fieldPath: ".type",
      },
      { rule: "!has(self.asnFrom) || !(has(self.asn) || has(self.type))", message: "excludes asn and type", fieldPath: ".asnFrom" },
      {
        rule: "has(self.asn) || has(self.asnFrom) || has(self.type) || has(self.from) || (has(self.template) && self.template)",
        message: "asn, asnFrom, or type External or Internal, is needed (or `from` a peer that has it)",
      },
      { rule: "!has(self.unset) || has(self.from)", message: "is for fields that are taken from `from`", fieldPath: ".unset" },
      { rule: "!(has(self.multihop) && has(self.ttlSecurity))", message: "excludes multihop", fieldPath: ".ttlSecurity" },
      {
        rule: "!has(self.shutdownMessage) || (has(self.shutdown) && self.shutdown)",
        message: "needs shutdown: true",
        fieldPath: ".shutdownMessage",
      },
      {
        rule: "!has(self.address) || !isIP(self.address) || !ip(self.address).isLinkLocalUnicast() || ip(self.address).family() == 4 || has(self.bindInterface)",
        message: "is needed for a link-local address",
        fieldPath: ".bindInterface",
      },
      {
        rule: "!has(self.address) || !has(self.localAddress) || !isIP(self.address) || !isIP(self.localAddress) || ip(self.address).family() == ip(self.localAddress).family()",
        message: "must be of the same family as address",
        fieldPath: ".localAddress",
      },
      {
        rule: "!has(self.gateway) || !has(self.localAddress) || !isIP(self.localAddress) || ip(self.localAddress).family() == (self.gateway == 'IPv4' ? 4 : 6)",
        message: "must be of the same family as the gateway",
        fieldPath: ".localAddress",
      },
      {
        rule: "!(has(self.routeReflectorClient) && self.routeReflectorClient && has(self.type) && self.type == 'External')",
        message: "is for internal peers",
        fieldPath: ".routeReflectorClient",
      },
    ],
  },
);

export const peerStatus = plainStatus({
  sessions: optional(text("Sessions that are established, of those that are wanted, in all nodes: 38/40.", 32)),
});
