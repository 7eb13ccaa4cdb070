/** Policy: ordered rules on routes, with examples that are run whenever the policy changes. */
import { Families } from "../../bgpd/family.ts";
import {
  address,
  asn,
  community,
  communityPattern,
  communitySet,
  family,
  largeCommunity,
  largeCommunityPattern,
  objectName,
  plainStatus,
  prefix,
  prefixRange,
} from "./common.ts";
import { flag, integer, keyed, list, object, oneOf, optional, set, text } from "./schema.ts";

export const RouteKindNames = ["pod", "service", "interface", "static", "aggregate", "learned"] as const;
export const OriginNames = ["igp", "egp", "incomplete"] as const;

const uint32 = (description: string) => integer(`${description} 0..4294967295.`, 0, 4294967295);
const range = (what: string) =>
  object(
    `${what} within these bounds.`,
    { min: optional(uint32("At least.")), max: optional(uint32("At most.")) },
    {
      rules: [
        { rule: "!has(self.min) || !has(self.max) || self.min <= self.max", message: "must not be less than min", fieldPath: ".max" },
      ],
    },
  );

const communityMatch = (item: typeof communityPattern) =>
  object("Communities on the route; each condition given must hold.", {
    any: optional(communitySet("At least one of these.", item)),
    all: optional(communitySet("All of these.", item)),
    none: optional(communitySet("None of these.", item)),
  });

const asPathMatch = object(
  "The AS path; each condition given must hold.",
  {
    contains: optional(set("Contains one of these AS numbers.", asn("AS number."), 64)),
    neighbor: optional(set("The neighbouring (first) AS is one of these.", asn("AS number."), 64)),
    origin: optional(set("The originating (last) AS is one of these.", asn("AS number."), 64)),
    minLength: optional(integer("At least so many ASes, 0..255.", 0, 255)),
    maxLength: optional(integer("At most so many ASes, 0..255.", 0, 255)),
    regex: optional(
      text("Regular expression over the AS numbers joined by one space; `_` is a boundary, as on routers: `^65001_`, `_65010$`.", 256, {
        minLength: 1,
      }),
    ),
  },
  {
    rules: [
      {
        rule: "!has(self.minLength) || !has(self.maxLength) || self.minLength <= self.maxLength",
        message: "must not be less than minLength",
        fieldPath: ".maxLength",
      },
    ],
  },
);

const match = object("Conditions, all of which must hold; within a list one suffices. Absent: every route.", {
  prefixes: optional(list("The prefix is one of these.", prefixRange(), 256)),
  families: optional(set("The address family is one of these.", family("Address family."), Families.length)),
  communities: optional(communityMatch(communityPattern)),
  largeCommunities: optional(communityMatch(largeCommunityPattern)),
  asPath: optional(asPathMatch),
  nextHops: optional(set("The next hop lies in one of these.", prefix("A prefix."), 64)),
  origins: optional(set("ORIGIN is one of these.", oneOf("ORIGIN.", OriginNames), 3)),
  peers: optional(set("The route comes from (import) or goes to (export) one of these Peers.", objectName("Name of a Peer."), 64)),
  nodes: optional(set("The route comes from or goes to the mesh session with one of these nodes.", objectName("Name of a Node."), 64)),
  kinds: optional(set("What the route stands for; learned = from a neighbour.", oneOf("Kind of route.", RouteKindNames), 6)),
  med: optional(range("MED")),
  localPref: optional(range("LOCAL_PREF")),
});

const changes = (item: typeof community, pattern: typeof communityPattern) =>
  object("Changes of communities: set replaces all, then remove, then add.", {
    set: optional(communitySet("Exactly these.", item)),
    add: optional(communitySet("These in addition.", item)),
    remove: optional(communitySet("Without these; * matches any value.", pattern)),
  });

