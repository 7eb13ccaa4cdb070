/** Looking at a lab: whether its checks hold, and everything that is worth showing of it. Demonstration, tests and --json use the same. */
import { mkdirSync, writeFileSync } from "node:fs";
import { awaitCondition } from "./check.ts";
import { controlOf, silentPods } from "./engine/cluster.ts";
import type { Lab, Progress } from "./engine/lab.ts";
import type { PathView, SessionView } from "./engine/router-types.ts";
import { until } from "./engine/system.ts";
import { describeCarried, watchCarriage } from "./probe/carriage.ts";
import { describeEnding, type Ending, judgeEnding, traceEnding } from "./probe/death.ts";
import { type Cell, pingMatrix, pingOnce } from "./probe/matrix.ts";
import { type Hop, tracePath } from "./probe/path.ts";
import { type Answers, askService, judgeAnswers } from "./probe/reach.ts";
import { type Picture, pictureOf } from "./show/picture.ts";
import { drawSvg } from "./show/svg.ts";
import { isRouter } from "./topology/plan.ts";
import type { Carriage, Death, Reach } from "./topology/schema.ts";

export interface Inspection {
  lab: string;
  title: string;
  sessions: SessionView[];
  matrix: Cell[];
  learned: { machine: string; paths: PathView[] }[];
  way: { from: string; to: string; address: string; hops: Hop[] }[];
  /** Machines that could not be asked, and why. */
  problems: string[];
}

/** Seconds. */
const DEFAULT_BOUND = 60;

/** Waits for the checks of the topology. Throws UnmetError, naming what is missing. */
export async function awaitChecks(lab: Lab, progress: Progress, abort?: AbortSignal): Promise<void> {
  const { checks } = lab.plan.topology;
  if (checks === undefined) return;
  const { pods: _pods, ping = [], reach = [], dies = [], carried = [], within = DEFAULT_BOUND, ...condition } = checks;
  if (Object.keys(condition).length > 0) {
    await progress.step(`${Object.keys(condition).join(", ")} as the topology says`, async () => {
      await awaitCondition(lab, condition, within, { abort });
    });
  }
  for (const { from, to } of ping) {
    await progress.step(`${from} reaches ${to}`, async detail => {
      let time: number | undefined;
      const reached = await until(
        async () => {
          time = await pingOnce(lab.namespace(from), to);
          return time !== undefined;
        },
        within * 1000,
        200,
        abort,
      );
      if (!reached) throw new Error(`${from} does not reach ${to} within ${within} s`);
      detail(`${time} ms`);
    });
  }
  if (controlOf(lab.plan)) await awaitDeployment(lab, progress, within, abort);
  for (const each of reach) await awaitReach(lab, each, progress, within, abort);
  for (const each of dies) await awaitEnding(lab, each, progress, within, abort);
  for (const each of carried) await awaitCarriage(lab, each, progress, within, abort);
}

async function awaitReach(lab: Lab, wanted: Reach, progress: Progress, within: number, abort?: AbortSignal): Promise<void> {
  const { from, to, port = 80 } = wanted;
  await progress.step(`${from.join(", ")} ask ${to.join(", ")}`, async detail => {
    let answers: Answers[] = [];
    const wrong = () => answers.flatMap(each => judgeAnswers(each, wanted));
    const all = async () => {
      const pairs = from.flatMap(name => to.map(address => askService(lab, name, address, port)));
      answers = await Promise.all(pairs);
      return wrong().length === 0;
    };
    if (!(await until(all, within * 1000, 200, abort))) throw new Error(`after ${within} s still:\n${wrong().join("\n")}`);
    const others = new Set(answers.flatMap(each => each.seen)).size;
    const seen = wanted.sees === "own" ? "the asker's own address" : `${others} addresses, none of them the asker's own`;
    detail(`${wanted.by.join(", ")} answer, and see ${seen}`);
  });
}

async function awaitEnding(lab: Lab, wanted: Death, progress: Progress, within: number, abort?: AbortSignal): Promise<void> {
  const { from, to, port, at, hops } = wanted;
  const where = `${at.join(" or ")}, hop ${hops}`;
  await progress.step(`packets of ${from.join(", ")} to ${to.join(", ")}${port ? `, port ${port},` : ""} end at ${where}`, async detail => {
    const told: string[] = [];
    for (const name of from) {
      let endings: Ending[] = [];
      const wrong = () => endings.flatMap(each => judgeEnding(each, wanted));
      const ends = async () => {
        endings = await Promise.all(to.map(address => traceEnding(lab, name, address, port)));
        return wrong().length === 0;
      };
      const well = await until(ends, within * 1000, 200, abort);
      told.push(...endings.map(describeEnding));
      if (!well) throw new Error(`after ${within} s still:\n${[...wrong(), ...told].join("\n")}`);
    }
    detail([...new Set(told)].join("; "));
  });
}

