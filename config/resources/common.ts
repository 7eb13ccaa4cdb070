/** Fields that several kinds share: addresses, prefixes, communities, selectors, timers, conditions. */
import type { TProperties } from "typebox";
import { Families } from "../../bgpd/family.ts";
import { type CelRule, integer, keyed, labels, list, object, oneOf, optional, set, text } from "./schema.ts";

export const GROUP = "podlane.io";
export const VERSION = "v1alpha1";
export const apiVersion = `${GROUP}/${VERSION}`;

const isAddress: CelRule = { rule: "isIP(self)", message: "must be an IPv4 or IPv6 address, such as 192.0.2.1 or 2001:db8::1" };
const isPrefix: CelRule = {
  rule: "isCIDR(self) && cidr(self) == cidr(self).masked()",
  message: "must be a prefix with no bits set beyond its length, such as 10.244.0.0/16 or 2001:db8::/32",
};
const isIPv4: CelRule = {
  rule: "isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",
  message: "must be a dotted quad other than 0.0.0.0, such as 10.0.0.1",
};

export const address = (description: string) => text(description, 45, { minLength: 2, rules: [isAddress] });
export const prefix = (description: string) => text(description, 49, { minLength: 4, rules: [isPrefix] });
/** BGP Identifier or CLUSTER_ID (RFC 6286, RFC 4456). */
export const dottedQuad = (description: string) => text(description, 15, { minLength: 7, rules: [isIPv4] });
/** An AS number that may stand in an AS path. */
export const asn = (description: string) => integer(`${description} 1..4294967295 (RFC 6793).`, 1, 4294967295);
/** That of a router: none has 0 (RFC 7607), AS_TRANS or one of the last numbers (RFC 7300). */
export const routerAsn = (description: string) =>
  integer(`${description} 1..4294967294 (RFC 6793) without 23456 and 65535.`, 1, 4294967295, {
    rules: [
      {
        rule: "self != 23456 && self != 65535 && self != 4294967295",
        message: "must not be 23456 (AS_TRANS, RFC 6793), 65535 or 4294967295 (RFC 7300): they are reserved, and no router has them",
      },
    ],
  });

const NAME_PATTERN = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/** The name of an object (DNS subdomain of RFC 1123). */
export const objectName = (description: string) => text(description, 253, { minLength: 1, pattern: NAME_PATTERN });
/** IFNAMSIZ: at most 15 octets, no "/", ":" or white space. */
export const interfaceName = (description: string) => text(description, 15, { minLength: 1, pattern: "^[^/:\\s]+$" });

export const family = (description: string) => oneOf(description, Families);

const WellKnownCommunities = ["no-export", "no-advertise", "no-export-subconfed", "nopeer", "blackhole", "graceful-shutdown"] as const;
const NUMBER16 = "(0|[1-9][0-9]{0,4})";
const NUMBER32 = "(0|[1-9][0-9]{0,9})";
const names = WellKnownCommunities.join("|");
const inRange = (parts: string, limit: number): CelRule => ({
  rule: `!self.contains(':') || self.split(':').all(part, part == '*' || int(part) <= ${limit})`,
  message: `each ${parts} is a number up to ${limit}`,
});
/** RFC 1997 community to set. */
export const community = () =>
  text(
    "ASN:VALUE, each 0..65535, or a well-known name (no-export, no-advertise, no-export-subconfed, nopeer, blackhole, graceful-shutdown).",
    20,
    {
      pattern: `^(${NUMBER16}:${NUMBER16}|${names})$`,
      rules: [inRange("part", 65535)],
    },
  );
/** RFC 1997 community to match: `*` for any value. */
export const communityPattern = () =>
  text("ASN:VALUE, ASN:* for any value, or a well-known name.", 20, {
    pattern: `^(${NUMBER16}:(${NUMBER16}|\\*)|${names})$`,
    rules: [inRange("part", 65535)],
  });
/** RFC 8092 large community to set. */
export const largeCommunity = () =>
  text("ASN:VALUE:VALUE, each 0..4294967295.", 32, {
    pattern: `^${NUMBER32}:${NUMBER32}:${NUMBER32}$`,
    rules: [inRange("part", 4294967295)],
  });
export const largeCommunityPattern = () =>
  text("ASN:VALUE:VALUE, each 0..4294967295 or * for any.", 32, {
    pattern: `^(${NUMBER32}|\\*):(${NUMBER32}|\\*):(${NUMBER32}|\\*)$`,
    rules: [inRange("part", 4294967295)],
  });

/** As Kubernetes has them: the API server refuses a list with any other. */
const LABEL_KEY = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";
const LABEL_VALUE = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

const expression = object(
  "One requirement on labels.",
  {
    key: text("Label key.", 317, { minLength: 1, pattern: LABEL_KEY }),
    operator: oneOf("In, NotIn: against `values`. Exists, DoesNotExist: of the key.", ["In", "NotIn", "Exists", "DoesNotExist"]),
    values: optional(list("For In and NotIn.", text("Label value.", 63, { pattern: LABEL_VALUE }), 16)),
  },
  {
    rules: [
      {
        rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
        message: "values is for In and NotIn, and only for these",
      },
    ],
  },
);

