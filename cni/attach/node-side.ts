/**
 * What this node is to be for its pods, and what stands in the way: the plan in force, the node's side of all pods by the plan's mode, and packet filters
 * of others.
 */
import type { Rtnetlink } from "../../kernel/types.ts";
import type { Logger } from "../../platform/log.ts";
import type { Ledger } from "../ipam/ledger.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";
import type { AttachProblem, PodPlan } from "../types.ts";
import { mendBandwidth } from "./bandwidth.ts";
import { findConflicts } from "./conflicts.ts";
import { toCniError } from "./errors.ts";
import type { FormerSysctls } from "./former-sysctls.ts";
import { ForwardPolicy } from "./forward-policy.ts";
import type { AttachContext, AttachPoint } from "./mode.ts";
import { AttachModes } from "./modes.ts";
import { podLinkMode } from "./names.ts";
import { checkPlan } from "./plan.ts";
import { RangeDiscards } from "./routed/range-discards.ts";

export interface NodeSideParts {
  ledger: Ledger;
  sysctls: FormerSysctls;
  netlink: Rtnetlink;
  log: Omit<Logger, "child">;
  /** Told what was put right, in words. */
  mended?: (texts: string[]) => void;
}

const allModes = Object.keys(AttachModes) as PodPlan["mode"][];

const isError = ({ severity }: AttachProblem) => severity === "error";

export class NodeSide {
  readonly #parts: NodeSideParts;
  readonly #forward = new ForwardPolicy();
  readonly #discards = new RangeDiscards();
  #plan: PodPlan;
  /** Of ranges: one that cannot be used keeps nothing from the pods of the others. */
  #rangeProblems: AttachProblem[] = [];
  /** Of the rest of the plan, and of making the node fit it: no pod can be attached. */
  #planProblems: AttachProblem[] = [];
  #setupProblems: AttachProblem[] = [];
  /** Of what runs and what is beside it. */
  #otherProblems: AttachProblem[] = [];
  /** What packet filters were looked at for last. */
  #passing = "";

  constructor(plan: PodPlan, parts: NodeSideParts) {
    this.#plan = plan;
    this.#parts = parts;
    this.apply(plan);
  }

  /** From now on pods are attached like this. What runs stays as it is. Never throws: what cannot be done is a problem. */
  apply(plan: PodPlan): void {
    const { prefixes, rangeProblems, problems } = checkPlan(plan);
    this.#plan = plan;
    try {
      this.#parts.ledger.setRanges(prefixes);
    } catch (error) {
      const { message, details } = toCniError(error);
      rangeProblems.push({ severity: "error", reason: "LedgerFailed", field: "podCidrs", message, remedy: details });
    }
    this.#rangeProblems = rangeProblems;
    this.#planProblems = problems;
    this.look();
    void this.lookAtFilters(false);
  }

  /** Puts back what somebody undid. Never throws: what cannot be done is a problem. */
  look(): void {
    this.#setupProblems = [];
    this.#otherProblems = [];
    if (this.#planProblems.some(problem => isError(problem) && problem.field !== "mode")) return;
    const { ledger, netlink } = this.#parts;
    for (const mode of allModes) {
      const active = mode === this.#mode();
      // What keeps pods of another mode from being served keeps no new ones away.
      this.#attempt(active ? "bridgeName" : "mode", active ? this.#setupProblems : this.#otherProblems, () => {
        const { mended, problems } = AttachModes[mode].mend(this.#context(), ledger.reservations(), active);
        this.#otherProblems.push(...problems);
        this.#tell(mended);
      });
    }
    this.#attempt("bandwidth", this.#otherProblems, () => {
      const mended: string[] = [];
      mendBandwidth(netlink, ledger.reservations(), mended);
      this.#tell(mended);
    });
    this.#attempt("links", this.#otherProblems, () => this.#otherProblems.push(...findConflicts(netlink, ledger.pools())));
  }

  /** What is wrong with the node's side, apart from ranges. */
  problems(): AttachProblem[] {
    return [...this.#planProblems, ...this.#setupProblems, ...this.#otherProblems];
  }

  rangeProblems(): AttachProblem[] {
    return this.#rangeProblems;
  }

  filterProblems(): AttachProblem[] {
    return this.#forward.problems();
  }

  /** Throws CniError (code 11) while no pod can be attached; the kernel's part may have been mended since, so that is tried again. */
  requireUsable(): void {
    const obstacle = () => [...this.#planProblems, ...this.#setupProblems].find(isError);
    if (!obstacle()) return;
    this.apply(this.#plan);
    const left = obstacle();
    if (left) throw new CniError(ErrorCode.tryAgainLater, left.message, left.remedy);
  }

  /** Where a pod is attached now. Throws CniError, NetlinkError. */
  attachPoint(): AttachPoint {
    return AttachModes[this.#mode()].prepare(this.#context());
  }

  /** Where the pod behind this link was attached, which may be another way than now. Throws CniError, NetlinkError. */
  attachPointOf(hostInterface: string): AttachPoint {
    const link = this.#parts.netlink.link(hostInterface);
    return AttachModes[(link && podLinkMode(link)) ?? this.#mode()].prepare(this.#context());
  }

  /** The way in which pods are attached now, and those in which running pods were. */
  modesInUse(): PodPlan["mode"][] {
    const used = new Set<PodPlan["mode"] | undefined>([this.#mode(), ...this.#parts.netlink.links().map(podLinkMode)]);
    return allModes.filter(mode => used.has(mode));
  }

  /** Takes some time, as programs are asked: not for each look. `again`: also where nothing has changed on our side. */
  async lookAtFilters(again: boolean): Promise<void> {
    if (this.#planProblems.some(({ field }) => field === "bridgeName")) return;
    const ranges = this.#parts.ledger.pools().map(({ family, text }) => ({ family, text }));
    const passing = { links: this.modesInUse().map(mode => AttachModes[mode].linkPattern(this.#plan)), ranges };
    const text = JSON.stringify(passing);
    if (!again && text === this.#passing) return;
    this.#passing = text;
    this.#tell(await this.#forward.look(passing));
  }

  /** The node leaves for good: removes what was added to packet filters of others. Never rejects. */
  async takeBack(): Promise<void> {
    this.#tell(await this.#forward.clear());
  }

  /** Of a mode that is none, which is a problem, only what runs is looked at: as if it were on a bridge. */
  #mode(): PodPlan["mode"] {
    return Object.hasOwn(AttachModes, this.#plan.mode) ? this.#plan.mode : "bridge";
  }

  #context(): AttachContext {
    const { netlink, ledger, sysctls } = this.#parts;
    return { netlink, plan: this.#plan, pools: ledger.pools(), sysctls, discards: this.#discards };
  }

  #attempt(field: string, problems: AttachProblem[], work: () => void): void {
    try {
      work();
    } catch (error) {
      const { message, details } = toCniError(error);
      problems.push({ severity: "error", reason: "NodeSetupFailed", field, message, remedy: details });
    }
  }

  #tell(mended: string[]): void {
    for (const text of mended) this.#parts.log.warn({}, `pods: ${text}`);
    if (mended.length > 0) this.#parts.mended?.(mended);
  }
}
