/**
 * `podlane agent`: checks the machine, takes the lock and the socket, runs the agent until a signal. SIGTERM and SIGINT end it in order,
 * a second one at once; SIGHUP reloads. However it ends, the kernel keeps forwarding.
 */
import { Faults, guardedClock, guardedKernel } from "../bgpd/faults.ts";
import { checkRequirements, forbidCoreDumps, giveBackMemory, makeSysctlWritable, openKernel } from "../kernel/index.ts";
import { systemClock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { Agent } from "./agent.ts";
import { type ApiServer, startApi } from "./api/server.ts";
import { SocketError } from "./api/socket.ts";
import type { CniFilesOptions } from "./cni-files.ts";
import { LockError, lockStateDirectory } from "./lock.ts";
import { createLog, type LogFormat, type LogLevel } from "./log.ts";
import type { MetricsOptions, MetricsParts, MetricsServer } from "./metrics/server.ts";
import { openSource, SourceError, type SourceOptions } from "./open-source.ts";
import { machineStops } from "./shutdown.ts";
import type { ClusterStatus } from "./status/cluster-status.ts";
import { version } from "./version.ts";

export interface RunOptions extends SourceOptions {
  state: string;
  socket: string;
  logLevel: LogLevel;
  logFormat?: LogFormat;
  onStop: "auto" | "withdraw" | "keep";
  /** Absent: the agent does not install itself for the container runtime. */
  cni?: CniFilesOptions;
  /** Absent: no metrics. */
  metrics?: MetricsOptions;
  logDrops?: boolean;
}

/** Milliseconds after the start at which what only the start needed is given back: sessions are up, and what still comes finds its pages again. */
const SETTLED = 5_000;
/** Milliseconds that requests under way have to end. */
const REQUEST_GRACE = 2_000;
/** Milliseconds after which an orderly end that does not come is forced. */
const STOP_BOUND = 15_000;

/** Resolves with the exit code when the agent has ended. */
export async function runAgent(options: RunOptions): Promise<number> {
  const log = await createLog(options.logLevel, options.logFormat ?? (process.stderr.isTTY ? "pretty" : "json"));
  const faults = new Faults(systemClock, log);
  survive(faults, log);
  if (!forbidCoreDumps()) log.warn({}, "a core dump of this process would hold passwords, and cannot be forbidden");
  const missing = checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth", "bridge"] });
  for (const sentence of missing) log.error({}, sentence);
  if (missing.length > 0) return 1;
  const procSys = makeSysctlWritable();
  if (procSys.state === "remounted") log.info({}, "remounted /proc/sys writable in the mount namespace of this container");
  if (procSys.state === "refused") log.error({}, `kernel parameters cannot be set, so no pod can be attached: ${procSys.why}`);
  for (const sentence of checkRequirements({ tcpMd5: true, sysctl: true, bridgeNetfilter: true })) log.warn({}, sentence);
  let unlock: (() => void) | undefined;
  try {
    unlock = lockStateDirectory(options.state);
    await serve(options, log, faults);
    return 0;
  } catch (error) {
    if (isExpected(error)) log.error({}, error.message);
    else faults.note("start", error);
    return 1;
  } finally {
    unlock?.();
  }
}

async function serve(options: RunOptions, log: Logger, faults: Faults): Promise<void> {
  const stopping = stopSignal(log);
  const opened = openKernel({ topics: ["link", "address", "route", "configuration"] });
  const kernel = guardedKernel(opened, faults);
  const clock = guardedClock(systemClock, faults);
  let api: ApiServer | undefined;
  let metrics: MetricsServer | undefined;
  const { promise: left, resolve: leave } = Promise.withResolvers<"leave">();
  let status: ClusterStatus | undefined;
  const { source, name: sourceName, cluster } = await openSource(options, log, node => status?.nodeSeen(node));
  const agent = new Agent(
    { node: options.node, sourceName, stateDirectory: options.state, cni: options.cni, logDrops: options.logDrops },
    {
      clock,
      log,
      kernel,
      faults,
      leave: () => leave("leave"),
      source,
      moreProblems: () => metrics?.problems() ?? [],
      publish: event => {
        api?.events.publish(event);
        status?.happened(event);
      },
    },
  );
  if (cluster) {
    const { ClusterStatus } = await import("./status/cluster-status.ts");
    const parts = { client: cluster.client, clock, log: log.child({ part: "status" }), random: Math.random };
    status = new ClusterStatus(
      { node: options.node, namespace: cluster.namespace },
      { ...parts, report: () => agent.report(), serving: () => agent.serving() },
    );
  }
  try {
    api = await startApi(options.socket, agent.backend(), log);
    log.info({ node: options.node, version, pid: process.pid, socket: options.socket }, `podlane ${version} starts on ${options.node}`);
    const reload = () => void agent.reload().catch(error => log.error({ err: error }, "the reload failed"));
    process.on("SIGHUP", reload);
    if (options.metrics) metrics = await startMetrics(options.metrics, agent, { clock, log, faults });
    await agent.start();
    status?.start();
    const settled = clock.after(SETTLED, () => void giveBackMemory());
    const cause = await Promise.race([stopping, left]);
    settled.cancel();
    process.off("SIGHUP", reload);
    log.info({ cause }, `${cause}: ending; a second signal ends at once`);
    const bound = setTimeout(() => end(log, 1, `the end took more than ${STOP_BOUND / 1000} s and is forced`), STOP_BOUND);
    const withdraws = cause === "leave" ? "asked for" : await withdrawal(options.onStop);
    if (withdraws === undefined) log.info({}, "neighbours in graceful restart keep this node's routes for the next agent");
    else log.info({}, `this node's routes are withdrawn: ${withdraws}`);
    // While there is a connection to the API server: the agent closes it.
    await status?.close();
    if (cause === "leave") await agent.takeBack();
    // In this order: a DEL that is under way still writes the ledger down, and its pod would keep its addresses otherwise.
    await Promise.all([api.close(REQUEST_GRACE), metrics?.close()]);
    await agent.close(withdraws !== undefined);
    clearTimeout(bound);
    log.info({}, "ended; the kernel keeps its routes");
  } finally {
    opened.close();
  }
}

/** Who wants no metrics pays no memory for them. */
async function startMetrics(options: MetricsOptions, agent: Agent, parts: MetricsParts): Promise<MetricsServer> {
  const { MetricsServer } = await import("./metrics/server.ts");
  return new MetricsServer(options, agent.subject(), parts);
}

/** Why the node's routes are withdrawn at a stop; undefined: they are kept for the next agent. */
async function withdrawal(onStop: RunOptions["onStop"]): Promise<string | undefined> {
  if (onStop === "auto") return machineStops();
  return onStop === "withdraw" ? "--on-stop withdraw" : undefined;
}

/** Resolves with the first of the signals that ask for an end; the second one is obeyed at once. */
function stopSignal(log: Logger): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    let asked = false;
    const stop = (signal: NodeJS.Signals) => {
      if (asked) end(log, 1, `second signal (${signal}): ending at once`);
      asked = true;
      resolve(signal);
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
  });
}

