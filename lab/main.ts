/** `npm run lab`: the command line. What the lab does stands in engine/, what it shows in show/; here words become calls. */
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync } from "node:fs";
import { constants } from "node:os";
import { Command, CommanderError } from "@commander-js/extra-typings";
import { duration, paintFor, plain } from "../cli/render/paint.ts";
import { table, width } from "../cli/render/table.ts";
import { UnmetError } from "./check.ts";
import { down, Lab, type Progress, populationOf, silentProgress, up } from "./engine/lab.ts";
import { neighbourTableAdvice, neighbourTableFulls } from "./engine/neighbours.ts";
import { RouterKinds } from "./engine/router-kinds.ts";
import { busyWith, labFolder, listStates, readState } from "./engine/state.ts";
import { CommandError, inNamespace, listNamespaces } from "./engine/system.ts";
import { toolFolder } from "./engine/tools.ts";
import { awaitChecks, awaitMatrix, type Inspection, inspect, pictureOfLab, writeSvg } from "./inspect.ts";
import { runningLab, shippedTopologies, topologyFile } from "./names.ts";
import { runScenario, type ScenarioResult } from "./scenario.ts";
import { formatTime, terminalProgress } from "./show/progress.ts";
import { renderHops, renderMatrix, renderPaths, renderScenario, renderSessions } from "./show/report.ts";
import { drawTerminal } from "./show/terminal.ts";
import { loadTopology, TopologyError } from "./topology/load.ts";
import { labId } from "./topology/plan.ts";

const paint = paintFor(process.stdout, process.env);
const paintErrors = paintFor(process.stderr, process.env);
const buildFolder = new URL("../build/lab", import.meta.url).pathname;
/** Columns of a drawing where the output is no terminal. */
const WIDEST = 240;
const print = (lines: string | string[]) => process.stdout.write(`${typeof lines === "string" ? lines : lines.join("\n")}\n`);
const heading = (text: string) => print(`\n${paint("strong", text)}`);

/** Exit code after a signal, as shells have it. */
let interrupted: number | undefined;

/** Said before with all there is to say: only the exit code is left. */
class Failed extends Error {}

interface UpFlags {
  once?: boolean;
  chaos?: boolean;
  instance?: string;
  json?: boolean;
}

async function runUp(word: string, flags: UpFlags): Promise<void> {
  needRoot();
  const file = topologyFile(word);
  const topology = loadTopology(file);
  const id = labId(topology.name, flags.instance);
  const progress = flags.json ? silentProgress : terminalProgress(process.stdout, paint);
  const abort = abortOnSignals();
  const begin = performance.now();
  const fulls = neighbourTableFulls();
  if (!flags.json) print(`${paint("strong", topology.title)}  ${paint("dim", `(lab ${id})`)}`);
  const { lab, action, reason } = await up(topology, { instance: flags.instance, file, progress, abort });
  if (!flags.json && action !== "built") print(`  the lab was ${action}${reason ? `: ${reason}` : ""}`);
  try {
    await runChecks(lab, topology.title, begin, flags, progress, abort);
  } catch (error) {
    for (const advice of neighbourTableAdvice(fulls)) process.stderr.write(`${paintErrors("warn", "lab:")} ${advice}\n`);
    if (flags.once) keepLogs(lab);
    if (flags.once || abort.aborted) await progress.step("remove the lab", () => down(id));
    throw error;
  }
  if (flags.once) await progress.step("remove the lab", () => down(id));
  else if (!flags.json) printHints(lab);
}

async function runChecks(lab: Lab, title: string, begin: number, flags: UpFlags, progress: Progress, abort: AbortSignal): Promise<void> {
  await awaitChecks(lab, progress, abort);
  const wanted = lab.plan.topology.checks?.pods === "all";
  const matrix = wanted ? await progress.step("every pod to every pod", () => awaitMatrix(lab, abort)) : [];
  const inspection = await inspect(lab, matrix);
  const svg = writeSvg(lab, buildFolder);
  if (!flags.json) {
    printDrawing(lab, title);
    printInspection(inspection);
    print(`\n  drawing: ${svg}`);
    print(`  up in ${formatTime(performance.now() - begin)}`);
  }
  const scenarios: ScenarioResult[] = [];
  for (const scenario of flags.chaos ? (lab.plan.topology.scenarios ?? []) : []) {
    abort.throwIfAborted();
    if (!flags.json) heading(scenario.name);
    const result = await runScenario(lab, scenario, progress, abort);
    scenarios.push(result);
    if (!flags.json) print(renderScenario(result, paint));
  }
  if (flags.json) print(JSON.stringify({ ...inspection, svg, scenarios }, null, 2));
  const failed = matrix.some(cell => cell.problem !== undefined) || scenarios.some(scenario => scenario.problems.length > 0);
  if (failed || inspection.problems.length > 0) throw new Failed();
}

