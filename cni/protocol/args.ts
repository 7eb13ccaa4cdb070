/**
 * CNI_ARGS: `KEY=VALUE;KEY=VALUE` (CNI SPEC "Parameters", CONVENTIONS "CNI_ARGS"). Keys that podlane does not know are an
 * error unless IgnoreUnknown says otherwise, which Kubernetes runtimes always send.
 */
import type { PodName } from "../types.ts";
import { CniError, ErrorCode } from "./error.ts";

export interface CniArgs {
  /** IP=: addresses asked for, as text. */
  ips: string[];
  /** MAC=. */
  mac?: string;
  pod?: PodName;
}

const known = new Set(["IgnoreUnknown", "IP", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID"]);
const MAXIMUM_ARGS = 64;

/** Throws CniError code 4 that names CNI_ARGS and the offending pair. */
export function parseCniArgs(text: string): CniArgs {
  const values = new Map<string, string>();
  const pairs = text.split(";").filter(pair => pair !== "");
  if (pairs.length > MAXIMUM_ARGS) throw invalid(`has ${pairs.length} pairs; at most ${MAXIMUM_ARGS} are allowed`);
  for (const pair of pairs) {
    const equals = pair.indexOf("=");
    if (equals <= 0) throw invalid(`has "${pair}", which is not KEY=VALUE`);
    values.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  if (!readBoolean(values.get("IgnoreUnknown"))) {
    const unknown = [...values.keys()].filter(key => !known.has(key));
    if (unknown.length > 0) throw invalid(`has unknown keys ${unknown.join(", ")}`, "remove them, or add IgnoreUnknown=1");
  }
  const namespace = values.get("K8S_POD_NAMESPACE");
  const name = values.get("K8S_POD_NAME");
  const uid = values.get("K8S_POD_UID");
  return {
    ips: (values.get("IP") ?? "").split(",").filter(ip => ip !== ""),
    ...(values.has("MAC") && { mac: values.get("MAC") }),
    ...(namespace && name && { pod: { namespace, name, ...(uid && { uid }) } }),
  };
}

function readBoolean(value: string | undefined): boolean {
  if (value === undefined || ["0", "f", "false"].includes(value.toLowerCase())) return false;
  if (["1", "t", "true"].includes(value.toLowerCase())) return true;
  throw invalid(`has IgnoreUnknown=${value}`, "use 1 or 0");
}

function invalid(problem: string, remedy = ""): CniError {
  return new CniError(ErrorCode.invalidEnvironment, `CNI_ARGS ${problem}`, remedy);
}
