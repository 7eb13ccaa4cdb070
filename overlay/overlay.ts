/**
 * Tunnels to other nodes (VXLAN, RFC 7348). The plan says who has an end; a next hop of BGP that is such an end says what goes through: the speaker asks
 * around() for each, and what is said there is all the control plane there is. Devices and entries follow the plan by differences, are adopted from a former
 * agent, and put back when somebody undid something.
 */
import { release } from "node:os";
import type { KernelAccess } from "../kernel/index.ts";
import type { KernelEvent, Link, NeighbourChange, NextHop } from "../kernel/types.ts";
import {
  type Address,
  compareOctets,
  contains,
  familyOf,
  formatAddress,
  type IpFamily,
  type Prefix,
  parseAddress,
} from "../net/address.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Finding } from "../platform/problem.ts";
import { ensureDevice, isOwnAddress, OverlayConflict, ofFamily } from "./device.ts";
import { type Alias, differences, entriesFor, entriesForAliases } from "./entries.ts";
import { deviceNames, isOverlayLink, tunnelGateway } from "./names.ts";
import { leavesChecksums } from "./offload.ts";
import { findStrictUplinks } from "./reverse-path.ts";
import { findTwins } from "./twins.ts";
import type { OverlayPlan } from "./types.ts";

export interface OverlayParts {
  kernel: KernelAccess;
  clock: Clock;
  log: Pick<Logger, "info" | "warn">;
  /** Told what was put right. */
  mended?(texts: string[]): void;
}

/** Milliseconds from a kernel event to a look: what undoes something mostly undoes several things. */
const LOOK_DELAY = 50;
/** Milliseconds that a device is kept for the routes that still lead over it. */
const REMOVE_DELAY = 3000;
/** Entries changed in one turn. */
const BATCH = 256;
/** With more ends that came or went, all next hops are asked about again. */
const MANY = 256;
const families = [4, 6] as const;
const anyIpv6 = new Uint8Array(16);

type Listener = (changed: readonly Address[] | "all") => void;

export class Overlay {
  readonly #parts: OverlayParts;
  #plan: OverlayPlan | undefined;
  /** By family: the device, where there is one and it is as it shall be. */
  #devices: Partial<Record<IpFamily, Link>> = {};
  /** Names of nodes by their ends. */
  #names = new Map<string, string>();
  /** The same by their gateways of IPv6. */
  #gateways = new Map<string, string>();
  /** Next hops that stand for an end of the other family, by their octets. */
  #aliases = new Map<string, Alias>();
  /** Ends of other nodes in order. */
  #ends: Record<IpFamily, Address[]> = { 4: [], 6: [] };
  #changes: NeighbourChange[] = [];
  #writing = false;
  /** Something happened to a device of ours. */
  #ownTouched = false;
  #problems: Finding[] = [];
  /** Of the plan alone. */
  #planProblems: Finding[] = [];
  /** Of entries, which are written after the look. */
  #entryProblem: Finding | undefined;
  readonly #listeners = new Set<Listener>();
  #stopWatching: (() => void) | undefined;
  #lookTimer: Timer | undefined;
  #removeTimer: Timer | undefined;
  #closed = false;

  constructor(parts: OverlayParts) {
    this.#parts = parts;
  }

