/** The agent's side of CNI: one call in, one answer out. */
import { openRtnetlink } from "../../kernel/index.ts";
import type { Rtnetlink } from "../../kernel/types.ts";
import { compareOctets, formatPrefix } from "../../net/address.ts";
import { hexOf } from "../../net/octets.ts";
import type { Logger } from "../../platform/log.ts";
import type { CniAnswer } from "../http.ts";
import { type Key, keyText, type Reservation } from "../ipam/book.ts";
import { Ledger } from "../ipam/ledger.ts";
import { CniError, ErrorCode, formatError } from "../protocol/error.ts";
import { type CniRequest, keyOf, parseRequest, type RawRequest, versionOf } from "../protocol/request.ts";
import {
  type AttachmentResult,
  addressesOf,
  checkIpVersions,
  formatResult,
  hasDefaultRoute,
  readPreviousResult,
  requirePreviousResult,
} from "../protocol/result.ts";
import { formatVersions } from "../protocol/version.ts";
import type { AttachmentGuard, AttachmentView, AttachProblem, PodPlan, RangeView } from "../types.ts";
import { Attachments } from "./attachments.ts";
import { inspectBandwidth, limitBandwidth } from "./bandwidth.ts";
import { nodeAddresses } from "./conflicts.ts";
import { httpStatus, LEDGER_REMEDY, toCniError } from "./errors.ts";
import { AddFailures } from "./failures.ts";
import { FormerSysctls } from "./former-sysctls.ts";
import { requireFreePorts } from "./host-ports.ts";
import { hostInterfaceName, podLinkAlias, podLinkMode, randomMac } from "./names.ts";
import { nodeProblems } from "./node.ts";
import { NodeSide } from "./node-side.ts";
import { requireNoInterface, requirePodNetns } from "./pod.ts";
import { queueFile, removeQueued } from "./queue.ts";
import { Reconciliation } from "./reconciliation.ts";

export interface CniHandlerOptions {
  /** The ledger stands here; created where it is absent. */
  stateDir: string;
  /** Default: `STATEDIR/del-queue`, which is the plugin's default when stateDir is /var/lib/podlane. */
  queueDir?: string;
  /** The plan at start. */
  plan: () => PodPlan;
  log: Omit<Logger, "child">;
  /** now: milliseconds since the epoch; monotonic: milliseconds that never jump. */
  clock: { now(): number; monotonic(): number };
  /** Of the node's namespace, which must be that of this process. Default: a socket of its own. */
  netlink?: Rtnetlink;
  /** Milliseconds that a freed address rests. Default 30000. */
  quarantine?: number;
  /** Default: that of the running kernel. */
  bootId?: string;
  /** Told what was put right on the node's side, in words. */
  mended?: (texts: string[]) => void;
  /** Told when held() may have changed other than by applyPlan(). */
  heldChanged?: () => void;
  guard?: AttachmentGuard;
}

export interface CniHandler {
  /** Answers one call of the plugin. Never rejects. */
  handle(request: RawRequest): Promise<CniAnswer>;
  /** Puts back what somebody undid on the node's side of the pods. Never throws: what cannot be done is a problem. */
  look(): AttachProblem[];
  /** From now on pods are attached like this. What runs stays as it is. Never throws: what cannot be done is a problem. */
  applyPlan(plan: PodPlan): AttachProblem[];
  /** Why no pod can be attached now, as of the last look; undefined = pods can be. */
  obstacle(): CniError | undefined;
  /** What is wrong now: with the plan, with the ledger, with the last calls. */
  problems(): AttachProblem[];
  attachments(): AttachmentView[];
  ranges(): RangeView[];
  /** Addresses of pods that no range of the plan explains, `ADDRESS/32` or `/128`, in order: pods that outlived a change of it. */
  held(): string[];
  /**
   * Looks at packet filters, carries out queued DELs, releases attachments whose namespace is gone, removes interfaces that nobody owns. Runs once at
   * start; call it again about each minute. Returns how many attachments and interfaces it removed.
   */
  sweep(): Promise<number>;
  /** The node leaves for good: removes what was added to packet filters of others. Never rejects. */
  takeBack(): Promise<void>;
  close(): void;
}

type Attach = Extract<CniRequest, { command: "ADD" | "CHECK" }>;

const CHECK_ATTEMPTS = 5;
const CHECK_DELAY = 100;

