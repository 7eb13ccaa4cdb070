/** What each command of `podlane` does: asks the agent and prints a table, or the answer as it came with --json. */
import { release } from "node:os";
import { isAbsolute, resolve } from "node:path";
import type {
  AttachmentsView,
  ConnectionView,
  EventView,
  ExplainView,
  PeersView,
  PlanView,
  PoliciesView,
  ProblemsView,
  ReloadView,
  RoutesView,
  StatusView,
} from "../agent/api/views.ts";
import type { RunningAgent, UninstallOptions } from "../agent/uninstall.ts";
import { version as ownVersion } from "../agent/version.ts";
import type { InstallReport } from "../cni/plugin/install.ts";
import type { ApiOptions } from "./api-access.ts";
import { AgentClient } from "./client.ts";
import { readConnection } from "./connection.ts";
import { CliError } from "./error.ts";
import { renderVersions } from "./render/cluster.ts";
import { renderConnection, renderPolicies } from "./render/connection.ts";
import { renderExplanation } from "./render/explain.ts";
import { count, printable } from "./render/paint.ts";
import { renderPeer, renderPeers } from "./render/peers.ts";
import { renderPlan } from "./render/plan.ts";
import { renderPods } from "./render/pods.ts";
import { renderRoutes } from "./render/routes.ts";
import { renderProblems, renderStatus } from "./render/status.ts";
import { renderUninstall } from "./render/uninstall.ts";
import { renderValidation } from "./render/validation.ts";
import type { Terminal } from "./terminal.ts";

const NAME_THE_NODE = "name the node whose agent is to be asked";

interface Options {
  socket: string;
  json?: boolean;
}

/** Of the commands that can ask the agent of another node. */
interface AskOptions extends Options, ApiOptions {
  node?: string;
  namespace?: string;
}

export async function peers(options: AskOptions, terminal: Terminal): Promise<void> {
  const view = await (await agent(options)).get<PeersView>("/v1/peers");
  show(view, options, terminal, () => renderPeers(view.peers, terminal.now(), terminal.paint));
}

export async function peer(name: string, options: AskOptions & { refresh?: string; reset?: string }, terminal: Terminal): Promise<void> {
  const client = await agent(options);
  const path = `/v1/peers/${encodeURIComponent(name)}`;
  if (options.refresh) {
    await client.post(`${path}/refresh`, { direction: options.refresh });
    const text = options.refresh === "in" ? `asked ${name} for its routes` : `sending ${name} our routes again`;
    return show({ refreshed: name }, options, terminal, () => `${printable(text)}\n`);
  }
  if (options.reset !== undefined) {
    await client.post(`${path}/reset`, { reason: options.reset });
    return show({ reset: name }, options, terminal, () => `reset the session with ${printable(name)}\n`);
  }
  const { peers: all } = await client.get<PeersView>("/v1/peers");
  const found = all.find(one => one.name === name);
  if (!found) throw new CliError(`there is no neighbour "${name}"`, `neighbours here: ${all.map(one => one.name).join(", ") || "none"}`);
  show(found, options, terminal, () => renderPeer(found, terminal.now(), terminal.paint));
}

export async function routes(
  prefix: string | undefined,
  options: AskOptions & { longer?: boolean; neighbor?: string; family?: string; limit: number; after?: string },
  terminal: Terminal,
): Promise<void> {
  const { longer, neighbor, family, limit, after } = options;
  if (longer && prefix === undefined) throw new CliError("--longer needs a PREFIX", "without one all routes are listed anyway", 2);
  const query = { prefix, longer: longer ? "true" : undefined, neighbor, family, limit, after };
  const view = await (await agent(options)).get<RoutesView>("/v1/routes", query);
  show(view, options, terminal, () => renderRoutes(view, terminal.paint));
}

export async function explain(prefix: string, options: AskOptions, terminal: Terminal): Promise<void> {
  const view = await (await agent(options)).get<ExplainView>("/v1/explain", { prefix });
  show(view, options, terminal, () => renderExplanation(view, terminal.paint));
}

/** "POD → POD:PORT", as the shell cut it. Each node knows all policies and pods while there are policies. */
export async function explainConnection(words: readonly string[], options: AskOptions, terminal: Terminal): Promise<void> {
  const query = { ...readConnection(words) };
  const view = await (await agent(options)).get<ConnectionView>("/v1/connection", query);
  show(view, options, terminal, () => renderConnection(view, terminal.paint));
}

export async function policies(options: AskOptions, terminal: Terminal): Promise<void> {
  const view = await (await agent(options)).get<PoliciesView>("/v1/policies");
  show(view, options, terminal, () => renderPolicies(view, terminal.paint));
}

