/**
 * `podlane agent`: checks the machine, takes the lock and the socket, runs the agent until a signal. SIGTERM and SIGINT end it in order,
 * a second one at once; SIGHUP reloads. However it ends, the kernel keeps forwarding.
 */
import { type Logger, systemClock } from "../bgpd/platform.ts";
import { DirectorySource } from "../config/sources/directory.ts";
import { checkRequirements, openRtnetlink, watchKernel } from "../kernel/index.ts";
import { Agent } from "./agent.ts";
import { type ApiServer, startApi } from "./api/server.ts";
import { SocketError } from "./api/socket.ts";
import { LockError, lockStateDirectory } from "./lock.ts";
import { createLog, type LogFormat, type LogLevel } from "./log.ts";
import { version } from "./version.ts";

export interface RunOptions {
  node: string;
  config: string;
  state: string;
  socket: string;
  logLevel: LogLevel;
  logFormat?: LogFormat;
  onStop: "withdraw" | "keep";
}

/** Milliseconds that requests under way have to end. */
const requestGrace = 2_000;
/** Milliseconds after which an orderly end that does not come is forced. */
const stopBound = 15_000;

/** Resolves with the exit code when the agent has ended. */
export async function runAgent(options: RunOptions): Promise<number> {
  const log = createLog(options.logLevel, options.logFormat ?? (process.stderr.isTTY ? "pretty" : "json"));
  surviveNothing(log);
  const missing = checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth", "bridge"] });
  for (const sentence of missing) log.error({}, sentence);
  if (missing.length > 0) return 1;
  for (const sentence of checkRequirements({ tcpMd5: true, bridgeNetfilter: true })) log.warn({}, sentence);
  let unlock: (() => void) | undefined;
  try {
    unlock = lockStateDirectory(options.state);
    await serve(options, log);
    return 0;
  } catch (error) {
    if (!isExpected(error)) throw error;
    log.error({}, error.message);
    return 1;
  } finally {
    unlock?.();
  }
}

async function serve(options: RunOptions, log: Logger): Promise<void> {
  const stopping = stopSignal(log);
  const netlink = openRtnetlink();
  const kernel = { netlink, watch: (listener: Parameters<typeof watchKernel>[1]) => watchKernel({ ignore: [netlink.port] }, listener) };
  let api: ApiServer | undefined;
  const agent = new Agent(
    { node: options.node, sourceName: options.config, stateDirectory: options.state },
    { clock: systemClock, log, kernel, source: new DirectorySource(options.config), publish: event => api?.events.publish(event) },
  );
  try {
    api = await startApi(options.socket, agent.backend(), log);
    log.info({ node: options.node, version, pid: process.pid, socket: options.socket }, `podlane ${version} starts on ${options.node}`);
    const reload = () => void agent.reload().catch(error => log.error({ err: error }, "the reload failed"));
    process.on("SIGHUP", reload);
    await agent.start();
    const signal = await stopping;
    process.off("SIGHUP", reload);
    log.info({ signal }, `${signal}: ending; a second signal ends at once`);
    const bound = setTimeout(() => end(log, 1, `the end took more than ${stopBound / 1000} s and is forced`), stopBound);
    await Promise.all([api.close(requestGrace), agent.close(options.onStop === "withdraw")]);
    clearTimeout(bound);
    log.info({}, "ended; the kernel keeps its routes");
  } finally {
    netlink.close();
  }
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

/** An error nobody expected leaves the process in an unknown state: it is logged with its stack and the process ends. Kernel routes stay. */
function surviveNothing(log: Logger): void {
  process.on("uncaughtException", (error, origin) => {
    log.error({ err: error, origin }, `fault of podlane: ${error instanceof Error ? error.message : String(error)}`);
    end(log, 1, "ending after a fault; the kernel keeps its routes");
  });
}

function end(log: Logger, code: number, text: string): never {
  log.error({}, text);
  process.exit(code);
}

/** What is the operator's to correct, and is told in one sentence. */
function isExpected(error: unknown): error is Error {
  return error instanceof LockError || error instanceof SocketError || isSystemError(error);
}

/** Of the file system, such as EROFS or EACCES: the message names the path. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "syscall" in error && "path" in error;
}