async function awaitCarriage(lab: Lab, wanted: Carriage, progress: Progress, within: number, abort?: AbortSignal): Promise<void> {
  const { from, to, as } = wanted;
  await progress.step(`${from} reaches ${to.join(", ")} ${as === "plain" ? "by plain packets" : "through VXLAN"}`, async detail => {
    detail(describeCarried(await watchCarriage(lab, wanted, within, abort)));
  });
}

/** Every cell of the matrix when the topology asks for it, else none. */
async function checkMatrix(lab: Lab): Promise<Cell[]> {
  return lab.plan.topology.checks?.pods === "all" ? pingMatrix(lab) : [];
}

/** The same; what fails is tried again as long as checks may take: sessions stand a moment before the last route is in. */
export async function awaitMatrix(lab: Lab, abort?: AbortSignal): Promise<Cell[]> {
  let cells = await checkMatrix(lab);
  const again = async () => {
    const bad = cells.filter(cell => cell.problem !== undefined);
    if (bad.length === 0) return true;
    const fresh = new Map((await pingMatrix(lab, bad)).map(cell => [`${cell.from} ${cell.address}`, cell]));
    cells = cells.map(cell => fresh.get(`${cell.from} ${cell.address}`) ?? cell);
    return false;
  };
  await until(again, (lab.plan.topology.checks?.within ?? DEFAULT_BOUND) * 1000, 200, abort);
  return cells;
}

/** Of a cluster's lab: nodes and routers reach every pod of the Deployment. */
async function awaitDeployment(lab: Lab, progress: Progress, within: number, abort?: AbortSignal): Promise<void> {
  await progress.step("the Deployment, asked by nodes and routers", async detail => {
    let silent: string[] = [];
    const all = async () => {
      silent = await silentPods(lab.plan, pod => lab.podAddresses(pod));
      return silent.length === 0;
    };
    if (!(await until(all, within * 1000, 200, abort))) throw new Error(silent.join("; "));
    detail(`${lab.plan.pods.length} pods`);
  });
}

export async function inspect(lab: Lab, matrix?: Cell[]): Promise<Inspection> {
  const problems: string[] = [];
  const asked = async <Value>(machine: string, work: Promise<Value[]>): Promise<Value[]> => {
    try {
      return await work;
    } catch (error) {
      problems.push(`${machine} cannot be asked: ${(error as Error).message}`);
      return [];
    }
  };
  const { machines, pods } = lab.plan;
  const sessions = await Promise.all(machines.map(machine => asked(machine.name, lab.sessions(machine))));
  const routers = machines.filter(isRouter);
  const shown = routers.length > 0 ? routers : machines.slice(0, 1);
  const learned = await Promise.all(
    shown.map(async machine => ({ machine: machine.name, paths: await asked(machine.name, lab.paths(machine)) })),
  );
  const [from] = pods;
  const to = pods.find(pod => pod.node !== from?.node);
  const way: Inspection["way"] = [];
  for (const { address } of from && to ? lab.addressPairs(from.name, to.name) : []) {
    way.push({ from: from.name, to: to?.name ?? "", address, hops: await tracePath(lab, from.name, to?.name ?? "", address) });
  }
  return {
    lab: lab.id,
    title: lab.plan.topology.title,
    sessions: sessions.flat(),
    matrix: matrix ?? (await checkMatrix(lab)),
    learned,
    way,
    problems,
  };
}

export function pictureOfLab(lab: Lab): Picture {
  return pictureOf(lab.plan, Object.fromEntries(lab.plan.pods.map(({ name }) => [name, lab.podAddresses(name)])));
}

/** Writes the drawing; returns the file. */
export function writeSvg(lab: Lab, folder: string): string {
  mkdirSync(folder, { recursive: true });
  const file = `${folder}/${lab.id}.svg`;
  writeFileSync(file, drawSvg(pictureOfLab(lab)));
  return file;
}