function printDrawing(lab: Lab, title: string): void {
  heading(title);
  const room = (process.stdout.columns ?? WIDEST) - 2;
  const picture = pictureOfLab(lab);
  const needed = Math.max(...drawTerminal(picture, plain, room).map(width));
  if (needed > room) print(`  the drawing needs ${needed + 2} columns, there are ${room + 2}: see the one in the file`);
  else print(["", ...drawTerminal(picture, paint, room).map(line => `  ${line}`.trimEnd())]);
}

function printInspection(inspection: Inspection): void {
  heading("Sessions");
  print(renderSessions(inspection.sessions, paint));
  if (inspection.learned.length > 0) heading("Learned");
  for (const { machine, paths } of inspection.learned) print(renderPaths(machine, paths, paint));
  if (inspection.matrix.length > 0) {
    heading("Ping matrix");
    print(renderMatrix(inspection.matrix, paint));
  }
  for (const { from, to, address, hops } of inspection.way) {
    heading(`The way of a packet from ${from} to ${to}, ${address}`);
    print(renderHops(hops, paint));
  }
  for (const problem of inspection.problems) print(`  ${paint("bad", `✘ ${problem}`)}`);
}

function printHints(lab: Lab): void {
  const kinds = new Set<string>(["node"]);
  // One of each kind.
  const routers = lab.plan.machines.filter(machine => !kinds.has(machine.kind) && kinds.add(machine.kind));
  const node = lab.plan.machines.find(machine => machine.kind === "node");
  const [pod] = lab.plan.pods;
  const lab_ = listStates().length > 1 ? `--lab ${lab.id} ` : "";
  const commands = [
    ...(node === undefined ? [] : [`exec ${lab_}${node.name} podlane peers`]),
    ...routers.flatMap(({ name, kind }) => (kind === "node" ? [] : [`exec ${lab_}${name} ${RouterKinds[kind].example}`])),
    ...(pod === undefined ? [] : [`exec ${lab_}${pod.name} ip route`]),
    `status ${lab.id}`,
    `down ${lab.id}`,
  ];
  heading("The lab stays up");
  print(commands.map(command => `  npm run lab -- ${command}`));
  print(`  files and logs: ${lab.folder}`);
}

/** A failed run with --once removes the lab; its logs stay for whoever wants to know why. */
function keepLogs(lab: Lab): void {
  const target = `${buildFolder}/${lab.id}-logs`;
  for (const machine of lab.plan.machines) {
    mkdirSync(target, { recursive: true });
    const source = `${lab.folder}/${machine.name}`;
    for (const name of readdirSync(source).filter(each => each === "log")) cpSync(`${source}/${name}`, `${target}/${machine.name}.log`);
  }
  process.stderr.write(`logs kept in ${target}\n`);
}

async function runDown(name: string | undefined, flags: { all?: boolean }): Promise<void> {
  needRoot();
  const crashed = name !== undefined && listNamespaces(`lab-${name}-`).length > 0;
  const ids = flags.all ? listStates() : [crashed ? name : runningLab(name)];
  for (const id of ids) {
    const begin = performance.now();
    const removed = await down(id);
    print(`lab ${id} removed: ${removed} namespaces and all that ran in them  ${paint("dim", formatTime(performance.now() - begin))}`);
  }
  if (ids.length === 0) print("no lab is there");
}

function runList(flags: { json?: boolean }): void {
  const running = listStates().map(id => {
    const state = readState(id);
    const phase = state === undefined ? "broken" : state.phase !== "up" && !busyWith(state) ? `crashed while ${state.phase}` : state.phase;
    return { id, phase, title: state?.topology.title ?? "", created: state?.created ?? "", file: state?.file ?? "", ...populationOf(id) };
  });
  const topologies = shippedTopologies();
  if (flags.json) {
    print(JSON.stringify({ running, topologies }, null, 2));
    return;
  }
  heading("Topologies");
  print(
    table(
      topologies,
      [
        { title: "NAME", text: each => each.name, tone: () => "strong" },
        { title: "TITLE", text: each => each.title },
      ],
      paint,
      "  ",
    ),
  );
  heading("Labs");
  if (running.length === 0) {
    print("  none");
    return;
  }
  print(
    table(
      running,
      [
        { title: "NAME", text: each => each.id, tone: () => "strong" },
        { title: "STATE", text: each => each.phase, tone: each => (each.phase === "up" ? "good" : "warn") },
        { title: "NAMESPACES", align: "right", text: each => String(each.namespaces) },
        { title: "PROCESSES", align: "right", text: each => String(each.processes) },
        { title: "FOR", text: each => (each.created === "" ? "" : duration(Date.now() - Date.parse(each.created))) },
        { title: "FILE", text: each => each.file },
      ],
      paint,
      "  ",
    ),
  );
}