export async function pods(options: AskOptions, terminal: Terminal): Promise<void> {
  const view = await (await agent(options)).get<AttachmentsView>("/v1/attachments");
  show(view, options, terminal, () => renderPods(view.attachments, terminal.now(), terminal.paint));
}

export async function status(options: AskOptions, terminal: Terminal): Promise<void> {
  const view = await (await agent(options)).get<StatusView>("/v1/status");
  show(view, options, terminal, () => renderStatus(view, terminal.now(), terminal.paint));
}

export async function problems(options: AskOptions & { exitCode?: boolean }, terminal: Terminal): Promise<number> {
  const view = await (await agent(options)).get<ProblemsView>("/v1/problems");
  show(view, options, terminal, () => renderProblems(view.problems, terminal.paint));
  return options.exitCode && hasErrors(view.problems) ? 1 : 0;
}

export async function plan(options: AskOptions & { config?: string }, terminal: Terminal): Promise<number> {
  const { config, node } = options;
  const dry = config !== undefined && node !== undefined;
  if (dry) refuseApiOptions(options, "with --config", "files are planned here, for any node, and no agent is asked: leave it out");
  const view = dry
    ? await offline(async () => (await import("../agent/offline.ts")).planOffline(config, node))
    : await (await agent(options)).get<PlanView>("/v1/plan", { config: config && resolve(config) });
  show(view, options, terminal, () => renderPlan(view, terminal.paint));
  return config !== undefined && hasErrors(view.problems) ? 1 : 0;
}

export async function validate(directory: string, options: { json?: boolean }, terminal: Terminal): Promise<number> {
  const { nodes, objects, problems: found } = await offline(async () => (await import("../agent/offline.ts")).validateOffline(directory));
  const valid = !hasErrors(found);
  show({ valid, nodes, objects, problems: found }, options, terminal, () => {
    const verdict = valid ? terminal.paint("good", "valid") : terminal.paint("bad", "not valid");
    return `${renderValidation(found, nodes, terminal.paint)}\n${verdict}: ${count(objects)} objects, checked for ${count(nodes.length)} nodes\n`;
  });
  return valid ? 0 : 1;
}

export async function reload(options: AskOptions, terminal: Terminal): Promise<void> {
  const view = await (await agent(options)).post<ReloadView>("/v1/reload");
  show(view, options, terminal, () => {
    const actions = view.actions.length > 0 ? view.actions.map(printable).join("\n") : "nothing changed";
    return `${actions}\n${view.problems.length > 0 ? `\n${renderProblems(view.problems, terminal.paint)}` : ""}`;
  });
}

export async function leave(options: Options, terminal: Terminal): Promise<void> {
  await new AgentClient(options.socket).post("/v1/leave");
  show({ left: true }, options, terminal, () => "the agent withdraws this node's routes and ends\n");
}

/** Ends only with the agent, which is why that is a failure. */
export async function events(options: AskOptions, terminal: Terminal): Promise<void> {
  for await (const line of (await agent(options)).lines("/v1/events")) {
    if (options.json) terminal.print(`${line}\n`);
    else {
      const event = JSON.parse(line) as EventView;
      terminal.print(`${terminal.paint("dim", event.at)}  ${terminal.paint("accent", event.type.padEnd(8))}  ${printable(event.text)}\n`);
    }
  }
  throw new CliError("the agent has ended, and its events with it", "start it again, then follow the new one's events");
}

interface CniOptions {
  binDir: string;
  confDir: string;
  socket?: string;
  dryRun?: boolean;
  json?: boolean;
}

export async function cniInstall(options: CniOptions, terminal: Terminal): Promise<void> {
  const { installPlugin } = await import("../cni/plugin/install.ts");
  const { socket } = options;
  if (socket !== undefined && !isAbsolute(socket)) throw new CliError(`--socket ${socket} is not an absolute path`, "begin it with /", 2);
  changeNode(() => installPlugin({ ...options, dryRun: options.dryRun === true }), options, terminal);
}

export async function cniUninstall(options: CniOptions, terminal: Terminal): Promise<void> {
  const { uninstallPlugin } = await import("../cni/plugin/install.ts");
  changeNode(() => uninstallPlugin({ ...options, dryRun: options.dryRun === true }), options, terminal);
}

function changeNode(work: () => InstallReport, options: CniOptions, terminal: Terminal): void {
  let report: InstallReport;
  try {
    report = work();
  } catch (error) {
    if (!(error instanceof Error && "syscall" in error)) throw error;
    throw new CliError(error.message, "run it as root, on a file system that can be written; --bin-dir and --conf-dir name other folders");
  }
  show({ dryRun: options.dryRun === true, ...report }, options, terminal, () => {
    const lines = report.files.map(({ file, change }) => `${terminal.paint("accent", change.padEnd(9))}  ${printable(file)}`);
    const head = options.dryRun ? ["nothing was changed; this would be done:"] : [];
    return [...head, ...lines, ...report.notes.map(printable), ""].join("\n");
  });
}