/** The label selector of Kubernetes: all requirements must hold; `{}` selects everything. */
export const selector = (description: string) =>
  object(`${description} \`{}\` selects all.`, {
    matchLabels: optional(labels("Labels that must be there with exactly these values.", 32, { pattern: LABEL_VALUE })),
    matchExpressions: optional(list("Requirements, all of which must hold.", expression, 16)),
  });

/** A value that each node says for itself. */
export const fromNode = (description: string) =>
  object(
    description,
    {
      label: optional(text("Key of a label of the node.", 317, { minLength: 1 })),
      annotation: optional(text("Key of an annotation of the node.", 317, { minLength: 1 })),
    },
    { rules: [{ rule: "has(self.label) != has(self.annotation)", message: "exactly one of label and annotation names the key" }] },
  );

export const timers = () =>
  object(
    "Session timers. Seconds.",
    {
      holdTime: optional(integer("Hold time offered (RFC 4271 section 4.2). 0 = no keepalives, else 3..65535. Default 90.", 0, 65535)),
      keepaliveTime: optional(integer("Time between keepalives. 0 (default) = a third of the negotiated hold time.", 0, 21845)),
      restartTime: optional(
        integer(
          "How long neighbours are asked to keep our routes while the agent is away (RFC 4724); they hear it when a session begins. 0 = not at all. Default: holdTime, at most 4095.",
          0,
          4095,
        ),
      ),
      connectRetryTime: optional(integer("Time between attempts to connect. 1..600, default 5.", 1, 600)),
      advertisementInterval: optional(
        integer("Least time between announcements of one prefix (MRAI, RFC 4271 section 9.2.1.1). 0..600, default 0.", 0, 600),
      ),
    },
    {
      rules: [
        {
          rule: "!has(self.holdTime) || self.holdTime == 0 || self.holdTime >= 3",
          message: "must be 0 or at least 3",
          fieldPath: ".holdTime",
        },
        {
          rule: "!has(self.holdTime) || !has(self.keepaliveTime) || self.holdTime == 0 || self.keepaliveTime < self.holdTime",
          message: "must be shorter than holdTime",
          fieldPath: ".keepaliveTime",
        },
      ],
    },
  );

export const passwordSecretRef = () =>
  object(
    "The Secret that holds the TCP MD5 key (RFC 2385), in the agent's own namespace. While it is missing, a session that never had a key stays shut down, and one that had keeps it, as the reference may be a slip of the pen: to take a key back, change it. Another key in it is taken over by the running session, which goes on if the neighbour changes its own within the hold time.",
    {
      name: objectName("Name of the Secret."),
      key: text("Key within the Secret.", 253, { minLength: 1, pattern: "^[-._a-zA-Z0-9]+$", default: "password" }),
    },
  );

/** Prefixes with a range of lengths, as PolicyMatch.prefixes of the speaker has them. */
export const prefixRange = () =>
  object(
    "A prefix and, with ge or le, those inside it of these lengths.",
    {
      prefix: prefix("The covering prefix."),
      ge: optional(integer("Shortest length that matches. Default: the length of `prefix`.", 0, 128)),
      le: optional(
        integer(
          "Longest length that matches. Default: that of the address family (32 or 128) if `ge` is given, else the length of `prefix`.",
          0,
          128,
        ),
      ),
    },
    {
      rules: [
        {
          rule: "!isCIDR(self.prefix) || !has(self.ge) || self.ge >= cidr(self.prefix).prefixLength()",
          message: "must not be shorter than the prefix",
          fieldPath: ".ge",
        },
        {
          rule: "!isCIDR(self.prefix) || !has(self.le) || self.le >= cidr(self.prefix).prefixLength()",
          message: "must not be shorter than the prefix",
          fieldPath: ".le",
        },
        { rule: "!has(self.ge) || !has(self.le) || self.ge <= self.le", message: "must not be less than ge", fieldPath: ".le" },
        {
          rule: "!isCIDR(self.prefix) || cidr(self.prefix).ip().family() == 6 || ((!has(self.ge) || self.ge <= 32) && (!has(self.le) || self.le <= 32))",
          message: "ge and le are at most 32 for IPv4",
        },
      ],
    },
  );

export const conditions = () =>
  keyed(
    "Latest observations. Positive polarity: True is well.",
    "type",
    object("One observation.", {
      type: text("CamelCase type.", 316, { minLength: 1 }),
      status: oneOf("True, False or Unknown.", ["True", "False", "Unknown"]),
      observedGeneration: optional(integer("metadata.generation the observation is about.", 0, Number.MAX_SAFE_INTEGER)),
      lastTransitionTime: text("When the status last changed. RFC 3339.", 40),
      reason: text("CamelCase reason for programs.", 1024, { minLength: 1 }),
      message: text("Sentence for people.", 32768),
    }),
    16,
  );

/** The status that the configuration kinds share, and what one of them has besides. */
export const plainStatus = <More extends TProperties>(more: More) =>
  object("Written by podlane.", {
    observedGeneration: optional(integer("metadata.generation that was last read.", 0, Number.MAX_SAFE_INTEGER)),
    conditions: optional(conditions()),
    ...more,
  });

export const communitySet = (description: string, item = community, maxItems = 32) => set(description, item(), maxItems);
