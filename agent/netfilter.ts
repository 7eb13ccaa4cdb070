/**
 * What stands in our nftables tables, for the agent: owns the writer, and keeps the guard against spoofing, the ports of pods, masquerade and who may
 * use tunnels as plan and attachments want them. A pod's rules are in force before its link is made; where nft is absent pods are attached all the same, and that is a problem.
 */
import { CniError, ErrorCode } from "../cni/protocol/error.ts";
import type { AttachmentView, PodPlan } from "../cni/types.ts";
import type { NodePlan } from "../config/plan.ts";
import {
  forgetUdp,
  type KernelAccess,
  openRulesetGeneration,
  openRulesetSocket,
  type RulesetBatch,
  type RulesetGeneration,
  type RulesetSocket,
  readSysctl,
  writeSysctl,
} from "../kernel/index.ts";
import { parseAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import { HOST_PORTS_PREFIX, hostPortChanges, type PublishedPod } from "../netfilter/hostports.ts";
import { MASQUERADE_PREFIX, masqueradeChanges } from "../netfilter/masquerade.ts";
import { nft } from "../netfilter/nft.ts";
import { OVERLAY_PREFIX, overlayGuardChanges } from "../netfilter/overlay-guard.ts";
import { SPOOFING_PREFIX, Spoofing } from "../netfilter/spoofing.ts";
import { TABLE } from "../netfilter/tables.ts";
import type { MasqueradePlan, RulesetChange, RulesetWriter, TunnelPlan } from "../netfilter/types.ts";
import { Writer, type WriterFailure } from "../netfilter/writer.ts";
import { isOverlayLink } from "../overlay/names.ts";
import type { Clock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";
import { type PacketCounter, SpoofingDrops, type SpoofingReason } from "./spoofing-drops.ts";

export interface NetfilterParts {
  clock: Clock;
  log: Logger;
  kernel: Pick<KernelAccess, "netlink">;
  /** As the ledger has them; undefined: it cannot be read. */
  attachments(): readonly AttachmentView[] | undefined;
  /** Told what was put back, in words. */
  mended(texts: string[]): void;
}

/** Milliseconds that an ADD waits for a pod's rules. */
const PREPARE_BOUND = 10_000;
/** Links that a problem names. */
const NAMED = 5;

export class Netfilter {
  readonly #parts: NetfilterParts;
  readonly #nft = nft();
  readonly #writer: Writer;
  readonly #spoofing = new Spoofing();
  /** By the node's end of their link. */
  readonly #published = new Map<string, PublishedPod>();
  /** Links of pods that run and whose hardware address is not known. */
  readonly #unguarded = new Set<string>();
  readonly #drops = new SpoofingDrops();
  /** Two that ask at once are told the same. */
  #reading: Promise<PacketCounter[]> | undefined;
  /** The rules are those of all attachments. */
  #isFollowed = false;
  #generation: RulesetGeneration | undefined;
  #socket: RulesetSocket | undefined;
  /** As of the last rules of ports. */
  #guarded = "";
  #masquerade: MasqueradePlan | undefined;
  #wantedTunnels: TunnelPlan | undefined;
  /** As they are guarded. */
  #tunnels: TunnelPlan | undefined;
  #pods: Pick<PodPlan, "mode" | "bridgeName" | "serviceCidrs"> | undefined;

  constructor(parts: NetfilterParts) {
    const { clock, log, mended } = parts;
    this.#parts = parts;
    this.#writer = new Writer({
      nft: this.#nft,
      commit: batch => this.#commit(batch),
      clock,
      log,
      generation: () => this.#askGeneration(),
      mended: text => mended([text]),
    });
  }

  get writer(): RulesetWriter {
    return this.#writer;
  }

  /** `attachments`: undefined where they are not known; then the rules of pods stay as they are. */
  apply(
    { masquerade, overlay, pods }: Pick<NodePlan, "masquerade" | "overlay" | "pods">,
    attachments: readonly AttachmentView[] | undefined,
  ): void {
    this.#pods = pods;
    if (differ(masquerade, this.#masquerade)) this.#change(masqueradeChanges(masquerade));
    this.#masquerade = masquerade;
    this.#complete(MASQUERADE_PREFIX);
    this.#wantedTunnels = overlay && {
      vni: overlay.vni,
      port: overlay.port,
      nodes: overlay.nodes.map(({ addresses }) => ({ addresses })),
    };
    this.guardTunnels();
    this.follow(attachments);
  }

  /** As the plan wants it; where it wants no tunnels any more, when their devices are gone. */
  guardTunnels(): void {
    // Without a plan nothing is known.
    if (!this.#pods || (!this.#wantedTunnels && this.#parts.kernel.netlink.links().some(isOverlayLink))) return;
    if (differ(this.#wantedTunnels, this.#tunnels)) this.#change(overlayGuardChanges(this.#wantedTunnels));
    this.#tunnels = this.#wantedTunnels;
    this.#complete(OVERLAY_PREFIX);
  }

  /** Now and then: as follow(), and asks what was dropped. */
  look(attachments: readonly AttachmentView[] | undefined): void {
    this.follow(attachments);
    if (!this.#spoofing.isCounting) this.#drops.see([]);
    else
      this.#readCounters().then(
        counters => this.#drops.see(counters),
        (error: Error) => this.#parts.log.debug({}, `the packet filter's counters cannot be read: ${error.message}`),
      );
  }

  /** Packets of pods that the guard dropped, as of the last look(). */
  get spoofed(): Readonly<Record<SpoofingReason, number>> {
    return this.#drops.sums;
  }

  /** Makes the pods' rules fit the attachments. */
  follow(attachments: readonly AttachmentView[] | undefined): void {
    if (!attachments) return;
    this.#isFollowed = true;
    const present = new Set(attachments.map(({ hostInterface }) => hostInterface));
    const gone = [...this.#spoofing.names(), ...this.#published.keys(), ...this.#unguarded].filter(name => !present.has(name));
    const missing = attachments.filter(({ hostInterface }) => !this.#spoofing.has(hostInterface));
    const unpublished = gone.flatMap(name => this.#published.get(name) ?? []);
    const changes = [...gone.flatMap(name => this.#forget(name)), ...missing.flatMap(one => this.#guard(one, isBridged(one)))];
    changes.push(...this.#spoofing.expectPods(this.#pods && this.#pods.mode === "bridge"));
    // All at once: what ports come to is made of all of them each time.
    if (missing.filter(one => this.#publish(one, isBridged(one))).length > 0) changes.push(...this.#portChanges());
    const settle = () => {
      for (const { hostInterface } of missing) this.attached(hostInterface);
      for (const pod of unpublished) this.#forgetUdp(pod);
    };
    if (changes.length > 0) this.#change(changes, settle);
    // Left so by a former agent whose last pod with ports went while no agent ran, or made so by somebody else.
    if (this.#surroundings().text !== this.#guarded) this.#change(this.#portChanges());
    for (const prefix of [SPOOFING_PREFIX, HOST_PORTS_PREFIX]) this.#complete(prefix);
  }

  /** Of AttachmentGuard: a new pod is attached as the plan wants it. Only a pod with ports of the node is refused where nft does not do its part. */
  async prepare(attachment: AttachmentView): Promise<void> {
    // The ledger could not be read before: what it says of others must not be taken for all.
    if (!this.#isFollowed) this.follow(this.#parts.attachments());
    const bridged = this.#pods?.mode === "bridge";
    const changes = this.#guard(attachment, bridged);
    if (this.#publish(attachment, bridged)) changes.push(...this.#portChanges());
    const failure = await this.#bounded(this.#writer.change(changes));
    if (!attachment.ports) return;
    if (failure === undefined) return this.#forgetUdp(this.#published.get(attachment.hostInterface));
    throw new CniError(
      ErrorCode.kernel,
      `the pod's hostPorts cannot be set up: ${failure}`,
      "podlane problems says more; without hostPort the pod can run",
    );
  }

  /** Its link is there, and its rules are in force. */
  attached(hostInterface: string): void {
    const pod = this.#published.get(hostInterface);
    if (pod) this.#allowLoopback(pod.link);
  }

  /** Of AttachmentGuard. */
  released(hostInterface: string): void {
    const pod = this.#published.get(hostInterface);
    const changes = this.#forget(hostInterface);
    if (changes.length > 0) this.#change(changes, () => this.#forgetUdp(pod));
  }

  problems(): Problem[] {
    const failure = this.#writer.failure();
    return [...(failure ? [this.#problemOf(failure)] : []), ...(this.#unguarded.size > 0 ? [this.#unguardedProblem()] : [])];
  }

  /** Packets by named counter of our table of IPv4 and IPv6. Rejects with NftError. */
  async counters(): Promise<Map<string, number>> {
    const counters = await this.#readCounters();
    return new Map(counters.flatMap(({ family, name, packets }) => (family === "inet" ? [[name, packets]] : [])));
  }

  /** The rules stay. */
  async close(): Promise<void> {
    await this.#writer.close();
    this.#generation?.close();
    this.#generation = undefined;
    this.#socket?.close();
    this.#socket = undefined;
  }

  #guard(attachment: AttachmentView, bridged: boolean): RulesetChange[] {
    const { hostInterface } = attachment;
    const mac = attachment.mac ?? this.#readMac(hostInterface);
    this.#unguarded.delete(hostInterface);
    if (mac !== undefined) return this.#spoofing.set({ hostInterface, mac, addresses: plainAddresses(attachment), bridged });
    // Without a link there is nothing to guard against.
    if (attachment.mode !== undefined) this.#unguarded.add(hostInterface);
    return [];
  }

  /** Whether it has ports of the node. */
  #publish(attachment: AttachmentView, bridged: boolean): boolean {
    const { hostInterface, ports } = attachment;
    if (!ports) return false;
    const link = bridged ? (this.#pods?.bridgeName ?? hostInterface) : hostInterface;
    this.#published.set(hostInterface, { addresses: plainAddresses(attachment), link, ports });
    return true;
  }

  #portChanges(): RulesetChange[] {
    const { text, ...surroundings } = this.#surroundings();
    this.#guarded = text;
    return hostPortChanges(this.#published.values(), surroundings);
  }

  /** What the rules of ports depend on beside pods. */
  #surroundings(): { open: string[]; services: readonly string[]; text: string } {
    const open = this.#openLinks();
    const services = this.#published.size > 0 ? (this.#pods?.serviceCidrs ?? []) : [];
    return { open, services, text: [...open, ...services].join() };
  }

  /** Links that stay when pods go, and by which pods would reach loopback addresses of the node. */
  #openLinks(): string[] {
    const bridge = this.#pods?.bridgeName;
    try {
      return bridge && readSysctl(loopbackParameter(bridge)) === "1" ? [bridge] : [];
    } catch {
      // There is no bridge.
      return [];
    }
  }

  #forget(hostInterface: string): RulesetChange[] {
    this.#unguarded.delete(hostInterface);
    const changes = this.#spoofing.delete(hostInterface);
    const pod = this.#published.get(hostInterface);
    if (!pod) return changes;
    this.#published.delete(hostInterface);
    // As long as the rule that keeps pods from loopback addresses is there.
    this.#disallowLoopback(pod.link);
    return [...changes, ...this.#portChanges()];
  }

  /** Of a pod that was attached by a version that did not keep it, or taken over from its link after the ledger was lost. */
  #readMac(hostInterface: string): string | undefined {
    const { netlink } = this.#parts.kernel;
    try {
      const link = netlink.link(hostInterface);
      const end = link && netlink.peer(link);
      return end && hexOf(end.address, ":");
    } catch (error) {
      this.#parts.log.debug({ err: error, link: hostInterface }, "the pod's end of its link cannot be read");
      return undefined;
    }
  }

  #readCounters(): Promise<PacketCounter[]> {
    this.#reading ??= this.#listCounters().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #listCounters(): Promise<PacketCounter[]> {
    const { nftables } = JSON.parse(await this.#nft([{ list: { counters: {} } }])) as {
      nftables: { counter?: PacketCounter & { table: string } }[];
    };
    return nftables.flatMap(({ counter }) => (counter?.table === TABLE ? [counter] : []));
  }

  /** Once the rules of its ports have come or gone: who sends UDP on would keep the way that it had before, to a pod that is gone or to the node. */
  #forgetUdp(pod: PublishedPod | undefined): void {
    const addresses = pod?.addresses.map(parseAddress) ?? [];
    const hostPorts = [...new Set(pod?.ports.filter(({ protocol }) => protocol === "udp").map(port => port.hostPort))];
    if (hostPorts.length === 0) return;
    try {
      forgetUdp(hostPorts, addresses);
    } catch (error) {
      this.#parts.log.debug({ err: error, hostPorts }, "UDP to hostPorts may go its former way until it is silent for 30 s");
    }
  }

  /** So that 127.0.0.1 of the node leads to pods as well. A rule keeps pods from the node's loopback addresses. */
  #allowLoopback(link: string): void {
    try {
      writeSysctl(loopbackParameter(link), "1");
    } catch (error) {
      this.#parts.log.debug({ err: error, link }, "hostPorts are not reached by 127.0.0.1");
    }
  }

  /** Once no pod there has ports of the node. */
  #disallowLoopback(link: string): void {
    if ([...this.#published.values()].some(other => other.link === link)) return;
    try {
      writeSysctl(loopbackParameter(link), "0");
    } catch (error) {
      // Mostly it went with its pod.
      this.#parts.log.debug({ err: error, link }, "route_localnet stays as it is");
    }
  }

  /** What fails is a problem, and is tried again by the writer. */
  #change(changes: readonly RulesetChange[], then = () => {}): void {
    void this.#writer.change(changes).then(then, () => {});
  }

  #complete(prefix: string): void {
    void this.#writer.complete(prefix).catch(() => {});
  }

  /** Resolves with what failed, in words. */
  async #bounded(change: Promise<void>): Promise<string | undefined> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const timer = this.#parts.clock.after(PREPARE_BOUND, () => resolve(`nft takes more than ${PREPARE_BOUND / 1000} s`));
    try {
      return await Promise.race([promise, change.then(() => undefined)]);
    } catch (error) {
      return (error as Error).message;
    } finally {
      timer.cancel();
    }
  }

  #askGeneration(): number {
    this.#generation ??= openRulesetGeneration();
    return this.#generation.read();
  }

  async #commit(batch: RulesetBatch): Promise<void> {
    this.#socket ??= openRulesetSocket();
    await this.#socket.commit(batch);
  }

  #unguardedProblem(): Problem {
    const names = [...this.#unguarded];
    const some = `${names.slice(0, NAMED).join(", ")}${names.length > NAMED ? `, and ${names.length - NAMED} more` : ""}`;
    return {
      severity: "warning",
      reason: "PodUnguarded",
      object: "packet filter",
      field: "",
      message: `the hardware addresses of the pods behind ${some} cannot be read, so these pods can take addresses of others`,
      remedy: "recreate these pods (podlane pods names them)",
    };
  }

  #problemOf({ reason, message, objects }: WriterFailure): Problem {
    const lost = [
      ...(this.#masquerade ? ["what pods send out of the cluster keeps their addresses"] : []),
      ...(this.#published.size > 0 ? ["hostPorts lead nowhere"] : []),
      ...(this.#tunnels ? ["whoever reaches the node can put packets into its tunnels"] : []),
      "pods can take addresses of others",
    ];
    const absent = reason === "absent";
    const what = absent ? "" : ` (${objects.join("; ")})`;
    return {
      severity: lost.length > 1 ? "error" : "warning",
      reason: absent ? "PacketFilterMissing" : "PacketFilterFailed",
      object: "packet filter",
      field: "",
      message: `${message}${what}, so it may be that ${lost.join(", that ")}`,
      remedy: absent
        ? "install the package nftables; it is tried again each 30 s"
        : "look whether the kernel has nftables with bridge, NAT and fib (docs/packet-filter.md); it is tried again each 30 s",
    };
  }
}

function isBridged({ mode }: AttachmentView): boolean {
  return mode === "bridge";
}

function loopbackParameter(link: string): string[] {
  return ["net", "ipv4", "conf", link, "route_localnet"];
}

function differ(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) !== JSON.stringify(other);
}

/** Without their length. */
function plainAddresses({ addresses }: AttachmentView): string[] {
  return addresses.map(text => text.split("/")[0]);
}
