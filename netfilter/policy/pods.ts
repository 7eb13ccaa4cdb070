/**
 * Pods with the addresses that are theirs. An address can be claimed by several: a pod that has ended keeps it in its status, and one that is about to be
 * deleted had it before. Pure.
 */
import type { IpFamily } from "../../net/address.ts";
import type { PolicyAttachment, PolicyPod } from "./types.ts";

export interface PodEntry {
  readonly key: string;
  pod: PolicyPod;
  /** Of its addresses those that nobody else has a better claim to. None where no selector may find it. */
  addresses: readonly string[];
}

/** Who is attached here, with the pod it is as last known: policies hold while the attachment is there, also when the pod is gone from the API. */
export interface Attached {
  readonly attachment: PolicyAttachment;
  /** Absent: not known yet, or only another one of this name. */
  subject?: PolicyPod;
}

interface Stored extends PodEntry {
  claims: readonly string[];
  /** Order of arrival. */
  sequence: number;
}

const none: readonly string[] = [];

export class PodTable {
  readonly #pods = new Map<string, Stored>();
  readonly #byNamespace = new Map<string, Set<Stored>>();
  readonly #claimants = new Map<string, Stored[]>();
  readonly #attached = new Map<string, Attached>();
  readonly #attachedByKey = new Map<string, Set<Attached>>();
  readonly #attachedByAddress = new Map<string, Attached>();
  #sequence = 0;

  get(key: string): PodEntry | undefined {
    return this.#pods.get(key);
  }

  ofNamespace(name: string): Iterable<PodEntry> {
    return this.#byNamespace.get(name) ?? [];
  }

  hasNamespace(name: string): boolean {
    return this.#byNamespace.has(name);
  }

  namespaces(): Iterable<string> {
    return this.#byNamespace.keys();
  }

  /** Whose address it is. */
  owner(address: string): PodEntry | undefined {
    const claimants = this.#claimants.get(address) ?? [];
    const attached = this.#attachedByAddress.get(address);
    if (attached) return claimants.find(({ key, pod }) => key === attached.attachment.key && isSame(pod, attached.attachment));
    return claimants.reduce<Stored | undefined>((best, one) => (best === undefined || isLater(one, best) ? one : best), undefined);
  }

  /** By the node's end of its link. */
  attached(hostInterface: string): Attached | undefined {
    return this.#attached.get(hostInterface);
  }

  attachmentsOf(key: string): Iterable<Attached> {
    return this.#attachedByKey.get(key) ?? [];
  }

  /** Returns the pods whose addresses are others now, this one among them if they are. */
  set(pod: PolicyPod): PodEntry[] {
    let stored = this.#pods.get(pod.key);
    if (stored) stored.pod = pod;
    else {
      stored = { key: pod.key, pod, addresses: none, claims: none, sequence: this.#sequence++ };
      this.#pods.set(pod.key, stored);
      put(this.#byNamespace, pod.namespace, stored);
    }
    for (const attached of this.attachmentsOf(pod.key)) if (!pod.hostNetwork && isSame(pod, attached.attachment)) attached.subject = pod;
    return this.#claim(stored, this.#claimsOf(stored));
  }

  /** Its attachment, if there is one, keeps it in mind. */
  delete(key: string): PodEntry[] {
    const stored = this.#pods.get(key);
    if (!stored) return [];
    this.#pods.delete(key);
    take(this.#byNamespace, stored.pod.namespace, stored);
    return this.#claim(stored, none);
  }

  attach(attachment: PolicyAttachment): PodEntry[] {
    const touched = new Set(this.detach(attachment.hostInterface));
    const pod = this.#pods.get(attachment.key)?.pod;
    const attached: Attached = { attachment, ...(pod && !pod.hostNetwork && isSame(pod, attachment) && { subject: pod }) };
    this.#attached.set(attachment.hostInterface, attached);
    put(this.#attachedByKey, attachment.key, attached);
    for (const address of attachment.addresses) this.#attachedByAddress.set(address, attached);
    for (const one of this.#attachmentChanged(attachment)) touched.add(one);
    return [...touched];
  }

  detach(hostInterface: string): PodEntry[] {
    const attached = this.#attached.get(hostInterface);
    if (!attached) return [];
    const { attachment } = attached;
    this.#attached.delete(hostInterface);
    take(this.#attachedByKey, attachment.key, attached);
    for (const address of attachment.addresses) {
      if (this.#attachedByAddress.get(address) === attached) this.#attachedByAddress.delete(address);
    }
    return this.#attachmentChanged(attachment);
  }

  #attachmentChanged({ key, addresses }: PolicyAttachment): PodEntry[] {
    const stored = this.#pods.get(key);
    const touched = new Set<PodEntry>(stored ? this.#claim(stored, this.#claimsOf(stored)) : []);
    for (const one of this.#settleAddresses(addresses)) touched.add(one);
    return [...touched];
  }

  /** What is attached here is known before the status says so, and better. */
  #claimsOf({ key, pod }: Stored): readonly string[] {
    if (pod.hostNetwork || pod.ended) return none;
    const here = [...this.attachmentsOf(key)].filter(({ attachment }) => isSame(pod, attachment));
    return here.length > 0 ? here.flatMap(({ attachment }) => attachment.addresses) : pod.addresses;
  }

  #claim(stored: Stored, claims: readonly string[]): PodEntry[] {
    const before = stored.claims;
    if (sameList(before, claims)) return [];
    stored.claims = claims;
    for (const address of before) {
      const left = this.#claimants.get(address)?.filter(one => one !== stored) ?? [];
      if (left.length > 0) this.#claimants.set(address, left);
      else this.#claimants.delete(address);
    }
    for (const address of claims) this.#claimants.set(address, [...(this.#claimants.get(address) ?? []), stored]);
    const touched = new Set(this.#settleAddresses([...before, ...claims]));
    if (this.#updateAddresses(stored)) touched.add(stored);
    return [...touched];
  }

  /** Those that claim one of them, and whose addresses are others now. */
  #settleAddresses(addresses: readonly string[]): PodEntry[] {
    return addresses.flatMap(address => (this.#claimants.get(address) ?? []).filter(one => this.#updateAddresses(one)));
  }

  #updateAddresses(stored: Stored): boolean {
    const addresses = stored.claims.filter(address => this.owner(address) === stored);
    if (sameList(addresses, stored.addresses)) return false;
    stored.addresses = addresses;
    return true;
  }
}

export function familyOfText(address: string): IpFamily {
  return address.includes(":") ? 6 : 4;
}

/** The attachment is that of the pod, not of another one that has or had its name. */
function isSame(pod: PolicyPod, attachment: PolicyAttachment): boolean {
  return pod.uid === undefined || attachment.uid === undefined || pod.uid === attachment.uid;
}

/** RFC 3339 in UTC, as the API server writes it, can be compared as text. */
function isLater(a: Stored, b: Stored): boolean {
  const [x, y] = [a.pod.created ?? "", b.pod.created ?? ""];
  return x === y ? a.sequence > b.sequence : x > y;
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, at) => one === b[at]);
}

function put<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const values = map.get(key);
  if (values) values.add(value);
  else map.set(key, new Set([value]));
}

function take<T>(map: Map<string, Set<T>>, key: string, value: T): void {
  const values = map.get(key);
  values?.delete(value);
  if (values?.size === 0) map.delete(key);
}
