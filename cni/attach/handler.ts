/**
 * The agent's side of CNI: one call in, one answer out. Calls for the same attachment follow one another; others do not wait
 * for them, except that kernel work other than removing is synchronous. The order of ADD is: address in the journal, interface, journal on the
 * disk, answer; of DEL: interface, address. So whatever instant a crash picks, an address is never with two pods, and what is
 * left over is found by sweep().
 */
import { isNetns, netnsInode } from "../../kernel/netns.ts";
import { readOnlyRemedy } from "../../kernel/requirements.ts";
import { openRtnetlink } from "../../kernel/rtnetlink.ts";
import type { Link, Rtnetlink } from "../../kernel/types.ts";
import { compareOctets, formatPrefix } from "../../net/address.ts";
import type { CniAnswer } from "../http.ts";
import { AllocationError, addressOf, type Key, keyText, type Reservation } from "../ipam/book.ts";
import { JournalError } from "../ipam/journal.ts";
import { Ledger, type NewReservation } from "../ipam/ledger.ts";
import { CniError, ErrorCode, formatError } from "../protocol/error.ts";
import { type CniRequest, parseRequest, type RawRequest, versionOf } from "../protocol/request.ts";
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
import type { AttachmentView, AttachPlan, AttachProblem } from "../types.ts";
import { type Adoption, adopt, releaseOutdated } from "./adoption.ts";
import { announcePod } from "./announce.ts";
import { ensureBridge } from "./bridge.ts";
import { findConflicts, nodeAddresses } from "./conflicts.ts";
import { AddFailures } from "./failures.ts";
import { ForwardPolicy } from "./forward-policy.ts";
import { KeyedLock } from "./lock.ts";
import { hostInterfaceName, isPodLink, parsePodAlias, podLinkAlias } from "./names.ts";
import { nodeProblems } from "./node.ts";
import { mendNodeSide } from "./node-side.ts";
import { checkPlan } from "./plan.ts";
import { attachPod, findPodLink, inspectPod, requireNoInterface, requirePodNetns } from "./pod.ts";
import { queueFile, readQueue, removeQueued } from "./queue.ts";
import { LinkRemover } from "./removal.ts";

/** The part of pino that cni uses. */
export interface CniLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface CniHandlerOptions {
  /** The ledger stands here; created where it is absent. */
  stateDir: string;
  /** Default: `STATEDIR/del-queue`, which is the plugin's default when stateDir is /var/lib/podlane. */
  queueDir?: string;
  /** The plan at start. */
  plan: () => AttachPlan;
  log: CniLog;
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
}

export interface CniHandler {
  /** Answers one call of the plugin. Never rejects. */
  handle(request: RawRequest): Promise<CniAnswer>;
  /** Puts back what somebody undid on the node's side of the pods. Never throws: what cannot be done is a problem. */
  look(): AttachProblem[];
  /** From now on pods are attached like this. What runs stays as it is. Never throws: what cannot be done is a problem. */
  applyPlan(plan: AttachPlan): AttachProblem[];
  /** What is wrong now: with the plan, with the ledger, with the last calls. */
  problems(): AttachProblem[];
  attachments(): AttachmentView[];
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

type ForTarget = Extract<CniRequest, { target: unknown }>;
type Attach = Extract<CniRequest, { command: "ADD" | "CHECK" }>;

const checkAttempts = 5;
const checkDelay = 100;
const ledgerRemedy = "make room on its file system, or make it writable; that is found by itself";

/** Throws JournalError where the ledger cannot be used, NetlinkError where there is no rtnetlink. */
export function createCniHandler(options: CniHandlerOptions): CniHandler {
  return new Handler(options);
}

class Handler implements CniHandler {
  readonly #options: CniHandlerOptions;
  readonly #ledger: Ledger;
  readonly #netlink: Rtnetlink;
  readonly #remover: LinkRemover;
  readonly #queueDir: string;
  readonly #locks = new KeyedLock();
  readonly #ready: Promise<unknown>;
  #plan: AttachPlan;
  /** Of the plan itself, and with what the kernel makes of it. */
  #planProblems: AttachProblem[] = [];
  #problems: AttachProblem[] = [];
  /** Interfaces of unknown pods. */
  #unexplained: string[] = [];
  readonly #failures = new AddFailures();
  readonly #forward = new ForwardPolicy();
  /** What they were looked at for last. */
  #passing = "";

