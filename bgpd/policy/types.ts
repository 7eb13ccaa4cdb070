/** The one evaluator of import and export rules: its input and its answer. */
import type { Prefix } from "../../net/address.ts";
import type { RouteKind } from "../config.ts";
import type { PathAttributes } from "../message/types.ts";

export interface PolicyInput {
  prefix: Prefix;
  attributes: PathAttributes;
  /** The neighbour the route came from (import) or goes to (export). */
  neighbor: string;
  kind: RouteKind;
  /** The objects that announce it here; absent: it was learned. */
  sources?: readonly string[];
  /** What "self" means: our AS towards this neighbour and our address of the session. */
  self: { asn: number; address: Uint8Array };
}

export interface PolicyResult {
  accepted: boolean;
  /** The same object as the input when nothing changed. Never the input mutated. */
  attributes: PathAttributes;
  /** 'policy "from-tor", rule "deny-default"', or 'default: reject (RFC 8212)'. */
  decidedBy: string;
  /** The deciding rule; absent: the default decided. */
  rule?: DecidingRule;
  /** The deciding rule named the prefix in its match.prefixes: it may take over a protected prefix. */
  namedPrefix: boolean;
}

export interface DecidingRule {
  policy: string;
  /** Its name, or "rule N", from 1. */
  rule: string;
}

export interface TraceStep {
  policy: string;
  rule: string;
  matched: boolean;
  /** First condition that did not hold, or what was changed. */
  detail: string;
}

export interface CompiledPolicy {
  /** A result depends only on the attribute set (and neighbour): it may be cached per attribute id. */
  readonly usesPrefix: boolean;
  readonly usesKind: boolean;
  /** It looks at the sources, which only routes of our own have. */
  readonly usesSources: boolean;
  /** It looks at the neighbour's name, or at `self` ("self" as next hop or in prepend), which is the neighbour's too. */
  readonly usesNeighbor: boolean;
  /** No rule at all: the default decides, attributes are unchanged. */
  readonly trivial: "accept" | "reject" | undefined;
  evaluate(input: PolicyInput, trace?: TraceStep[]): PolicyResult;
}
