/** What `podlane validate` found: a fault that shows on many nodes, or on each node in its own name, is told once. */
import type { NodesProblem } from "../../agent/offline.ts";
import type { Paint } from "./paint.ts";
import { renderProblems } from "./status.ts";
import { compareNames } from "./table.ts";

/** Names that are written out before "and N more". */
const NAMED = 5;

/** `nodes`: all that were checked. */
export function renderValidation(problems: readonly NodesProblem[], nodes: readonly string[], paint: Paint): string {
  const groups = Map.groupBy(problems, problem => JSON.stringify(withoutName(problem)));
  const told = [...groups.values()].map(group => {
    const concerned = [...new Set(group.flatMap(nodesOf))].sort(compareNames);
    const first = group.find(problem => nodesOf(problem).includes(concerned[0])) ?? group[0];
    const { nodes: _, ...problem } = first;
    return concerned.length > 0 ? { ...problem, message: `${problem.message} (${onNodes(concerned, nodes)})` } : problem;
  });
  return renderProblems(told, paint);
}

/** A fault of a Node object shows in the plan of every node, and is that node's. */
function nodesOf({ object, nodes = [] }: NodesProblem): string[] {
  return object.startsWith("Node/") ? [object.slice("Node/".length)] : nodes;
}

/** Two problems that differ in nothing but the one node that each is of are one. */
function withoutName(problem: NodesProblem): object {
  const { nodes: _, place: __, ...rest } = problem;
  const names = nodesOf(problem);
  if (names.length !== 1) return rest;
  return Object.fromEntries(Object.entries(rest).map(([field, value]) => [field, String(value).replaceAll(names[0], "\0")]));
}

/** "on node n1", "on all 3 nodes", "on 9 nodes: n1, n2, n3, n4, n5 and 4 more". */
export function onNodes(concerned: readonly string[], all: readonly string[]): string {
  if (concerned.length === all.length) return all.length === 1 ? `on node ${all[0]}` : `on all ${all.length} nodes`;
  const more = concerned.length - NAMED;
  const names = concerned.slice(0, more > 1 ? NAMED : concerned.length).join(", ");
  return concerned.length === 1 ? `on node ${names}` : `on ${concerned.length} nodes: ${names}${more > 1 ? ` and ${more} more` : ""}`;
}