/** So many exceptions that no boundary caught, within so many milliseconds, are more than one piece of work gone wrong. */
const faultLimit = { count: 20, within: 60_000 };

/**
 * The last net under the boundaries of bgpd/faults.ts, for exceptions and rejections that nobody expected. One of them costs the piece of work it came
 * from; going on is right because each session, route and call keeps its own state. A process that throws all the time is worth less than a new
 * one: it ends, the kernel keeps its routes, and graceful restart keeps the neighbours'.
 */
function survive(faults: Faults, log: Logger): void {
  const recent: number[] = [];
  const fault = (place: string, error: unknown) => {
    faults.note(place, error);
    const now = performance.now();
    recent.push(now);
    while (now - recent[0] > faultLimit.within) recent.shift();
    if (recent.length < faultLimit.count) return;
    end(log, 1, `${faultLimit.count} faults within ${faultLimit.within / 1000} s: ending; the kernel keeps its routes`);
  };
  process.on("uncaughtException", (error, origin) => fault(origin, error));
  process.on("unhandledRejection", error => fault("unhandledRejection", error));
}

function end(log: Logger, code: number, text: string): never {
  log.error({}, text);
  process.exit(code);
}

/** What is the operator's to correct, and is told in one sentence. */
function isExpected(error: unknown): error is Error {
  return error instanceof SourceError || error instanceof LockError || error instanceof SocketError || isSystemError(error);
}

/** Of the file system, such as EROFS or EACCES: the message names the path. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "path" in error;
}
