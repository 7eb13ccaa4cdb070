/** What of a plan can be carried out: its ranges, and a problem for each thing that cannot. */
import { AddressError, formatPrefix, overlaps, type Prefix, parsePrefix } from "../../net/address.ts";
import { Pool } from "../ipam/pool.ts";
import { interfaceNameProblem } from "../protocol/request.ts";
import type { AttachProblem, PodPlan } from "../types.ts";
import { AttachModes } from "./modes.ts";

/** Of IPv6, the kernel demands 1280; of IPv4, 68. */
const MINIMUM_MTU = 1280;
const MAXIMUM_MTU = 65535;

export function checkPlan(plan: PodPlan): { prefixes: Prefix[]; rangeProblems: AttachProblem[]; problems: AttachProblem[] } {
  const rangeProblems: AttachProblem[] = [];
  const problems: AttachProblem[] = [];
  const prefixes: Prefix[] = [];
  plan.podCidrs.forEach((text, i) => {
    const problem = rangeProblem(text, prefixes);
    if (problem) rangeProblems.push({ severity: "error", reason: "InvalidPodSubnet", field: `podCidrs[${i}]`, ...problem });
    else prefixes.push(parsePrefix(text));
  });
  // One from the disk may be of another version.
  if (!Object.hasOwn(AttachModes, plan.mode)) {
    problems.push({
      severity: "error",
      reason: "NotSupported",
      field: "mode",
      message: `mode "${plan.mode}" is not available`,
      remedy: `use one of ${Object.keys(AttachModes).join(", ")}`,
    });
  }
  const name = interfaceNameProblem(plan.bridgeName);
  if (name)
    problems.push({
      severity: "error",
      reason: "InvalidValue",
      field: "bridgeName",
      message: `the bridge's name ${name}`,
      remedy: "use at most 15 letters, digits and -",
    });
  if (plan.mtu !== "auto" && !(Number.isInteger(plan.mtu) && plan.mtu >= MINIMUM_MTU && plan.mtu <= MAXIMUM_MTU)) {
    problems.push({
      severity: "error",
      reason: "InvalidValue",
      field: "mtu",
      message: `the MTU ${plan.mtu} is not from ${MINIMUM_MTU} to ${MAXIMUM_MTU}`,
      remedy: 'say "auto"',
    });
  }
  return { prefixes, rangeProblems, problems };
}

function rangeProblem(text: string, others: readonly Prefix[]): { message: string; remedy: string } | undefined {
  try {
    const prefix = parsePrefix(text);
    const other = others.find(found => overlaps(found, prefix));
    if (other) return { message: `${text} overlaps ${formatPrefix(other)}`, remedy: "give ranges that share no address" };
    if (new Pool(prefix).capacity < 1)
      return { message: `${text} is too small to hold a gateway and a pod`, remedy: "use /30 or larger for IPv4, /126 or larger for IPv6" };
    return undefined;
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    return { message: error.message, remedy: "write it as ADDRESS/LENGTH" };
  }
}
