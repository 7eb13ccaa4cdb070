/**
 * Whether the machine is going down. A stop of the agent is mostly an update, and neighbours in graceful restart then keep the node's routes; when the machine
 * stops, nobody comes back soon, and whoever keeps its routes sends packets into the void. systemd knows: `systemctl is-system-running` says
 * "stopping" from the first unit it stops. Before that comes the time in which the kubelet ends the node's pods (graceful node shutdown): it holds systemd-logind
 * back, which then says PreparingForShutdown. Without systemd in reach (a container without the host's /run, another init) nothing tells, and a stop
 * counts as a restart: its routes go when the restart time is over.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";

/** Milliseconds that systemd has for its answer. */
const PATIENCE = 1000;
/** sd_booted(3). */
const SYSTEMD_RUNS = "/run/systemd/system";

/** How it is known, in words; undefined: it is not, or nobody can tell. */
export async function machineStops(exists: (path: string) => boolean = existsSync): Promise<string | undefined> {
  if (!exists(SYSTEMD_RUNS)) return undefined;
  const [state, preparing] = await Promise.all([
    ask("systemctl", "is-system-running"),
    ask(
      "busctl",
      "get-property",
      "org.freedesktop.login1",
      "/org/freedesktop/login1",
      "org.freedesktop.login1.Manager",
      "PreparingForShutdown",
    ),
  ]);
  if (state === "stopping") return "systemd is stopping the machine";
  return preparing === "b true" ? "systemd-logind is preparing to stop the machine" : undefined;
}

/** What it prints; "" where it is not there or does not answer. The exit status of systemctl is that of a failure for every state but "running". */
async function ask(program: string, ...words: string[]): Promise<string> {
  const failed = (error: unknown) => error as { stdout?: string };
  const { stdout = "" } = await promisify(execFile)(program, words, { timeout: PATIENCE }).catch(failed);
  return stdout.trim();
}
