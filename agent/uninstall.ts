/**
 * `podlane uninstall`: takes everything of podlane off this node. An agent that runs is asked to leave first; then the state directory's lock is held, so that none
 * begins anew meanwhile. What goes is known by marks (names of files, aliases of links, places of routes), never by guess, and the last to go is the state
 * that tells them: who is interrupted begins again.
 */
import { existsSync, lstatSync, readdirSync, rmdirSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { leftRoutes } from "../bgpd/forwarding.ts";
import type { RoutePlace } from "../bgpd/platform.ts";
import { changedSysctls, podBridges, podLinks, setBack, takeBackForwardRules, takeBackRangeDiscards } from "../cni/attach/leftovers.ts";
import { hasForeignNetwork, uninstallPlugin } from "../cni/plugin/install.ts";
import { makeSysctlWritable, openRtnetlink, RTPROT_PODLANE } from "../kernel/index.ts";
import type { Rtnetlink } from "../kernel/types.ts";
import { NftError, nft } from "../netfilter/nft.ts";
import { removeTables } from "../netfilter/tables.ts";
import { isOverlayLink } from "../overlay/names.ts";
import { LockError, lockStateDirectory } from "./lock.ts";
import { routeMemory } from "./route-memory.ts";

export interface UninstallOptions {
  state: string;
  socket: string;
  cniBinDir: string;
  cniConfDir: string;
  /** Also while pods are attached. */
  force: boolean;
  /** Change nothing. */
  dryRun: boolean;
}

/** The agent that may run. */
export interface RunningAgent {
  /** Pods by their interface on the node, as namespace/name; undefined: no agent answers. */
  pods(): Promise<Map<string, string> | undefined>;
  leave(): Promise<void>;
}

export interface Removal {
  what: "agent" | "file" | "rules" | "link" | "routes" | "sysctl" | "directory";
  name: string;
  change: "removed" | "set back" | "stays";
}

export interface UninstallReport {
  removals: Removal[];
  /** What the operator should know, in sentences. */
  notes: string[];
}

export class PodsAttachedError extends Error {
  override readonly name = "PodsAttachedError";
}

/** Milliseconds that an agent has to leave: more than it gives itself (STOP_BOUND in main.ts). */
const LEAVE_BOUND = 25_000;
const LEAVE_POLL = 100;
const MAIN_TABLE = 254;
/** Pods that are named before "and N more". */
const NAMED = 20;

/** Files of ours in the state directory, and what a killed process leaves of them. */
const stateFile =
  /^(agent\.lock|had-policies|(plan|places)\.json(\.new)?|ledger(\.new|\.damaged)?|sysctls\.json|\.sysctls\.json\.\d+\.new)$/;

/**
 * Throws PodsAttachedError before anything is changed; LockError where an agent does not end or cannot be asked, NetlinkError, and errors of the file
 * system, which name the path.
 */
export async function uninstall(options: UninstallOptions, agent: RunningAgent): Promise<UninstallReport> {
  const netlink = openRtnetlink();
  try {
    return await new Uninstaller(options, netlink).run(agent);
  } finally {
    netlink.close();
  }
}

class Uninstaller {
  readonly #options: UninstallOptions;
  readonly #netlink: Rtnetlink;
  readonly #removals: Removal[] = [];
  readonly #notes: string[] = [];

  constructor(options: UninstallOptions, netlink: Rtnetlink) {
    this.#options = options;
    this.#netlink = netlink;
  }

  async run(agent: RunningAgent): Promise<UninstallReport> {
    const names = await agent.pods();
    this.#requireNoPods(names);
    if (names) await this.#leave(agent);
    const unlock = this.#options.dryRun ? () => {} : await this.#lock(names !== undefined);
    try {
      await this.#clear();
    } finally {
      unlock();
    }
    return { removals: this.#removals, notes: this.#notes };
  }

  #requireNoPods(names: ReadonlyMap<string, string> | undefined): void {
    const links = podLinks(this.#netlink);
    if (links.length === 0) return;
    const texts = links.map(({ name, pod }) => names?.get(name) ?? pod);
    const more = texts.length > NAMED ? ` and ${texts.length - NAMED} more` : "";
    const text = `${texts.length} pods are attached: ${texts.slice(0, NAMED).join("; ")}${more}`;
    if (!this.#options.force && !this.#options.dryRun) throw new PodsAttachedError(text);
    this.#notes.push(`${text}; they lose their network${this.#options.force ? "" : ", so that needs --force"}`);
  }

  async #leave(agent: RunningAgent): Promise<void> {
    this.#say("agent", "agent");
    this.#notes.push("an agent that is started again installs itself again: delete its DaemonSet, or disable its unit, first");
    if (!this.#options.dryRun) await agent.leave();
  }

  /** `leaving`: an agent that has it is about to give it back. */
  async #lock(leaving: boolean): Promise<() => void> {
    const { state } = this.#options;
    const end = performance.now() + (leaving ? LEAVE_BOUND : 0);
    while (existsSync(state)) {
      try {
        return lockStateDirectory(state);
      } catch (error) {
        if (!(error instanceof LockError) || performance.now() >= end) throw error;
        await delay(LEAVE_POLL);
      }
    }
    return () => {};
  }

  /** The list first, so that the runtime asks for no more pods. */
  async #clear(): Promise<void> {
    const { dryRun, cniBinDir: binDir, cniConfDir: confDir } = this.#options;
    for (const { file, change } of uninstallPlugin({ binDir, confDir, dryRun }).files) if (change === "removed") this.#say("file", file);
    for (const chain of await takeBackForwardRules(dryRun)) this.#say("rules", chain);
    for (const table of await this.#tables()) this.#say("rules", table);
    this.#clearLinks();
    await this.#clearRoutes();
    this.#setBackSysctls();
    this.#clearSocket();
    this.#clearState();
  }

  /** What pods' links had kept in order, and links go next. */
  async #tables(): Promise<string[]> {
    try {
      return await removeTables(nft(), this.#options.dryRun);
    } catch (error) {
      // Without the program nobody can have made them; what it refuses has to be said.
      if (!(error instanceof NftError && error.reason === "absent"))
        this.#notes.push(`the nftables tables podlane may be there still: ${(error as Error).message}`);
      return [];
    }
  }

  #clearLinks(): void {
    const remove = (index: number, name: string) => {
      if (!this.#options.dryRun) this.#netlink.deleteLink(index);
      this.#say("link", name);
    };
    for (const { index, name } of podLinks(this.#netlink)) remove(index, name);
    for (const { index, name } of this.#netlink.links().filter(isOverlayLink)) remove(index, name);
    for (const { index, name, foreign } of podBridges(this.#netlink)) {
      if (foreign.length === 0) remove(index, name);
      else this.#stays("link", name, `${foreign.join(", ")}, which podlane did not make, is on it: take it off, then uninstall again`);
    }
  }

  async #clearRoutes(): Promise<void> {
    const { state, dryRun } = this.#options;
    for (const text of takeBackRangeDiscards(this.#netlink, dryRun)) this.#say("routes", text);
    const log = { warn: (_fields: object, text: string) => void this.#notes.push(text), error() {} };
    const places = routeMemory({ stateDirectory: state }, log).read();
    for (const { table, protocol, routes, rules } of await leftRoutes(this.#netlink, places, !dryRun)) {
      const where = `table ${tableName(table)} with protocol ${protocol}`;
      if (routes > 0) this.#say("routes", `${routes} in ${where}`);
      if (rules > 0) this.#say("rules", `${rules} policy rules for ${where}`);
    }
    const usual: RoutePlace = { table: MAIN_TABLE, protocol: RTPROT_PODLANE };
    if (places.some(({ table, protocol }) => table === usual.table && protocol === usual.protocol)) return;
    for (const { routes } of await leftRoutes(this.#netlink, [usual], false))
      this.#stays("routes", `${routes} in table main with protocol ${RTPROT_PODLANE}`, `${state} does not say that they are podlane's`);
  }

  #setBackSysctls(): void {
    const { state, dryRun, cniConfDir } = this.#options;
    const changed = changedSysctls(state);
    // Who came after podlane found forwarding on, and relies on it.
    const needed = changed.length > 0 && hasForeignNetwork(cniConfDir);
    // In a pod it is read-only, as for the agent.
    if (changed.length > 0 && !dryRun) makeSysctlWritable();
    for (const entry of changed) {
      const name = `${entry.name.join(".")} = ${needed ? entry.value : entry.before}`;
      if (needed) this.#stays("sysctl", name, `another network is in ${cniConfDir}, which may need it; it was ${entry.before}`);
      else {
        if (!dryRun) setBack(entry);
        this.#say("sysctl", name, "set back");
      }
    }
  }

  #clearSocket(): void {
    const { socket, dryRun } = this.#options;
    if (lstatSync(socket, { throwIfNoEntry: false })?.isSocket()) {
      if (!dryRun) rmSync(socket, { force: true });
      this.#say("file", socket);
    }
    this.#clearDirectory(dirname(socket), name => join(dirname(socket), name) === socket);
  }

  #clearState(): void {
    const { state, dryRun } = this.#options;
    for (const name of namesIn(state).filter(isState)) {
      if (!dryRun) rmSync(join(state, name), { recursive: true, force: true });
      this.#say("file", join(state, name));
    }
    this.#clearDirectory(state, isState);
  }

  /** One that is empty but for what goes anyway, and that is ours: of podlane's name, or made by the agent, so that only root may look into it. */
  #clearDirectory(directory: string, goes: (name: string) => boolean): void {
    const found = statSync(directory, { throwIfNoEntry: false });
    const isOurs = basename(directory) === "podlane" || ((found?.mode ?? 0) & 0o777) === 0o700;
    if (!found?.isDirectory() || !isOurs || !namesIn(directory).every(goes)) return;
    // A mount point, as in a container, cannot go, which is no fault.
    try {
      if (!this.#options.dryRun) rmdirSync(directory);
      this.#say("directory", directory);
    } catch (error) {
      this.#notes.push(`${directory} stays: ${(error as Error).message}`);
    }
  }

  #say(what: Removal["what"], name: string, change: Removal["change"] = "removed"): void {
    this.#removals.push({ what, name, change });
  }

  #stays(what: Removal["what"], name: string, why: string): void {
    this.#say(what, name, "stays");
    this.#notes.push(`${name}: ${why}`);
  }
}

function isState(name: string): boolean {
  return name === "del-queue" || stateFile.test(name);
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).sort() : [];
}

function tableName(table: number): string {
  return table === MAIN_TABLE ? "main" : String(table);
}