function openLab(name?: string): Lab {
  const id = runningLab(name);
  const state = readState(id);
  if (state === undefined) throw new Error(`nothing readable is left of lab ${id} in ${labFolder(id)}: npm run lab -- down ${id}`);
  return new Lab(state);
}

async function runStatus(name: string | undefined, flags: { json?: boolean }): Promise<void> {
  needRoot();
  const lab = openLab(name);
  const inspection = await inspect(lab);
  if (flags.json) print(JSON.stringify(inspection, null, 2));
  else {
    printDrawing(lab, lab.plan.topology.title);
    printInspection(inspection);
  }
  if (inspection.problems.length > 0 || inspection.matrix.some(cell => cell.problem !== undefined)) throw new Failed();
}

async function runExec(machine: string, words: string[], flags: { lab?: string }): Promise<void> {
  needRoot();
  const lab = openLab(flags.lab);
  const [command, args] = inNamespace(lab.namespace(machine), words[0], words.slice(1));
  const path = `${toolFolder(lab.folder, machine)}:${process.env.PATH}`;
  const child = spawn(command, args, { stdio: "inherit", env: { ...process.env, PATH: path, LAB: lab.id, LAB_MACHINE: machine } });
  // The terminal sends Ctrl-C to the child as well; it decides.
  process.on("SIGINT", () => {});
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, name) => resolve(code ?? 128 + (name === null ? 0 : constants.signals[name])));
  });
}

function needRoot(): void {
  if (process.platform !== "linux") throw new Error(`the lab is made of Linux network namespaces; this is ${process.platform}`);
  if (process.getuid?.() !== 0) throw new Error("the lab makes network namespaces and needs root: sudo npm run lab");
}

/** The first Ctrl-C aborts, so that all is removed in order; more of them change nothing. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => {
      interrupted = 128 + constants.signals[name];
      if (controller.signal.aborted) return;
      process.stderr.write(`\n${name}: removing the lab\n`);
      controller.abort(new Error(`interrupted by ${name}`));
    });
  }
  return controller.signal;
}

function program(): Command {
  const root = new Command("npm run lab --")
    .usage("[TOPOLOGY] [options] | COMMAND …")
    .description("Topologies of real network namespaces with podlane, FRR and BIRD, or a Kubernetes. See docs/lab.md.")
    .enablePositionalOptions()
    .exitOverride()
    .showHelpAfterError("(--help shows examples)")
    .addHelpText(
      "after",
      `
Examples:
  npm run lab                              build the rack and show it
  npm run lab -- mesh                      another shipped topology
  npm run lab -- my/topology.yaml          one of your own
  npm run lab -- rack --chaos --once       with all scenarios, removed at the end
  npm run lab -- exec node1 podlane peers  a command in a node, router or pod
  npm run lab -- exec tor-a vtysh -c 'show bgp summary'
  npm run lab -- list                      what is shipped and what runs
  npm run lab -- down                      take it away`,
    );
  root
    .command("up", { isDefault: true })
    .description("build a topology, check it, show it (the default)")
    .argument("[topology]", "a shipped name or a YAML file", "rack")
    .option("--chaos", "run the scenarios of the topology too")
    .option("--once", "remove the lab at the end; the exit code says whether all checks held")
    .option("--instance <word>", "run beside another lab of the same topology")
    .option("--json", "print the result as JSON")
    .action(runUp);
  root.command("down").description("remove a lab").argument("[name]").option("--all", "all labs").action(runDown);
  root
    .command("exec")
    .description("run a command in a node, router or pod")
    .argument("<machine>")
    .argument("<command...>")
    .option("--lab <name>", "which lab, when several run")
    .passThroughOptions()
    .addHelpText(
      "after",
      `
Examples:
  npm run lab -- exec node1 podlane explain 10.244.2.0/24
  npm run lab -- exec tor-a vtysh -c 'show bgp summary'
  npm run lab -- exec --lab mesh node1-1 ping -c 3 10.244.2.2`,
    )
    .action(runExec);
  root.command("list").description("shipped topologies and labs that run").option("--json", "print JSON").action(runList);
  root
    .command("status")
    .description("sessions, routes, pings and the drawing of a lab")
    .argument("[name]")
    .option("--json", "print JSON")
    .action(runStatus);
  return root;
}

try {
  await program().parseAsync(process.argv);
} catch (error) {
  process.exitCode = interrupted ?? 1;
  if (error instanceof CommanderError) process.exitCode = error.exitCode;
  else if (!(error instanceof Failed)) {
    const known = error instanceof TopologyError || error instanceof UnmetError || error instanceof CommandError;
    const text = error instanceof Error ? (known || !process.env.DEBUG ? error.message : error.stack) : String(error);
    process.stderr.write(`${paintErrors("bad", "lab:")} ${text}\n`);
  }
}