/** Throws JournalError where the ledger cannot be used, NetlinkError where there is no rtnetlink. */
export function createCniHandler(options: CniHandlerOptions): CniHandler {
  return new Handler(options);
}

/** `mode`: see AttachmentView. */
function viewOf(reservation: Reservation, mode?: PodPlan["mode"]): AttachmentView {
  const { network, containerId, ifname, netns, hostInterface, addresses, confirmed, at, pod, mac, ports } = reservation;
  const state = confirmed ? "attached" : "reserved";
  const optional = { ...(pod && { pod }), ...(mac !== undefined && { mac }), ...(ports && { ports }), ...(mode && { mode }) };
  return { network, containerId, ifname, netns, hostInterface, addresses, state, since: at, ...optional };
}

class Handler implements CniHandler {
  readonly #options: CniHandlerOptions;
  readonly #queueDirectory: string;
  readonly #ledger: Ledger;
  readonly #netlink: Rtnetlink;
  readonly #attachments: Attachments;
  readonly #nodeSide: NodeSide;
  readonly #reconciliation: Reconciliation;
  readonly #failures = new AddFailures();
  readonly #ready: Promise<unknown>;

  constructor(options: CniHandlerOptions) {
    const { stateDir, queueDir: queueDirectory = `${stateDir}/del-queue`, log, mended, heldChanged } = options;
    this.#options = options;
    this.#queueDirectory = queueDirectory;
    const ledger = new Ledger(stateDir, { ...options, now: () => options.clock.now() });
    this.#ledger = ledger;
    const netlink = options.netlink ?? openRtnetlink();
    this.#netlink = netlink;
    if (ledger.damage.length > 0)
      log.error({ file: ledger.file, damage: ledger.damage }, "the address ledger was damaged; what was readable is kept");
    const retiredChanged = (forgotten: boolean) => {
      heldChanged?.();
      // With the range its gateway goes.
      if (forgotten) this.#nodeSide.look();
    };
    const released = (hostInterface: string) => options.guard?.released(hostInterface);
    const attachments = new Attachments({ ledger, netlink, queueDirectory, log, retiredChanged, released });
    this.#attachments = attachments;
    this.#reconciliation = new Reconciliation({ ledger, netlink, attachments, queueDirectory, log, adopted: heldChanged });
    this.#reconciliation.recover();
    this.#nodeSide = new NodeSide(options.plan(), { ledger, sysctls: new FormerSysctls(stateDir), netlink, log, mended });
    this.#ready = this.#reconciliation.sweep().catch(error => log.error({ err: error }, "the sweep at start failed"));
  }

  async handle(raw: RawRequest): Promise<CniAnswer> {
    const { clock, log } = this.#options;
    const started = clock.monotonic();
    const command = raw.env.CNI_COMMAND;
    const about = { command, container: raw.env.CNI_CONTAINERID, ifname: raw.env.CNI_IFNAME, trace: raw.env.TRACEPARENT };
    try {
      const request = parseRequest(raw);
      await this.#ready;
      const body = await this.#dispatch(request);
      if (command === "ADD") this.#failures.succeeded();
      const milliseconds = Math.round((clock.monotonic() - started) * 10) / 10;
      if (command === "STATUS" || command === "VERSION") log.debug(about, `${command} done`);
      else log.info({ ...about, milliseconds }, `${command} done`);
      return { status: 200, body: body === undefined ? "" : JSON.stringify(body), code: 0 };
    } catch (error) {
      const known = toCniError(error);
      if (command === "ADD") this.#failures.failed(known, clock.now());
      const answer = formatError(known, versionOf(raw.stdin));
      log.warn({ ...about, code: answer.code, details: answer.details }, `${command} failed: ${answer.msg}`);
      return { status: httpStatus(answer.code), body: JSON.stringify(answer), code: answer.code };
    }
  }

