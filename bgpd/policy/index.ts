/**
 * The one evaluator of import and export policy. Rules are asked in order over all named policies; the conditions of a rule are all
 * to hold; "accept" and "reject" end, "continue" applies its changes and goes on. What no rule decides, the default does (RFC 8212).
 */
import type { PolicyConfig, PolicyRule } from "../config.ts";
import type { Family } from "../family.ts";
import type { PathAttributes } from "../message/types.ts";
import { type Change, compileChanges } from "./changes.ts";
import { type Condition, compileMatch } from "./conditions.ts";
import type { CompiledPolicy, DecidingRule, PolicyInput, PolicyResult, TraceStep } from "./types.ts";
import { validatePolicy } from "./validate.ts";

export { compilePrefixList } from "./prefix-list.ts";
export type { CompiledPolicy, PolicyInput, PolicyResult, TraceStep } from "./types.ts";
export { type PolicyProblem, validatePolicy } from "./validate.ts";

export interface PolicyOptions {
  /** Asked in this order. */
  names: readonly string[];
  policies: Readonly<Record<string, PolicyConfig>>;
  /** What no rule decided; `text` becomes PolicyResult.decidedBy, as in "default: reject (RFC 8212)". */
  default: { action: "accept" | "reject"; text: string };
  /**
   * The family of all routes that will be asked about, where there is one. `match.families` and changes of the next hop then no longer
   * depend on the prefix, so that more results may be cached.
   */
  family?: Family;
}

/** A policy that cannot be compiled. The message names policy, rule, field and remedy. */
class PolicyError extends Error {
  override readonly name = "PolicyError";
}

/** Throws PolicyError for a name that is unknown and for a policy in which validatePolicy() finds a problem. */
export function compilePolicies(options: PolicyOptions): CompiledPolicy {
  const rules = options.names.flatMap(name => compileRules(name, options));
  const reached = rules.slice(0, rules.findIndex(rule => rule.conditions.length === 0 && rule.result !== "continue") + 1 || rules.length);
  const uses = (what: Condition["uses"]) => reached.some(rule => rule.conditions.some(condition => condition.uses === what));
  const changes = reached.flatMap(rule => rule.changes);
  const byDefault = options.default;
  return {
    usesPrefix: uses("prefix") || changes.some(change => change.usesFamily),
    usesKind: uses("kind"),
    usesSources: uses("sources"),
    usesNeighbor: uses("neighbor") || changes.some(change => change.usesSelf),
    trivial: rules.length === 0 ? byDefault.action : undefined,
    evaluate: (input, trace) => evaluate(reached, byDefault, input, trace),
  };
}

interface CompiledRule {
  policy: string;
  name: string;
  decidedBy: string;
  /** The same, for programs. */
  id: DecidingRule;
  conditions: Condition[];
  changes: Change[];
  result: "accept" | "reject" | "continue";
}

function compileRules(name: string, { policies, family }: PolicyOptions): CompiledRule[] {
  const policy = Object.hasOwn(policies, name) ? policies[name] : undefined;
  if (!policy) throw new PolicyError(`policy "${name}" does not exist; define it, or take its name out of the neighbour's list`);
  const [problem] = validatePolicy(policy);
  if (problem) {
    const rule = ruleName(policy.rules[problem.rule], problem.rule);
    throw new PolicyError(`policy "${name}", rule "${rule}", ${problem.field}: ${problem.message}; ${problem.remedy}`);
  }
  return policy.rules.map((rule, index) => ({
    policy: name,
    name: ruleName(rule, index),
    decidedBy: `policy "${name}", rule "${ruleName(rule, index)}"`,
    id: { policy: name, rule: ruleName(rule, index) },
    conditions: compileMatch(rule.match ?? {}, family),
    changes: compileChanges(rule.action, family),
    result: rule.action.result,
  }));
}

function ruleName(rule: PolicyRule, index: number): string {
  return rule.name ?? `rule ${index + 1}`;
}

function evaluate(
  rules: readonly CompiledRule[],
  byDefault: PolicyOptions["default"],
  input: PolicyInput,
  trace: TraceStep[] | undefined,
): PolicyResult {
  let attributes = input.attributes;
  for (const rule of rules) {
    const failed = firstFailed(rule.conditions, input, attributes);
    if (failed) {
      trace?.push({ policy: rule.policy, rule: rule.name, matched: false, detail: failed.explain(input, attributes) });
      continue;
    }
    const changed: string[] = [];
    if (rule.result !== "reject") attributes = applyChanges(rule.changes, input, attributes, trace && changed);
    trace?.push({ policy: rule.policy, rule: rule.name, matched: true, detail: [resultWords[rule.result], ...changed].join("; ") });
    if (rule.result === "continue") continue;
    const accepted = rule.result === "accept";
    const namedPrefix = rule.conditions.some(condition => condition.names?.(input));
    return { accepted, attributes: accepted ? attributes : input.attributes, decidedBy: rule.decidedBy, rule: rule.id, namedPrefix };
  }
  const accepted = byDefault.action === "accept";
  return { accepted, attributes: accepted ? attributes : input.attributes, decidedBy: byDefault.text, namedPrefix: false };
}

const resultWords = { accept: "accepted", reject: "rejected", continue: "goes on" } as const;

function firstFailed(conditions: readonly Condition[], input: PolicyInput, attributes: PathAttributes): Condition | undefined {
  for (const condition of conditions) if (!condition.holds(input, attributes)) return condition;
  return undefined;
}

function applyChanges(
  changes: readonly Change[],
  input: PolicyInput,
  attributes: PathAttributes,
  texts: string[] | undefined,
): PathAttributes {
  let current = attributes;
  for (const change of changes) {
    const before = current;
    current = change.apply(input, before);
    texts?.push(change.describe(before, current));
  }
  return current;
}