  constructor(options: CniHandlerOptions) {
    this.#options = options;
    this.#queueDir = options.queueDir ?? `${options.stateDir}/del-queue`;
    this.#ledger = new Ledger(options.stateDir, { ...options, now: () => options.clock.now() });
    this.#netlink = options.netlink ?? openRtnetlink();
    this.#remover = new LinkRemover(this.#netlink);
    this.#plan = options.plan();
    if (this.#ledger.damage.length > 0)
      options.log.error(
        { file: this.#ledger.file, damage: this.#ledger.damage },
        "the address ledger was damaged; what was readable is kept",
      );
    this.#recover();
    this.applyPlan(this.#plan);
    this.#ready = this.#sweep().catch(error => options.log.error({ err: error }, "the sweep at start failed"));
  }

  async handle(raw: RawRequest): Promise<CniAnswer> {
    const started = this.#options.clock.monotonic();
    const command = raw.env.CNI_COMMAND;
    const about = { command, container: raw.env.CNI_CONTAINERID, ifname: raw.env.CNI_IFNAME, trace: raw.env.TRACEPARENT };
    try {
      const request = parseRequest(raw);
      await this.#ready;
      const body = await this.#dispatch(request);
      if (command === "ADD") this.#failures.succeeded();
      const milliseconds = Math.round((this.#options.clock.monotonic() - started) * 10) / 10;
      if (command === "STATUS" || command === "VERSION") this.#options.log.debug(about, `${command} done`);
      else this.#options.log.info({ ...about, milliseconds }, `${command} done`);
      return { status: 200, body: body === undefined ? "" : JSON.stringify(body) };
    } catch (error) {
      const known = toCniError(error);
      if (command === "ADD") this.#failures.failed(known, this.#options.clock.now());
      const answer = formatError(known, versionOf(raw.stdin));
      this.#options.log.warn({ ...about, code: answer.code, details: answer.details }, `${command} failed: ${answer.msg}`);
      return { status: httpStatus(answer.code), body: JSON.stringify(answer) };
    }
  }

  applyPlan(plan: AttachPlan): AttachProblem[] {
    const { prefixes, problems } = checkPlan(plan);
    this.#plan = plan;
    try {
      this.#ledger.setRanges(prefixes);
    } catch (error) {
      const known = toCniError(error);
      problems.push({ severity: "error", reason: "LedgerFailed", field: "podCidrs", message: known.message, remedy: known.details });
    }
    this.#planProblems = problems;
    this.look();
    void this.#lookAtFilters(false);
    return this.#problems;
  }

  look(): AttachProblem[] {
    const problems = [...this.#planProblems];
    // A range that cannot be used keeps nothing from the pods of the others.
    if (problems.every(({ severity, field }) => severity === "warning" || field.startsWith("podCidrs"))) {
      const attempt = (field: string, work: () => void) => {
        try {
          work();
        } catch (error) {
          const known = toCniError(error);
          problems.push({ severity: "error", reason: "NodeSetupFailed", field, message: known.message, remedy: known.details });
        }
      };
      attempt("bridgeName", () => {
        const { mended, problems: found } = mendNodeSide(this.#netlink, this.#plan, this.#ledger.pools(), this.#ledger.reservations());
        problems.push(...found);
        this.#tell(mended);
      });
      attempt("links", () => problems.push(...findConflicts(this.#netlink, this.#ledger.pools())));
    }
    this.#problems = problems;
    return problems;
  }

  problems(): AttachProblem[] {
    const causes = [...nodeProblems(), ...this.#ledgerProblem(), ...this.#problems, ...this.#forward.problems()];
    const failed = this.#failures.problem();
    return [
      ...causes,
      // A consequence, where the cause stands there already.
      ...(failed && causes.every(({ severity }) => severity === "warning") ? [failed] : []),
      ...this.#unexplained.map(
        (name): AttachProblem => ({
          severity: "warning",
          reason: "AddressUnknown",
          field: name,
          message: `the address ledger does not know the pod of the interface ${name}, and its alias is too long to say: its addresses may be given out again`,
          remedy: "recreate that pod",
        }),
      ),
    ];
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
        remedy: ledgerRemedy,
      },
    ];
  }

  attachments(): AttachmentView[] {
    return this.#ledger.reservations().map(({ network, containerId, ifname, netns, hostInterface, addresses, confirmed, at, pod }) => ({
      network,
      containerId,
      ifname,
      netns,
      hostInterface,
      addresses,
      state: confirmed ? "attached" : "reserved",
      since: at,
      ...(pod && { pod }),
    }));
  }

  held(): string[] {
    const held = this.#ledger.held().sort((a, b) => a.length - b.length || compareOctets(a, b));
    return held.map(address => formatPrefix({ address, length: address.length * 8 }));
  }

  /** Takes some time, as programs are asked: not for each look. `again`: also where nothing has changed on our side. */
  async #lookAtFilters(again: boolean): Promise<void> {
    if (this.#planProblems.some(({ field }) => field === "bridgeName")) return;
    const ranges = this.#ledger.pools().map(({ family, text }) => ({ family, text }));
    const passing = { bridge: this.#plan.bridgeName, ranges };
    const text = JSON.stringify(passing);
    if (!again && text === this.#passing) return;
    this.#passing = text;
    this.#tell(await this.#forward.look(passing));
  }

  async takeBack(): Promise<void> {
    this.#tell(await this.#forward.clear());
  }

  #tell(mended: string[]): void {
    for (const text of mended) this.#options.log.warn({}, `pods: ${text}`);
    if (mended.length > 0) this.#options.mended?.(mended);
  }

  async sweep(): Promise<number> {
    const [count] = await Promise.all([this.#sweep(), this.#lookAtFilters(true)]);
    return count;
  }

  async #sweep(): Promise<number> {
    await this.#replayQueue();
    const removed = await this.#releaseDead();
    const contradictions = this.#adopt();
    await Promise.all(
      contradictions.map(async ({ link, reason }) => {
        await this.#remover.remove(link.index);
        this.#options.log.error({ link: link.name, alias: link.alias }, `removed an interface that belongs to no attachment: ${reason}`);
      }),
    );
    return removed + contradictions.length;
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
      default:
        return this.#locks.run(keyText(keyOf(request)), () => this.#forTarget(request));
    }
  }

  async #forTarget(request: ForTarget): Promise<object | undefined> {
    if (request.command === "DEL") return this.#remove(keyOf(request));
    if (request.command === "CHECK") return this.#check(request);
    return this.#add(request);
  }

  async #add(request: Attach): Promise<object> {
    const { config, netns, pod } = request;
    const key = keyOf(request);
    this.#requirePlan();
    const previous = config.prevResult === undefined ? undefined : readPreviousResult(config.prevResult);
    if (previous) checkIpVersions(previous, config.cniVersion);
    const inode = requirePodNetns(netns);
    requireNoInterface(netns, key.ifname);
    // A DEL of an earlier attempt must not be replayed on this one.
    removeQueued(queueFile(this.#queueDir, key));
    const hostInterface = hostInterfaceName(key);
    this.#requireForeignless(key, hostInterface);
    const reservation = await this.#reserve({
      ...key,
      netns,
      netnsInode: inode,
      hostInterface,
      requested: config.ips,
      foreign: nodeAddresses(this.#netlink),
      ...(pod && { pod }),
    });
    let result: AttachmentResult;
    try {
      // What an ADD that was killed has left.
      await this.#removeInterface(hostInterface);
      const bridge = ensureBridge(this.#netlink, this.#plan, this.#ledger.pools());
      const alias = podLinkAlias(key, reservation.addresses);
      result = attachPod(this.#netlink, { ...reservation, alias, bridge, hairpin: this.#plan.hairpin, mac: config.mac });
      this.#ledger.confirm(key);
      await Promise.all([this.#ledger.durable(), this.#announce(reservation, bridge.index)]);
    } catch (error) {
      // The first failure is the one to tell; what rolling back cannot undo, DEL and sweep() find.
      await this.#remove(key).catch(() => undefined);
      throw error;
    }
    return formatResult(result, config.cniVersion, config.dns, previous);
  }

  /** Where no address is free, attachments that are dead give theirs, and then those that have rested longest need not rest to the end. */
  async #reserve(wanted: NewReservation): Promise<Reservation> {
    try {
      return this.#ledger.reserve(wanted);
    } catch (error) {
      if (!(error instanceof AllocationError && error.reason === "exhausted")) throw error;
    }
    const released = await this.#releaseDead();
    const reservation = this.#ledger.reserve(wanted, 0);
    const { addresses } = reservation;
    this.#options.log.warn({ addresses, released }, "no address had rested long enough: gave out the one that has rested longest");
    return reservation;
  }

  async #announce({ netns, ifname, hostInterface, addresses }: Reservation, bridge: number): Promise<void> {
    const told = await announcePod(this.#netlink, { netns, ifname, hostInterface, bridge, addresses: addresses.map(addressOf) });
    if (!told)
      this.#options.log.warn(
        { link: hostInterface, addresses },
        "the bridge does not forward from this pod: others may know another owner of its addresses for a while",
      );
  }

  #requirePlan(): void {
    const problem = this.#problems.find(({ severity, field }) => severity === "error" && /^(mode|mtu|bridgeName)$/.test(field));
    // The kernel's part may have been mended since.
    if (problem && !this.applyPlan(this.#plan).every(({ severity }) => severity === "warning")) {
      throw new CniError(ErrorCode.tryAgainLater, problem.message, problem.remedy);
    }
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

  /** Whatever is there of it goes; what is not there is no error. */
  async #remove(key: Key): Promise<undefined> {
    const found = this.#ledger.get(key);
    const failures: unknown[] = [];
    const attempt = async (step: () => unknown) => {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    };
    if (found || this.#isOurs(key)) await attempt(() => this.#removeInterface(hostInterfaceName(key)));
    // While the interface is there, its addresses are in use.
    if (failures.length === 0) {
      this.#ledger.release(key);
      await attempt(() => this.#forgetRanges());
    }
    removeQueued(queueFile(this.#queueDir, key));
    // A release that is lost with the power costs nothing: the sweep repeats it. So DEL does not wait for the disk.
    this.#ledger.flush();
    if (failures.length > 0) throw failures[0];
  }

  /** Its being gone is no error; a foreign link of that name is left alone. */
  async #removeInterface(hostInterface: string): Promise<void> {
    const index = findPodLink(this.#netlink, hostInterface);
    if (index !== undefined) await this.#remover.remove(index);
  }

  /** DEL names a network too: an interface that another of our networks made stays. */
  #isOurs(key: Key): boolean {
    const link = this.#netlink.link(hostInterfaceName(key));
    return link !== undefined && isPodLink(link) && (parsePodAlias(link.alias)?.network ?? key.network) === key.network;
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
    const claimed = addressesOf(previous, key.ifname);
    const foreign = reservation.addresses.filter(address => !claimed.includes(address));
    if (foreign.length > 0) {
      throw new CniError(
        ErrorCode.attachmentChanged,
        `prevResult does not list ${foreign.join(", ")}, which ${key.ifname} of container ${key.containerId} has`,
        "recreate the pod",
      );
    }
    const defaultRoutes = ([4, 6] as const).filter(family => hasDefaultRoute(previous, family));
    let found: string[] = [];
    for (let attempt = 0; attempt < checkAttempts; attempt++) {
      const bridge = ensureBridge(this.#netlink, this.#plan, this.#ledger.pools());
      found = inspectPod(this.#netlink, { ...reservation, netns: request.netns, bridge, defaultRoutes });
      if (found.length === 0) return;
      // Plugins later in the list may still be at work.
      await new Promise(resolve => setTimeout(resolve, checkDelay));
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
        .map(found => (valid ? this.#locks.run(keyText(found), () => this.#remove(found)) : this.#releaseIfDead(found))),
    );
    const failed = outcomes.find(({ status }) => status === "rejected") as PromiseRejectedResult | undefined;
    if (failed) throw failed.reason;
  }

  async #status(): Promise<undefined> {
    // The kernel's part may have been undone, or mended, since the last look.
    this.look();
    const causes = [...nodeProblems(), ...this.#ledgerProblem(), ...this.#problems];
    const problem = causes.find(({ severity, field }) => severity === "error" && !field.startsWith("podCidrs"));
    if (problem) throw new CniError(ErrorCode.notAvailable, problem.message, problem.remedy);
    if (!this.#ledger.pools().some(pool => !pool.retired)) {
      // Where one of several cannot be used, the node still has pods; here it has none.
      const [unusable] = this.#planProblems.filter(({ field }) => field.startsWith("podCidrs"));
      if (unusable) throw new CniError(ErrorCode.notAvailable, unusable.message, unusable.remedy);
      throw new CniError(
        ErrorCode.notAvailable,
        "no pod CIDR is assigned to this node yet",
        "Kubernetes assigns it (kube-controller-manager --allocate-node-cidrs), or the PodNetwork names the ranges",
      );
    }
  }

  async #replayQueue(): Promise<void> {
    for (const { file, request } of readQueue(this.#queueDir)) {
      try {
        if (!request) throw new CniError(ErrorCode.decode, "it is not what the plugin writes");
        const parsed = parseRequest(request);
        if (parsed.command === "DEL") await this.#locks.run(keyText(keyOf(parsed)), () => this.#remove(keyOf(parsed)));
        this.#options.log.info({ file }, "carried out a DEL that was queued while the agent was away");
      } catch (error) {
        this.#options.log.warn({ file, err: error }, "a queued DEL could not be carried out; its namespace going away will release it");
      }
      removeQueued(file);
    }
  }

  /** Makes the ledger fit the kernel before ranges and gateways follow from it. */
  #recover(): void {
    const gone = this.#ledger.reservations().filter(reservation => !this.#isLive(reservation));
    for (const reservation of gone) this.#ledger.release(reservation);
    if (gone.length > 0) this.#options.log.info({ attachments: gone.map(keyText) }, "released attachments whose namespace is gone");
    for (const reservation of releaseOutdated(this.#ledger, this.#netlink.links()))
      this.#options.log.warn({ ...reservation }, "the ledger is older than this attachment's interface, which says otherwise");
    this.#adopt();
  }

  #adopt(): Adoption["contradictions"] {
    const { adopted, contradictions, unexplained } = adopt(this.#ledger, this.#netlink.links());
    for (const found of adopted) this.#options.log.warn(found, "the ledger did not know this attachment; took it over from its interface");
    this.#unexplained = unexplained.map(link => link.name);
    if (adopted.length > 0) this.#options.heldChanged?.();
    return contradictions;
  }

  /** Returns how many. */
  async #releaseDead(): Promise<number> {
    const dead = this.#ledger.reservations().filter(reservation => !this.#isLive(reservation));
    const released = await Promise.all(dead.map(reservation => this.#releaseIfDead(reservation)));
    return released.filter(Boolean).length;
  }

  #releaseIfDead(reservation: Reservation): Promise<boolean> {
    return this.#locks.run(keyText(reservation), async () => {
      const now = this.#ledger.get(reservation);
      if (!now || this.#isLive(now)) return false;
      await this.#remove(now);
      this.#options.log.info(
        { container: now.containerId, ifname: now.ifname, addresses: now.addresses },
        "released an attachment whose namespace is gone",
      );
      return true;
    });
  }

  /** The node's end of a pair lives exactly as long as the pod's; where it was removed by hand, the namespace itself decides. */
  #isLive({ hostInterface, netns, netnsInode: inode, bootId }: Reservation): boolean {
    const link: Link | undefined = this.#netlink.link(hostInterface);
    if (link && isPodLink(link)) return true;
    // Namespaces do not survive a reboot; a number that matches would be chance.
    if (bootId !== this.#ledger.bootId || !isNetns(netns)) return false;
    return String(netnsInode(netns)) === inode;
  }

  /** Where the last pod of a range that is not ours any more is gone, so is the gateway. */
  #forgetRanges(): void {
    if (!this.#ledger.pools().some(pool => pool.retired)) return;
    this.#options.heldChanged?.();
    const before = this.#ledger.pools().length;
    this.#ledger.forgetEmptyRanges();
    if (this.#ledger.pools().length < before) this.look();
  }
}

function keyOf({ config, target }: ForTarget): Key {
  return { network: config.name, ...target };
}

function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  if (error instanceof AllocationError) return new CniError(allocationCode[error.reason], error.message, error.remedy);
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  if (error instanceof Error && "code" in error && error.code === "EROFS") return new CniError(ErrorCode.io, message, readOnlyRemedy);
  if (error instanceof JournalError) return new CniError(ErrorCode.io, message, ledgerRemedy);
  if (name === "NetlinkError") return new CniError(ErrorCode.kernel, message, "the kernel refused; see the agent's log");
  return new CniError(ErrorCode.io, message);
}

const allocationCode: Record<AllocationError["reason"], ErrorCode> = {
  exhausted: ErrorCode.tryAgainLater,
  "no-range": ErrorCode.tryAgainLater,
  outside: ErrorCode.invalidConfig,
  reserved: ErrorCode.invalidConfig,
  "duplicate-family": ErrorCode.invalidConfig,
  taken: ErrorCode.conflict,
};

function httpStatus(code: number): number {
  if (code === ErrorCode.tryAgainLater || code === ErrorCode.notAvailable) return 503;
  return code <= ErrorCode.invalidConfig && code !== ErrorCode.io ? 400 : 500;
}
