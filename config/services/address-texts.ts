/** Why a Service of type LoadBalancer has the addresses that it has, or has none: reasons and words of its condition and of its Events. */
import type { IpFamily } from "../../net/address.ts";
import type { AddressCondition, BalancedService, FamilyPolicy } from "./balanced.ts";

/** For programs: of the condition podlane.io/AddressAssigned, and of Events. */
export type AddressReason =
  | "AddressAssigned"
  | "AddressReleased"
  | "PoolExhausted"
  | "NoPool"
  | "AddressInUse"
  | "NotInPool"
  | "SharingRefused"
  | "FamilyNotAvailable"
  | "PoolChanged"
  | "InvalidRequest";

/** Why something is not had. */
export interface Refusal {
  reason: AddressReason;
  message: string;
  /** It is over in a moment. */
  passing?: true;
}

/** metav1.Condition has 32768; nobody reads that. */
const MAX_MESSAGE = 1024;
/** Names that are told of many. */
const TOLD = 4;

export const Refusals = {
  invalid: (field: string, text: string, fault: string): Refusal => ({
    reason: "InvalidRequest",
    message: `${field} "${text.slice(0, 100)}": ${fault}`,
  }),
  noPoolAtAll: (loadBalancerClass: string | undefined): Refusal => ({
    reason: "NoPool",
    message: `no AddressPool is for ${loadBalancerClass === undefined ? "Services without spec.loadBalancerClass" : `spec.loadBalancerClass ${loadBalancerClass}`}: add one`,
  }),
  noPoolFor: ({ namespace }: BalancedService): Refusal => ({
    reason: "NoPool",
    message: `no AddressPool with autoAssign selects this Service: see serviceSelector, namespaceSelector and namespaces of the pools against its labels and namespace ${namespace}, or name a pool in the annotation podlane.io/address-pool`,
  }),
  unknownPool: (pool: string): Refusal => ({
    reason: "NoPool",
    message: `it asks for AddressPool ${pool}, which there is not: add it, or correct the annotation`,
  }),
  closedPool: (pool: string): Refusal => ({
    reason: "NoPool",
    message: `it asks for AddressPool ${pool}, which is not for it: see loadBalancerClass, serviceSelector, namespaceSelector and namespaces there`,
  }),
  exhausted: (pools: readonly string[], families: readonly IpFamily[]): Refusal => ({
    reason: "PoolExhausted",
    message: `${poolsText(pools)} ${pools.length > 1 ? "have" : "has"} no free ${familiesText(families)} address: add addresses to spec.addresses, or delete Services that are not needed`,
  }),
  noFamily: (pools: readonly string[], families: readonly IpFamily[], policy: FamilyPolicy): Refusal => ({
    reason: "FamilyNotAvailable",
    message: `${poolsText(pools)} ${pools.length > 1 ? "have" : "has"} no ${familiesText(families)} addresses${policy === "RequireDualStack" ? `, and both families come from one pool: ${pools.length > 1 ? "give one of them" : "give it"} the other family, or set spec.ipFamilyPolicy: PreferDualStack` : ": add a range of that family to spec.addresses"}`,
  }),
  notInPool: (address: string): Refusal => ({
    reason: "NotInPool",
    message: `it asks for ${address}, which is in no AddressPool: add it to one, or ask for another`,
  }),
  inOtherPool: (address: string, pool: string, wanted: string): Refusal => ({
    reason: "NotInPool",
    message: `it asks for ${address}, which is of AddressPool ${pool}, and for ${wanted}: take back one of the two`,
  }),
  notForIt: (address: string, pool: string): Refusal => ({
    reason: "NotInPool",
    message: `it asks for ${address} of AddressPool ${pool}, which is not for it: see loadBalancerClass, serviceSelector, namespaceSelector and namespaces there`,
  }),
  buggy: (address: string, pool: string): Refusal => ({
    reason: "NotInPool",
    message: `it asks for ${address}, which AddressPool ${pool} leaves out by avoidBuggyIPs: ask for another, or set that to false`,
  }),
  kept: (address: string): Refusal => ({
    reason: "AddressInUse",
    message: `${address} is kept from being given away by an AddressClaim without Services: delete that, or ask for another address`,
  }),
  leaving: (address: string, other: string): Refusal => ({
    reason: "AddressInUse",
    message: `${address} is about to be released by Service ${other}`,
    passing: true,
  }),
  inUse: (address: string, other: string): Refusal => ({
    reason: "AddressInUse",
    message: `${address} is that of Service ${other}: ask for another, or give both the same annotation podlane.io/allow-shared-ip`,
  }),
  otherKey: (address: string, other: string): Refusal => ({
    reason: "SharingRefused",
    message: `${address} is shared by Service ${other} under another key: both need the same value of podlane.io/allow-shared-ip`,
  }),
  samePort: (address: string, other: string, port: string): Refusal => ({
    reason: "SharingRefused",
    message: `${address} cannot be shared with Service ${other}, which has ${port} as well: give one of them another port`,
  }),
  otherBackend: (address: string, other: string): Refusal => ({
    reason: "SharingRefused",
    message: `${address} cannot be shared with Service ${other}: with externalTrafficPolicy Local both need that policy and the same spec.selector`,
  }),
  crowded: (address: string, most: number): Refusal => ({
    reason: "SharingRefused",
    message: `${address} is shared by ${most} Services already, and no more may`,
  }),
} as const;