export async function uninstall(
  options: Omit<UninstallOptions, "force" | "dryRun"> & { force?: true; dryRun?: true; json?: true },
  terminal: Terminal,
): Promise<number> {
  const { uninstall: work, PodsAttachedError } = await import("../agent/uninstall.ts");
  const { LockError } = await import("../agent/lock.ts");
  const { socket, force = false, dryRun = false } = options;
  const report = await work({ ...options, force, dryRun }, runningAgent(socket)).catch((error: Error) => {
    if (error instanceof PodsAttachedError)
      throw new CliError(error.message, "drain the node (kubectl drain NODE --ignore-daemonsets), or take their network away with --force");
    if (error instanceof LockError)
      throw new CliError(error.message, "an agent that does not leave is stopped like any process; --socket names its socket");
    if ("syscall" in error || error.name === "NetlinkError")
      throw new CliError(error.message, "run it as root on the node, with its directories writable");
    throw error;
  });
  show({ dryRun, ...report }, { json: options.json }, terminal, () => renderUninstall(report, dryRun, terminal.paint));
  // A kernel parameter that another network needs is nobody's to see to.
  return report.removals.some(({ what, change }) => change === "stays" && what !== "sysctl") ? 1 : 0;
}

function runningAgent(socket: string): RunningAgent {
  const client = new AgentClient(socket);
  return {
    async pods() {
      try {
        const { attachments } = await client.get<AttachmentsView>("/v1/attachments");
        return new Map(attachments.flatMap(({ hostInterface, pod }) => (pod ? [[hostInterface, `${pod.namespace}/${pod.name}`]] : [])));
      } catch (error) {
        if (error instanceof CliError && error.message.startsWith("no agent runs here")) return undefined;
        throw error;
      }
    },
    leave: async () => void (await client.post("/v1/leave")),
  };
}

export async function version(options: Partial<AskOptions> & { cluster?: boolean }, terminal: Terminal): Promise<void> {
  const { cluster: all, node } = options;
  const { apiVersion: api } = await import("../config/resources/common.ts");
  // Generated with each version: what a cluster has is in the annotation podlane.io/version of its CRDs.
  const own = { podlane: ownVersion, api, crds: ownVersion, node: process.versions.node, kernel: release() };
  const text = `podlane ${ownVersion}\nAPI ${api}, CustomResourceDefinitions of version ${ownVersion}\n`;
  if (all) return (await import("./cluster.ts")).versions(own, options, terminal);
  if (node === undefined) {
    refuseApiOptions(options, "without --node", NAME_THE_NODE);
    return show(own, options, terminal, () => text);
  }
  const { version: theirs } = await (await agent({ ...options, socket: "" })).get<StatusView>("/v1/status");
  const view = { ...own, agents: [{ version: theirs, nodes: [node] }] };
  show(view, options, terminal, () => `${text}${renderVersions(view.agents, terminal.paint)}`);
}

/** The agent of this node; with --node that of another one, through the API server. */
async function agent(options: AskOptions): Promise<AgentClient> {
  const { socket, node } = options;
  if (node !== undefined) return new AgentClient(await (await import("./remote.ts")).remoteAgent({ ...options, node }));
  refuseApiOptions(options, "without --node", NAME_THE_NODE);
  return new AgentClient(socket);
}

/** The API server is not asked, so that nobody should believe it was. */
function refuseApiOptions(options: Partial<AskOptions>, where: "without --node" | "with --config", remedy: string): void {
  const alone = (["kubeconfig", "context", "namespace"] as const).find(name => options[name] !== undefined);
  if (alone) throw new CliError(`--${alone} says nothing ${where}`, remedy, 2);
}

/** A directory that cannot be read is an error of the caller's, in words. */
async function offline<View>(work: () => Promise<View>): Promise<View> {
  return work().catch((error: Error) => {
    throw new CliError(error.message, "name a directory of *.yaml files");
  });
}

function hasErrors(all: readonly { severity: string }[]): boolean {
  return all.some(one => one.severity === "error");
}

function show(view: unknown, options: { json?: boolean; node?: string }, terminal: Terminal, render: () => string): void {
  terminal.print(options.json ? `${JSON.stringify(view, undefined, 2)}\n` : inWords(render, options.node));
}

/** The agent of another node may be of another version. */
function inWords(render: () => string, node: string | undefined): string {
  try {
    return render();
  } catch (error) {
    if (node === undefined || !(error instanceof TypeError)) throw error;
    throw new CliError(
      `podlane ${ownVersion} cannot show what the agent of ${node} answered`,
      `--json shows it as it came; podlane version --node ${node} says of which version it is`,
    );
  }
}
