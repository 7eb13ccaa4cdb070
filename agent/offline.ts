/** What the objects of a directory come to, without an agent: for `podlane plan --config` and `podlane validate`. */
import { plannedExports } from "../bgpd/planned-exports.ts";
import { compile, compileCluster, compileNode } from "../config/compile.ts";
import { formatProblem, type NodePlan, type Problem, underCauses } from "../config/plan.ts";
import type { Resources } from "../config/resources/kinds.ts";
import { DirectorySource } from "../config/sources/directory.ts";
import type { PolicyFeed } from "../config/sources/policy-feed.ts";
import type { PlanView } from "./api/views.ts";
import { withoutSecrets } from "./secrets.ts";

/** node2 before node10. */
const byNumber = new Intl.Collator("en", { numeric: true });

/** The kernel's addresses are not asked for: this may be another machine. Rejects in words when the directory cannot be read. */
export async function planOffline(directory: string, node: string): Promise<PlanView> {
  const { resources, problems } = await readDirectory(directory);
  const plan = compile(resources, { name: node, addresses: [] });
  return planView({ ...plan, problems: underCauses(problems, plan.problems) });
}

/** A plan as it is shown: without passwords, and with what it announces to whom. */
export function planView(plan: NodePlan): PlanView {
  return { ...withoutSecrets(plan), announcements: plan.speaker ? plannedExports(plan.speaker) : [] };
}

export interface Validation {
  nodes: string[];
  /** How many objects could be read. */
  objects: number;
  problems: NodesProblem[];
}

/** Each once, though it may show on many nodes. */
export interface NodesProblem extends Problem {
  /** The nodes whose plan has it; absent where it is one of reading the objects. */
  nodes?: string[];
}

export async function validateOffline(directory: string): Promise<Validation> {
  const { resources, problems, objects } = await readDirectory(directory);
  const nodes = [...resources.nodes.keys()].sort(byNumber.compare);
  if (nodes.length === 0) {
    const message = "there is no Node object: what the objects mean for a node could not be checked";
    problems.push({ severity: "warning", reason: "NoNodes", object: directory, field: "", message, remedy: "add the Node objects" });
  }
  const found = new Map<string, NodesProblem>(problems.map(one => [formatProblem(one), one]));
  const cluster = compileCluster(resources);
  for (const name of nodes) {
    for (const one of compileNode(cluster, { name, addresses: [] }).plan.problems) {
      const known = found.get(formatProblem(one));
      if (known) known.nodes?.push(name);
      else found.set(formatProblem(one), { ...one, nodes: [name] });
    }
  }
  return { nodes, objects, problems: [...found.values()] };
}

/** `objects`: how many could be read. */
export async function readDirectory(
  directory: string,
): Promise<{ resources: Resources; problems: Problem[]; objects: number; policies: PolicyFeed }> {
  const source = new DirectorySource(directory, { interval: 0 });
  let read: { resources: Resources; problems: Problem[] } | undefined;
  try {
    await source.start((resources, problems) => {
      read = { resources, problems: [...problems] };
    });
  } finally {
    await source.close();
  }
  if (!read) throw new Error(`the configuration directory ${directory} could not be read`);
  return { ...read, objects: source.objects, policies: source.policies };
}
