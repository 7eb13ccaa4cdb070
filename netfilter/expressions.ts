/** Statements and expressions of libnftables-json(5) that several parts write. */
import type { Expression } from "./ruleset.ts";

export function payload(protocol: string, field: string): Expression {
  return { payload: { protocol, field } };
}

export function meta(key: string): Expression {
  return { meta: { key } };
}

/** `right`: a value, several of which one, or "@set". */
export function match(left: Expression, right: unknown, op: "==" | "!=" = "=="): Expression {
  return { match: { op, left, right: Array.isArray(right) ? { set: right } : right } };
}

export function goto(target: string): Expression {
  return { goto: { target } };
}

/** Counted by a named counter, which keeps its figures while rules change. */
export function countedDrop(counter: string): Expression[] {
  return [{ counter }, { drop: null }];
}