  applyPlan(plan: PodPlan): AttachProblem[] {
    this.#nodeSide.apply(plan);
    return [...this.#nodeSide.rangeProblems(), ...this.#nodeSide.problems()];
  }

  look(): AttachProblem[] {
    this.#nodeSide.look();
    return [...this.#nodeSide.rangeProblems(), ...this.#nodeSide.problems()];
  }

  obstacle(): CniError | undefined {
    const refusal = ({ message, remedy }: AttachProblem) => new CniError(ErrorCode.notAvailable, message, remedy);
    const problem = this.#causes().find(({ severity }) => severity === "error");
    if (problem) return refusal(problem);
    if (this.#ledger.pools().some(pool => !pool.retired)) return undefined;
    // Where one of several cannot be used, the node still has pods; here it has none.
    const [unusable] = this.#nodeSide.rangeProblems();
    if (unusable) return refusal(unusable);
    return new CniError(
      ErrorCode.notAvailable,
      "no pod CIDR is assigned to this node yet",
      "Kubernetes assigns it (kube-controller-manager --allocate-node-cidrs), or the PodNetwork names the ranges",
    );
  }

  problems(): AttachProblem[] {
    const causes = [...this.#causes(), ...this.#nodeSide.rangeProblems(), ...this.#nodeSide.filterProblems()];
    const failed = this.#failures.problem();
    return [
      ...causes,
      // A consequence, where the cause stands there already.
      ...(failed && causes.every(({ severity }) => severity === "warning") ? [failed] : []),
      ...this.#reconciliation.problems(),
    ];
  }

  attachments(): AttachmentView[] {
    const modes = new Map(this.#netlink.links().map(link => [link.name, podLinkMode(link)]));
    return this.#ledger.reservations().map(reservation => viewOf(reservation, modes.get(reservation.hostInterface)));
  }

  ranges(): RangeView[] {
    return this.#ledger.pools().map(pool => ({ prefix: pool.text, ...this.#ledger.usage(pool) }));
  }

  held(): string[] {
    const held = this.#ledger.held().sort((a, b) => a.length - b.length || compareOctets(a, b));
    return held.map(address => formatPrefix({ address, length: address.length * 8 }));
  }

  takeBack(): Promise<void> {
    return this.#nodeSide.takeBack();
  }

  async sweep(): Promise<number> {
    const [count] = await Promise.all([this.#reconciliation.sweep(), this.#nodeSide.lookAtFilters(true)]);
    return count;
  }

  close(): void {
    this.#ledger.close();
    if (!this.#options.netlink) this.#netlink.close();
  }

  #dispatch(request: CniRequest): Promise<object | undefined> {
    switch (request.command) {
      case "VERSION":
        return Promise.resolve(formatVersions(request.cniVersion));
      case "STATUS":
        return this.#status();
      case "GC":
        return this.#collectGarbage(request);
      case "DEL":
        return this.#attachments.inTurn(keyOf(request), () => this.#attachments.remove(keyOf(request)));
      case "CHECK":
        return this.#attachments.inTurn(keyOf(request), () => this.#check(request));
      case "ADD":
        return this.#attachments.inTurn(keyOf(request), () => this.#add(request));
    }
  }

  /** The order is that of reconciliation.ts. */
  async #add(request: Attach): Promise<object> {
    const { config, netns, pod } = request;
    const key = keyOf(request);
    this.#nodeSide.requireUsable();
    const previous = config.prevResult === undefined ? undefined : readPreviousResult(config.prevResult);
    if (previous) checkIpVersions(previous, config.cniVersion);
    const inode = requirePodNetns(netns);
    requireNoInterface(netns, key.ifname);
    // A DEL of an earlier attempt must not be replayed on this one.
    removeQueued(queueFile(this.#queueDirectory, key));
    const hostInterface = hostInterfaceName(key);
    this.#requireForeignless(key, hostInterface);
    requireFreePorts(config.ports, hostInterface, this.#ledger.reservations());
    const mac = config.mac ?? randomMac();
    const reservation = await this.#attachments.reserve({
      ...key,
      netns,
      netnsInode: inode,
      hostInterface,
      requested: config.ips,
      foreign: nodeAddresses(this.#netlink, this.#ledger.pools()),
      ...(pod && { pod }),
      ...(config.bandwidth && { bandwidth: config.bandwidth }),
      mac: hexOf(mac, ":"),
      ...(config.ports.length > 0 && { ports: config.ports }),
    });
    let result: AttachmentResult;
    try {
      // What an ADD that was killed has left.
      await this.#attachments.removeInterface(hostInterface);
      await this.#options.guard?.prepare(viewOf(reservation));
      const point = this.#nodeSide.attachPoint();
      result = point.attach({ ...reservation, alias: podLinkAlias(point.mode, key, reservation.addresses), mac });
      limitBandwidth(this.#netlink, reservation);
      this.#ledger.confirm(key);
      const admitted = this.#options.guard?.admit(viewOf(reservation, point.mode));
      const [, unheard] = await Promise.all([this.#ledger.durable(), point.announce(reservation), admitted]);
      if (unheard !== undefined)
        this.#options.log.warn(
          { link: hostInterface, addresses: reservation.addresses },
          `${unheard}: others may know another owner of its addresses for a while`,
        );
    } catch (error) {
      // The first failure is the one to tell; what rolling back cannot undo, DEL and sweep() find.
      await this.#attachments.remove(key).catch(() => undefined);
      throw error;
    }
    return formatResult(result, config.cniVersion, config.dns, previous);
  }

  /** Two networks cannot give one container the same interface name; the node's end has its name from these two. */
  #requireForeignless(key: Key, hostInterface: string): void {
    const other = this.#ledger.reservations().find(found => found.hostInterface === hostInterface && found.network !== key.network);
    if (other)
      throw new CniError(
        ErrorCode.conflict,
        `network ${other.network} has attached ${key.ifname} of container ${key.containerId} already`,
        "use another CNI_IFNAME",
      );
  }

  async #check(request: Attach): Promise<undefined> {
    const key = keyOf(request);
    const previous = requirePreviousResult(request.config.prevResult);
    checkIpVersions(previous, request.config.cniVersion);
    const reservation = this.#ledger.get(key);
    if (!reservation?.confirmed) {
      throw new CniError(
        ErrorCode.unknownContainer,
        `network ${key.network} has no attachment ${key.ifname} of container ${key.containerId}`,
        "call ADD",
      );
    }
    requirePodNetns(request.netns);
    // Their lengths are the mode's, and are compared with those in the pod.
    const claimed = addressesOf(previous, key.ifname).map(withoutLength);
    const foreign = reservation.addresses.filter(address => !claimed.includes(withoutLength(address)));
    if (foreign.length > 0) {
      throw new CniError(
        ErrorCode.attachmentChanged,
        `prevResult does not list ${foreign.join(", ")}, which ${key.ifname} of container ${key.containerId} has`,
        "recreate the pod",
      );
    }
    const defaultRoutes = ([4, 6] as const).filter(family => hasDefaultRoute(previous, family));
    let found: string[] = [];
    for (let attempt = 0; attempt < CHECK_ATTEMPTS; attempt++) {
      const known = { ...reservation, netns: request.netns, defaultRoutes };
      found = [...this.#nodeSide.attachPointOf(reservation.hostInterface).inspect(known), ...inspectBandwidth(this.#netlink, known)];
      if (found.length === 0) return;
      // Plugins later in the list may still be at work.
      await new Promise(resolve => setTimeout(resolve, CHECK_DELAY));
    }
    throw new CniError(ErrorCode.attachmentChanged, found.join("; "), "recreate the pod");
  }

  /**
   * An empty list releases everything. None at all is what a runtime sends that has no list, as `cnitool gc` does: then nothing that lives
   * is given up, and what has no live namespace is.
   */
  async #collectGarbage({ config }: Extract<CniRequest, { command: "GC" }>): Promise<undefined> {
    const valid = config.validAttachments && new Set(config.validAttachments.map(entry => keyText({ network: config.name, ...entry })));
    const outcomes = await Promise.allSettled(
      this.#ledger
        .reservations()
        .filter(reservation => reservation.network === config.name && !valid?.has(keyText(reservation)))
        // At once: the kernel then removes many interfaces in the time of one.
        .map(found =>
          valid ? this.#attachments.inTurn(found, () => this.#attachments.remove(found)) : this.#attachments.releaseIfDead(found),
        ),
    );
    const failed = outcomes.find(({ status }) => status === "rejected") as PromiseRejectedResult | undefined;
    if (failed) throw failed.reason;
  }

  async #status(): Promise<undefined> {
    // The kernel's part may have been undone, or mended, since the last look.
    this.#nodeSide.look();
    const obstacle = this.obstacle();
    if (obstacle) throw obstacle;
  }

  /** What can keep all pods from being attached. */
  #causes(): AttachProblem[] {
    return [...nodeProblems(this.#nodeSide.modesInUse().includes("bridge")), ...this.#ledgerProblem(), ...this.#nodeSide.problems()];
  }

  #ledgerProblem(): AttachProblem[] {
    const obstacle = this.#ledger.obstacle();
    if (obstacle === undefined) return [];
    return [
      {
        severity: "error",
        reason: "LedgerUnusable",
        field: this.#ledger.file,
        message: `no pod can be attached: ${obstacle}`,
        remedy: LEDGER_REMEDY,
      },
    ];
  }
}

function withoutLength(address: string): string {
  return address.split("/")[0];
}