const rule = object(
  "A rule.",
  {
    name: optional(text("For traces and problems. Default: its number.", 63, { minLength: 1 })),
    match: optional(match),
    result: oneOf("Accept, Reject, or Continue with the next rule (changes stay).", ["Accept", "Reject", "Continue"], {
      default: "Continue",
    }),
    set: optional(
      object("Attributes to set.", {
        localPref: optional(uint32("LOCAL_PREF.")),
        med: optional(uint32("MED.")),
        origin: optional(oneOf("ORIGIN.", OriginNames)),
        nextHop: optional(
          text("An address, or `self`: our address of the session (export).", 45, {
            minLength: 2,
            rules: [{ rule: "self == 'self' || isIP(self)", message: "must be an address or self" }],
          }),
        ),
      }),
    ),
    communities: optional(changes(community, communityPattern)),
    largeCommunities: optional(changes(largeCommunity, largeCommunityPattern)),
    prepend: optional(
      object(
        "Lengthen the AS path at its front.",
        {
          asn: optional(asn("This AS number. Default: see `as`.")),
          as: optional(oneOf("Self: our AS. Last: the path's first AS again.", ["Self", "Last"])),
          count: integer("How often, 1..16.", 1, 16, { default: 1 }),
        },
        { rules: [{ rule: "has(self.asn) != has(self.as)", message: "exactly one of asn and as" }] },
      ),
    ),
    removeMED: optional(flag("Take MED off.")),
  },
  {
    rules: [
      {
        rule: "self.result != 'Reject' || !(has(self.set) || has(self.communities) || has(self.largeCommunities) || has(self.prepend) || has(self.removeMED))",
        message: "a rule that rejects changes nothing: take the changes out",
      },
      {
        rule: "!(has(self.removeMED) && self.removeMED && has(self.set) && has(self.set.med))",
        message: "excludes set.med",
        fieldPath: ".removeMED",
      },
    ],
  },
);

const asPathText = (description: string) =>
  text(`${description} AS numbers joined by one space, the neighbour first; a set in braces: "65001 65002 {65010 65011}".`, 512, {
    pattern: "^$|^(\\{?[0-9]+\\}?)( \\{?[0-9]+\\}?)*$",
  });

const example = object("A route and what the policy must make of it.", {
  name: text("What the example shows.", 128, { minLength: 1 }),
  route: object("The route that goes in.", {
    prefix: prefix("Its prefix."),
    asPath: optional(asPathText("Its AS path. Default: empty.")),
    nextHop: optional(address("Its next hop. Default 192.0.2.1 or 2001:db8::1.")),
    origin: oneOf("ORIGIN.", OriginNames, { default: "igp" }),
    med: optional(uint32("MED.")),
    localPref: optional(uint32("LOCAL_PREF.")),
    communities: optional(communitySet("Communities.", community)),
    largeCommunities: optional(communitySet("Large communities.", largeCommunity)),
    peer: optional(objectName("The Peer it comes from or goes to.")),
    kind: oneOf("What it stands for.", RouteKindNames, { default: "learned" }),
  }),
  expect: object("What must come out. Attributes not named here are not looked at.", {
    result: oneOf("Accept, Reject, or None: no rule decides.", ["Accept", "Reject", "None"]),
    asPath: optional(asPathText("AS path afterwards.")),
    nextHop: optional(address("Next hop afterwards.")),
    med: optional(uint32("MED afterwards.")),
    localPref: optional(uint32("LOCAL_PREF afterwards.")),
    communities: optional(communitySet("Exactly these communities.", community)),
    largeCommunities: optional(communitySet("Exactly these large communities.", largeCommunity)),
  }),
});

export const policySpec = object("What is wanted.", {
  rules: list("Asked in order until one accepts or rejects.", rule, 128, { minItems: 1 }),
  examples: optional(keyed("Checked whenever the policy is read; a failing one is a problem.", "name", example, 64)),
});

export const policyStatus = plainStatus({});
