/** AddressPool: addresses that Services of type LoadBalancer get. AddressClaim: one that is given away. */
import { address, objectName, plainStatus, selector } from "./common.ts";
import { flag, integer, keyed, object, optional, set, text } from "./schema.ts";

/** No IPv4 or IPv6 address holds a "-". */
const range = text("A prefix such as 192.0.2.0/24, or the first and the last address: 192.0.2.10-192.0.2.20.", 91, {
  minLength: 4,
  rules: [
    {
      rule: "self.contains('-') ? self.split('-').size() == 2 && self.split('-').all(part, isIP(part)) : isCIDR(self) && cidr(self) == cidr(self).masked()",
      message:
        "must be a prefix with no bits set beyond its length, such as 192.0.2.0/24, or a range without spaces, such as 192.0.2.10-192.0.2.20",
    },
    {
      rule: "!self.contains('-') || self.split('-').size() != 2 || !self.split('-').all(part, isIP(part)) || ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()",
      message: "the first and the last address must be of one family",
    },
  ],
});

/** Of an annotation or a Service: the DNS name of a class. */
const className = text("As spec.loadBalancerClass of a Service has it.", 317, {
  minLength: 1,
  pattern: "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
});

export const addressPoolSpec = object("What is wanted.", {
  addresses: set("Ranges of either family. No other AddressPool may have an address of them.", range, 256, { minItems: 1 }),
  autoAssign: flag("Give addresses to Services that ask for none in particular. false: only by request.", true),
  avoidBuggyIPs: flag("Leave out IPv4 addresses that end in .0 or .255: some old equipment drops what comes from or goes to them.", false),
  priority: optional(
    integer(
      "Of several pools that fit a Service the one with the lowest number is used first, those without a number last. 1..2147483647.",
      1,
      2147483647,
    ),
  ),
  serviceSelector: optional(selector("The Services that may have an address, by their labels. Absent: all.")),
  namespaceSelector: optional(
    selector("The namespaces whose Services may, by their labels. Absent: all, or those that `namespaces` names."),
  ),
  namespaces: optional(
    set(
      "The namespaces whose Services may, by name; together with namespaceSelector: either suffices.",
      text("Name of a namespace.", 63, { minLength: 1, pattern: "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" }),
      256,
    ),
  ),
  loadBalancerClass: optional(className),
});

const count = (description: string) => integer(description, 0, Number.MAX_SAFE_INTEGER);
const usage = (family: string) =>
  optional(object(`${family} addresses.`, { used: count("Assigned."), free: count("Not assigned; at most 9007199254740991 is told.") }));

export const addressPoolStatus = plainStatus({ ipv4: usage("IPv4"), ipv6: usage("IPv6") });

/** Services that may share an address. */
export const MAX_SHARING = 256;

export const addressClaimSpec = object("Which address, and whose it is.", {
  address: address("The address. The claim has its name: 192.0.2.1, or all eight groups of an IPv6 address with - between them."),
  pool: objectName("The AddressPool that it was taken from."),
  services: keyed(
    "The Services that have it; several that share it. None: it is kept from being given away.",
    "uid",
    object("A Service.", {
      namespace: text("Its namespace.", 63, { minLength: 1 }),
      name: text("Its name.", 253, { minLength: 1 }),
      uid: text("Its uid.", 128, { minLength: 1 }),
      resourceVersion: optional(
        text(
          "The version of the Service to which the address was last to be written: while it has this version, somebody may be writing.",
          64,
        ),
      ),
    }),
    MAX_SHARING,
  ),
});