  /** Never throws: what cannot be done is a problem. Routes follow once the speaker has heard; until then a device that goes stays. */
  apply(plan: OverlayPlan | undefined): void {
    const before = { mode: this.#plan?.mode, ways: this.#ways() };
    this.#plan = plan;
    this.#planProblems = plan ? findTwins(plan) : [];
    const own = [...(plan?.local ?? [])].map(text => familyOf(parseAddress(text)));
    this.#aliases = new Map(plan?.nodes.flatMap(node => aliasesOf(node, own)).map(alias => [keyOf(alias.address), alias]));
    this.#names = new Map(
      plan?.nodes.flatMap(({ name, addresses, aliases = [] }) => [
        ...addresses.map(text => [keyOf(parseAddress(text)), name] as const),
        // Without an end in a family of ours it leads nowhere.
        ...aliases.flatMap(text => (this.endOf(parseAddress(text)) ? [[keyOf(parseAddress(text)), name] as const] : [])),
      ]),
    );
    this.#gateways = new Map(
      plan?.nodes.flatMap(({ name, addresses }) => addresses.map(text => [keyOf(tunnelGateway(anyIpv6, parseAddress(text))), name])),
    );
    const all = (plan?.nodes ?? []).flatMap(({ addresses }) => addresses);
    for (const family of families) this.#ends[family] = ofFamily(all, family).sort(compareOctets);
    this.#follow(plan !== undefined);
    const moved = this.#ensure([], true);
    if (moved || before.mode !== plan?.mode) this.#tell("all");
    else this.#tell(differing(before.ways, this.#ways()));
    this.#removeLater();
  }

  /** Puts back what somebody undid. Never throws. */
  look(): void {
    this.#look(true);
  }

  #look(entriesToo: boolean): void {
    if (this.#closed || !this.#plan) return;
    const mended: string[] = [];
    const moved = this.#ensure(mended, entriesToo);
    for (const text of mended) this.#parts.log.warn({}, `overlay: ${text}`);
    if (mended.length > 0) this.#parts.mended?.(mended);
    if (moved) this.#tell("all");
  }

  problems(): Finding[] {
    return [...this.#planProblems, ...this.#problems, ...(this.#entryProblem ? [this.#entryProblem] : [])];
  }

  /** The way through a tunnel to a next hop that is reachable, `connected`: on a segment with this node. undefined: it goes without one. */
  around(nextHop: Address, connected: boolean): NextHop | undefined {
    if (!this.#plan || (connected && this.#plan.mode === "CrossSubnet") || !this.#names.has(keyOf(nextHop))) return undefined;
    const end = this.endOf(nextHop) ?? nextHop;
    const device = this.#devices[familyOf(end)];
    // A link-local gateway is on the link without a word.
    return device && { gateway: tunnelGateway(nextHop, end), ifindex: device.index, ...(nextHop.length === 4 && { onlink: true }) };
  }

  /** The end by which a next hop is reached that stands for it in another family. */
  endOf(nextHop: Address): Address | undefined {
    return this.#aliases.size === 0 ? undefined : this.#aliases.get(keyOf(nextHop))?.end;
  }

  /** The next hops whose ends are in this prefix. */
  behind(prefix: Prefix): readonly Address[] {
    if (this.#aliases.size === 0) return [];
    const inside = ({ end }: Alias) => familyOf(end) === prefix.family && contains(prefix, end);
    return [...this.#aliases.values()].filter(inside).map(({ address }) => address);
  }

  /** Tunnels themselves need the routes of this prefix: their packets would follow it into a tunnel, again and again. */
  needs(prefix: Prefix): boolean {
    const ends = this.#ends[prefix.family];
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareOctets(ends[middle], prefix.address) < 0) low = middle + 1;
      else high = middle;
    }
    return low < ends.length && contains(prefix, ends[low]);
  }

  /** "through the tunnel to node2", for a next hop that around() gave. */
  words({ gateway, ifindex }: NextHop): string | undefined {
    if (!gateway || !families.some(family => this.#devices[family]?.index === ifindex)) return undefined;
    const name = this.#names.get(keyOf(gateway)) ?? this.#gateways.get(keyOf(gateway));
    return `through the tunnel to ${name === undefined ? formatAddress(gateway) : `node ${name}`}`;
  }

  /** Called with the ends for which around() and needs() may answer otherwise now. Returns how to stop. */
  onChange(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All stays in the kernel: forwarding outlives the agent. */
  close(): void {
    this.#closed = true;
    this.#stopWatching?.();
    this.#lookTimer?.cancel();
    this.#removeTimer?.cancel();
  }

  /** Of each next hop in words: whose it is, and what end it leads to. */
  #ways(): Map<string, string> {
    return new Map([...this.#names].map(([key, name]) => [key, `${name} ${this.#aliases.get(key)?.end.join(".")}`]));
  }

  #tell(changed: readonly Address[] | "all"): void {
    if (changed.length === 0) return;
    for (const listener of this.#listeners) listener(changed === "all" || changed.length <= MANY ? changed : "all");
  }

  #follow(on: boolean): void {
    if (!on) {
      this.#stopWatching?.();
      this.#stopWatching = undefined;
    } else if (!this.#closed) this.#stopWatching ??= this.#parts.kernel.watch(events => this.#onEvents(events), ["link", "address"]);
  }

  /** Pods bring events as well, and entries may be thousands: they are read again where something happened to a device of ours. */
  #onEvents(events: readonly KernelEvent[]): void {
    const names: readonly string[] = Object.values(deviceNames);
    this.#ownTouched ||= events.some(event => event.type === "overrun" || (event.type === "link" && names.includes(event.link.name)));
    this.#lookTimer ??= this.#parts.clock.after(LOOK_DELAY, () => {
      const entriesToo = this.#ownTouched;
      this.#lookTimer = undefined;
      this.#ownTouched = false;
      this.#look(entriesToo);
    });
  }

  /** Makes all as it shall be; whether ways of around() have changed. */
  #ensure(mended: string[], entriesToo: boolean): boolean {
    const indexes = () => families.map(family => this.#devices[family]?.index).join();
    const before = indexes();
    this.#problems = [];
    const devices: Partial<Record<IpFamily, Link>> = {};
    for (const family of families) {
      const device = this.#ensureFamily(family, mended);
      if (device) devices[family] = device;
    }
    this.#devices = devices;
    const moved = before !== indexes();
    if (moved || entriesToo) this.#ensureEntries();
    return moved;
  }

  #ensureFamily(family: IpFamily, mended: string[]): Link | undefined {
    const plan = this.#plan;
    const [local] = plan ? ofFamily(plan.local, family) : [];
    if (!plan || !local) return undefined;
    const { netlink } = this.#parts.kernel;
    const { vni, port, checksumOffload } = plan;
    try {
      const offload = leavesChecksums(checksumOffload, release());
      const sources = plan.sources.map(parseAddress);
      const ipv6 = [local, ...sources, ...[...this.#aliases.values()].map(({ address }) => address)].some(({ length }) => length === 16);
      const device = ensureDevice(netlink, { family, vni, port, local, sources, ipv6, checksumOffload: offload }, mended);
      if (!isOwnAddress(netlink, local)) this.#problems.push(strayEnd(local));
      const strict = family === 4 && plan.plain !== undefined ? findStrictUplinks(netlink, local, plan.plain) : undefined;
      if (strict) this.#problems.push(strict);
      return device;
    } catch (error) {
      const isConflict = error instanceof OverlayConflict;
      const message = isConflict ? error.message : `there is no tunnel over IPv${family}: ${(error as Error).message}`;
      const remedy = isConflict ? error.remedy : "correct this, or set overlay: Never; it is tried again each minute";
      this.#problems.push({
        severity: "error",
        reason: isConflict ? "OverlayConflict" : "OverlayFailed",
        field: "overlay",
        message,
        remedy,
      });
      return undefined;
    }
  }

  #ensureEntries(): void {
    const { netlink } = this.#parts.kernel;
    this.#changes = [];
    this.#entryProblem = undefined;
    for (const family of families) {
      const index = this.#devices[family]?.index;
      if (index === undefined) continue;
      const found = [...netlink.neighbours("bridge", index), ...netlink.neighbours(4, index), ...netlink.neighbours(6, index)];
      const aliases = [...this.#aliases.values()].filter(({ end }) => familyOf(end) === family);
      const wanted = [...entriesFor(this.#ends[family], index), ...entriesForAliases(aliases, index)];
      for (const change of differences(found, wanted)) this.#changes.push(change);
    }
    this.#write();
  }

  /** A part now, so that a few stand before any route needs them, and the rest turn by turn. */
  #write(): void {
    const some = this.#changes.splice(0, BATCH);
    if (some.length === 0) return;
    const failures = this.#parts.kernel.netlink.batchNeighbours(some);
    // One that is gone by itself need not be removed.
    const refused = failures.find(({ index, error }) => some[index].action === "set" || (error as { code?: string }).code !== "ENOENT");
    if (refused) {
      const message = `the kernel refuses an entry for a tunnel, so pods of that node are not reached: ${refused.error.message}`;
      const remedy =
        "see the kernel's log, and the limits net.ipv4.neigh.default.gc_thresh3 and that of IPv6; it is tried again each minute";
      this.#entryProblem ??= { severity: "error", reason: "OverlayFailed", field: "overlay", message, remedy };
    }
    if (this.#changes.length === 0 || this.#writing) return;
    this.#writing = true;
    setImmediate(() => {
      this.#writing = false;
      if (!this.#closed) this.#write();
    });
  }

  /** Devices of ours that the plan does not want: those of a former agent, too. */
  #removeLater(): void {
    this.#removeTimer?.cancel();
    this.#removeTimer = undefined;
    if (this.#closed || this.#unwanted().length === 0) return;
    this.#removeTimer = this.#parts.clock.after(REMOVE_DELAY, () => {
      const { netlink } = this.#parts.kernel;
      for (const { index, name } of this.#unwanted()) {
        this.#parts.log.info({}, `overlay: ${name} is removed`);
        netlink.deleteLink(index);
      }
    });
  }

  #unwanted(): Link[] {
    const wanted = new Set(this.#plan?.local.map(text => (text.includes(":") ? 6 : 4)));
    const links = this.#parts.kernel.netlink.links().filter(isOverlayLink);
    return links.filter(({ name }) => !families.some(family => wanted.has(family) && name.endsWith(String(family))));
  }
}

function keyOf(address: Address): string {
  return Buffer.from(address).toString("latin1");
}

/** The kernel sends nothing from an address that the node does not have, and says nothing of it. */
function strayEnd(local: Address): Finding {
  const message = `no link of the node has its InternalIP ${formatAddress(local)}: nothing goes through tunnels over IPv${familyOf(local)}`;
  const remedy = "give it back to its link, or correct the InternalIP of the Node object (kubelet --node-ip)";
  return { severity: "error", reason: "OverlayFailed", field: "overlay", message, remedy };
}

/** Each behind the first end of another family that this node has as well. */
function aliasesOf({ addresses, aliases = [] }: OverlayPlan["nodes"][number], own: readonly IpFamily[]): Alias[] {
  const ends = addresses.map(parseAddress).filter(end => own.includes(familyOf(end)));
  return aliases.map(parseAddress).flatMap(address => {
    const end = ends.find(one => familyOf(one) !== familyOf(address));
    return end ? [{ address, end }] : [];
  });
}

/** Next hops that are in one of both alone, another node's, or lead to another end. */
function differing(before: ReadonlyMap<string, string>, now: ReadonlyMap<string, string>): Address[] {
  const keys = [...new Set([...before.keys(), ...now.keys()])].filter(key => before.get(key) !== now.get(key));
  return keys.map(key => Uint8Array.from(Buffer.from(key, "latin1")));
}