/** What is to be said of a Service that has what it asks for. */
export function assignedCondition(addresses: readonly string[], pools: readonly string[], note?: Refusal): AddressCondition {
  const text = `${addresses.join(" and ")} of ${poolsText(pools)}`;
  if (!note) return { status: "True", reason: "AddressAssigned", message: text };
  return { status: "True", reason: note.reason, message: cut(`${text}; ${note.message}`) };
}

export function refusedCondition({ reason, message }: Refusal, kept: readonly string[]): AddressCondition {
  return { status: "False", reason, message: cut(kept.length > 0 ? `${message}. Until then it keeps ${listText(kept)}` : message) };
}

export const Notes = {
  lacksFamily: (pool: string, family: IpFamily): Refusal => ({
    reason: "AddressAssigned",
    message: `no ${familiesText([family])} address, as none is free in AddressPool ${pool}`,
  }),
  outOfPool: (address: string, pool: string): Refusal => ({
    reason: "PoolChanged",
    message: `no AddressPool has ${address} any more, which came from ${pool}: it is kept until the Service is deleted or asks for another. Add it to a pool again, or ask for another pool in the annotation podlane.io/address-pool`,
  }),
  closed: (address: string, pool: string): Refusal => ({
    reason: "PoolChanged",
    message: `AddressPool ${pool} is no longer for this Service: ${address} is kept until the Service is deleted or asks for another. See loadBalancerClass and selectors of the pool`,
  }),
  foreign: (addresses: readonly string[]): Refusal => ({
    reason: "NotInPool",
    message: `${listText(addresses)} in its status ${addresses.length > 1 ? "are" : "is"} of no AddressPool that is for it: somebody else gave ${addresses.length > 1 ? "them, and they are left as they are" : "it, and it is left as it is"}. To have one of a pool in its place, name the pool in the annotation podlane.io/address-pool`,
  }),
} as const;

export function releasedText(addresses: readonly string[]): string {
  return `${addresses.join(" and ")} ${addresses.length > 1 ? "are" : "is"} free for others`;
}

function poolsText(pools: readonly string[]): string {
  const names = [...new Set(pools)];
  const more = names.length > TOLD ? ` and ${names.length - TOLD} more` : "";
  return `AddressPool ${names.slice(0, TOLD).join(", ")}${more}`;
}

/** Others may have given it one for each node. */
function listText(all: readonly string[]): string {
  return all.length > TOLD ? `${all.slice(0, TOLD).join(", ")} and ${all.length - TOLD} more` : all.join(" and ");
}

function familiesText(families: readonly IpFamily[]): string {
  return families.map(family => `IPv${family}`).join(" and ");
}

/** Half a character would come back as another one, and be written again and again. */
function cut(text: string): string {
  return text.slice(0, MAX_MESSAGE).replace(/[\uD800-\uDBFF]$/, "");
}
