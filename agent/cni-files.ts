/**
 * The executable and the network's list for the container runtime, kept by the agent itself (`--install-cni`): put there when the node can serve pods, and put
 * back when somebody removed or changed them. They outlive the agent, as its pods do: until the next one is there, calls wait or are queued.
 */
import { type FSWatcher, watch } from "node:fs";
import { type PluginFile, pluginContents } from "../cni/plugin/build.ts";
import { type FileChange, type ForeignNetwork, foreignNetwork, installPlugin, type PluginPlaces } from "../cni/plugin/install.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";

export interface CniFilesOptions extends PluginPlaces {
  /** Where the executable finds the agent, and keeps DELs; undefined = its defaults. */
  socket?: string;
  queue?: string;
}

export interface CniFilesParts {
  clock: Clock;
  log: Pick<Logger, "info" | "warn" | "error">;
  /** The node can serve pods. */
  ready(): boolean;
  /** Told what was put back, in words. */
  mended(text: string): void;
}

/** Milliseconds from a change in one of the directories to a look: whoever fights for a file is met once in so long. */
const LOOK_DELAY = 500;
/** Milliseconds for which it stays a problem that somebody changed them. */
const CHANGE_TOLD = 600_000;

export class CniFiles {
  readonly #options: CniFilesOptions;
  readonly #parts: CniFilesParts;
  readonly #watches = new Map<string, FSWatcher>();
  #plugin: readonly PluginFile[] | undefined;
  /** What we saw there when all was as it shall be; portmap coming or going changes the list by right. */
  #installed = false;
  #problem: Problem | undefined;
  #foreign: ForeignNetwork | undefined;
  /** What was changed by others last. Clock.monotonic(). */
  #changed: { at: number; what: string } | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: CniFilesOptions, parts: CniFilesParts) {
    this.#options = options;
    this.#parts = parts;
  }

  /** Puts there what is missing or not as it shall be, while the node can serve pods. Never throws: what cannot be done is a problem. */
  look(): void {
    if (this.#closed) return;
    const { confDir, binDir } = this.#options;
    this.#foreign = foreignIn(confDir);
    const changed = this.#parts.ready() && this.#install();
    for (const directory of [binDir, confDir]) this.#watch(directory);
    // What somebody does between the writing and the watching no watcher tells of.
    if (changed) this.#soon();
  }

  problems(): Problem[] {
    const { clock } = this.#parts;
    const { confDir } = this.#options;
    const problems = this.#problem ? [this.#problem] : [];
    if (this.#foreign) problems.push(outranked(this.#foreign));
    if (this.#changed && clock.monotonic() - this.#changed.at < CHANGE_TOLD) {
      const message = `${this.#changed.what} by somebody else within the last ${CHANGE_TOLD / 60_000} minutes, and was put back`;
      const remedy = `let no other program write or clean ${confDir}, or run the agent without --install-cni`;
      problems.push({ severity: "warning", reason: "CNIFilesChanged", object: "cni", field: "", message, remedy });
    }
    return problems;
  }

  /** The files stay. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const one of this.#watches.values()) one.close();
    this.#watches.clear();
  }

  /** True: something was not as it shall be, and was put there. */
  #install(): boolean {
    const { binDir } = this.#options;
    try {
      this.#plugin ??= pluginContents(binDir);
      const { files } = installPlugin({ ...this.#options, plugin: this.#plugin, dryRun: false });
      const changes = files.filter(({ change }) => change !== "unchanged");
      this.#tell(changes);
      this.#installed = true;
      this.#problem = undefined;
      return changes.length > 0;
    } catch (error) {
      const message = `the CNI executable and list cannot be installed: ${(error as Error).message}`;
      if (this.#problem?.message !== message) this.#parts.log.error({}, message);
      const remedy = "mount the host's directories writable, or name others by --cni-bin-dir and --cni-conf-dir; tried again each minute";
      this.#problem = { severity: "error", reason: "CNIInstallFailed", object: "cni", field: "", message, remedy };
      return false;
    }
  }

  #tell(changes: FileChange[]): void {
    const { clock, log, mended } = this.#parts;
    for (const { file, change } of changes) {
      if (!this.#installed) {
        log.info({}, `installed ${file}`);
        continue;
      }
      const what = `${file} was ${change === "made" ? "removed" : "changed"}`;
      this.#changed = { at: clock.monotonic(), what };
      log.warn({}, `${what}: put back`);
      mended(`${what}: put back`);
    }
  }

  /** A directory that is not there, or not any more, is looked at each minute like all else. */
  #watch(directory: string): void {
    if (this.#watches.has(directory)) return;
    const forget = () => {
      this.#watches.get(directory)?.close();
      this.#watches.delete(directory);
    };
    try {
      const watcher = watch(directory, { persistent: false }, () => this.#soon());
      watcher.on("error", forget);
      this.#watches.set(directory, watcher);
    } catch {
      forget();
    }
  }

  #soon(): void {
    if (this.#closed) return;
    this.#timer ??= this.#parts.clock.after(LOOK_DELAY, () => {
      this.#timer = undefined;
      // A directory that was made anew is another one to watch.
      for (const one of this.#watches.values()) one.close();
      this.#watches.clear();
      this.look();
    });
  }
}

/** What cannot be listed is a problem of the installation. */
function foreignIn(directory: string): ForeignNetwork | undefined {
  try {
    return foreignNetwork(directory);
  } catch {
    return undefined;
  }
}

function outranked({ file, network }: ForeignNetwork): Problem {
  const message =
    network === undefined
      ? `${file} sorts before podlane's list and is no network that can be read: the runtime takes the first file by name, and then has no network at all`
      : `${file}, the network "${network}", sorts before podlane's list: the runtime takes the first file by name and gives new pods to that network`;
  const remedy = `remove the program that it belongs to, then the file; pods that it attached are recreated after that`;
  return { severity: "error", reason: "ForeignNetworkFirst", object: "cni", field: file, message, remedy };
}
