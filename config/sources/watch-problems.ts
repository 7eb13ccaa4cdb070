/** Why collections of the API server are not followed now, in words, and what to do. */
import type { Failure, ListWatch } from "../../kubernetes/list-watch.ts";
import type { Problem } from "../plan.ts";
import { isRefused } from "./service-watches.ts";

/** Objects that one problem names. */
const MAX_NAMES = 5;

/** Collections of which there is no news now, by the failure that they share. */
interface Failing {
  failure: Failure;
  names: string[];
  synced: boolean;
}

function failing(watches: readonly ListWatch[]): Failing[] {
  const found = new Map<string, Failing>();
  for (const { collection, failed, synced } of watches) {
    if (!failed) continue;
    const { status, message } = failed.error;
    const key = `${synced} ${status === 404 ? "404" : status === 0 || status >= 500 ? "away" : message}`;
    const known = found.get(key);
    if (known) known.names.push(collection.name);
    else found.set(key, { failure: failed, names: [collection.name], synced });
  }
  return [...found.values()];
}

/** undefined: none fails. */
export function failureText(server: string, watches: readonly ListWatch[]): string | undefined {
  const texts = failing(watches).map(one => describe(server, one).message);
  return texts.length > 0 ? texts.join("; ") : undefined;
}

/** Those of a ServiceWatches, and of a PolicyWatches. Without them all else goes on. */
interface Beside {
  services: readonly ListWatch[];
  policies: readonly ListWatch[];
}

export function watchProblems(server: string, watches: readonly ListWatch[], { services, policies }: Beside): Problem[] {
  const refused = services.filter(isRefused);
  const forbidden = policies.filter(({ failed }) => failed?.error.status === 403);
  const others = [...services.filter(one => !isRefused(one)), ...policies.filter(one => !forbidden.includes(one))];
  const failed = failing([...watches, ...others]).map((one): Problem => {
    const { reason, message, remedy } = describe(server, one);
    const secret = one.names.every(name => name.startsWith("Secret ")) && one.names.length === 1;
    const object = secret ? `Secret/${one.names[0].split("/")[1]}` : "API server";
    const effect = one.synced ? `; what was known stays in force since ${new Date(one.failure.since).toISOString()}` : "";
    return { severity: "warning", reason, object, field: "", message: `${message}${effect}`, remedy };
  });
  return [
    ...failed,
    ...refusedServices(refused),
    ...forbiddenPolicies(forbidden),
    ...missingProblems([...watches, ...services, ...policies]),
  ];
}

/** Which policies a pod needs is not known then: none is attached that may be selected. */
function forbiddenPolicies(forbidden: readonly ListWatch[]): Problem[] {
  if (forbidden.length === 0) return [];
  const names = forbidden.map(({ collection }) => collection.name).join(", ");
  const since = forbidden.every(({ synced }) => synced) && new Date(forbidden[0].failed?.since ?? 0).toISOString();
  const effect = since
    ? `policies and pods known then stay as they were at ${since}`
    : "no NetworkPolicy is carried out, and no new pod is attached, as nobody knows what may reach it";
  return [
    {
      severity: "error",
      reason: "AccessDenied",
      object: "API server",
      field: "",
      message: `the API server refuses ${names}: ${forbidden[0].failed?.error.message}; ${effect}`,
      remedy:
        "apply deploy/podlane.yaml of this version: its ClusterRole lets agents read them; or write networkPolicy: Ignored into the PodNetwork; it is tried again by itself",
    },
  ];
}

function refusedServices(refused: readonly ListWatch[]): Problem[] {
  if (refused.length === 0) return [];
  const names = refused.map(({ collection }) => collection.name).join(", ");
  const since = refused.every(({ synced }) => synced) && new Date(refused[0].failed?.since ?? 0).toISOString();
  const effect = since
    ? `what was known stays in force since ${since}`
    : "addresses of Services that need them are not announced, but for those that were before";
  return [
    {
      severity: "warning",
      reason: "AccessDenied",
      object: "API server",
      field: "",
      message: `the API server refuses ${names}: ${refused[0].failed?.error.message}; ${effect}`,
      remedy: "apply deploy/podlane.yaml of this version: its ClusterRole lets agents read them; it is tried again by itself",
    },
  ];
}

function missingProblems(watches: readonly ListWatch[]): Problem[] {
  const names = watches.flatMap(({ collection, missing }) => [...missing].map(key => `${collection.name.split(".")[0]} ${key}`));
  if (names.length === 0) return [];
  const all = [...new Set(names)].sort();
  const some = all.length > MAX_NAMES ? `${all.slice(0, MAX_NAMES).join(", ")} and ${all.length - MAX_NAMES} more` : all.join(", ");
  return [
    {
      severity: "warning",
      reason: "StoreWentBack",
      object: "API server",
      field: "",
      message: `its store was emptied, or is an older one, and lacks what nobody deleted: ${some}; what they said stays in force`,
      remedy: "restore or create them; if they are to be gone: podlane reload on each node",
    },
  ];
}

function describe(server: string, { failure, names }: Failing): Pick<Problem, "reason" | "message" | "remedy"> {
  const { status, message } = failure.error;
  const what = [...new Set(names)].join(", ");
  switch (status) {
    case 401:
      return {
        reason: "AccessDenied",
        message: `the API server does not know us: ${message}`,
        remedy: "see the token of the service account; it is read anew at each try",
      };
    case 403:
      return {
        reason: "AccessDenied",
        message: `the API server refuses ${what}: ${message}`,
        remedy: "apply the ClusterRole of deploy/podlane.yaml; it is tried again by itself",
      };
    case 404:
      return {
        reason: "KindNotInstalled",
        message: `the API server has no ${what}`,
        remedy: "apply the CustomResourceDefinitions in crds/; it is tried again by itself",
      };
    default:
      return {
        reason: "ApiServerUnreachable",
        message: `${what} cannot be followed at ${server}: ${message}`,
        remedy: "see that the API server runs and that this node reaches it; it is tried again by itself",
      };
  }
}
