/**
 * The order of test files, for two workers on a machine without memory of former runs. Files that start a whole cluster come one after another, the longest
 * first, and beside each of them as many others as last about as long: two clusters at once would make both slow. The shortest files come last, so
 * that the workers end together. The figures only decide the order: a file that is not here, or has become longer, runs all the same.
 */
import { relative } from "node:path";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Seconds, by the beginning of a path. */
type Seconds = readonly (readonly [start: string, seconds: number])[];

const clusters: Seconds = [
  ["test/kubernetes/adversity.", 200],
  ["test/lab/topologies.", 140],
  ["test/kubernetes/services-traffic.", 70],
  ["test/kubernetes/pods.", 50],
  ["test/kubernetes/daemonset.", 50],
  ["test/kubernetes/cli-node.", 40],
];

/** The first that fits counts. */
const others: Seconds = [
  ["test/kubernetes/status.", 80],
  ["test/kubernetes/source.", 50],
  ["test/kubernetes/addresses.", 50],
  ["test/kubernetes/", 40],
  ["test/cni/attach.", 40],
  ["agent/agent.", 40],
  ["agent/mesh-change.", 30],
  ["agent/last-good.", 25],
  ["test/interop/session.", 25],
  ["test/", 12],
  ["agent/", 6],
  ["", 1],
];

/** Of paths below the project's folder, in some order that is kept among those that take equally long. */
export function longestFirst(paths: readonly string[]): string[] {
  const lanes = [clusters, others].map(table => ({
    used: 0,
    waiting: paths.flatMap(path => {
      const known = lengthOf(path, clusters);
      if ((known !== undefined) !== (table === clusters)) return [];
      return [{ path, seconds: known ?? lengthOf(path, others) ?? 0 }];
    }),
  }));
  for (const { waiting } of lanes) waiting.sort((a, b) => b.seconds - a.seconds);
  const order: string[] = [];
  while (order.length < paths.length) {
    const [lane] = lanes.filter(({ waiting }) => waiting.length > 0).sort((a, b) => a.used - b.used);
    const { path, seconds } = lane.waiting.shift()!;
    lane.used += seconds;
    order.push(path);
  }
  return order;
}

function lengthOf(path: string, table: Seconds): number | undefined {
  return table.find(([start]) => path.startsWith(start))?.[1];
}

export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const byPath = new Map((await super.sort(files)).map(file => [relative(this.ctx.config.root, file.moduleId), file]));
    return longestFirst([...byPath.keys()]).map(path => byPath.get(path)!);
  }
}
