/** How a node is doing, on one screen: from what the parts of its agent say of themselves. */
import type { SpeakerSnapshot } from "../bgpd/snapshot.ts";
import type { Problem } from "../platform/problem.ts";
import type { StatusView } from "./api/views.ts";
import { version } from "./version.ts";

type Found = Pick<StatusView, "node" | "turns" | "startedAt" | "config" | "attachments" | "policies" | "services" | "serving">;

export function statusView(found: Found, snapshot: SpeakerSnapshot | undefined, problems: readonly Problem[]): StatusView {
  const errors = problems.filter(one => one.severity === "error").length;
  const { neighbors, ...speaker } = snapshot ?? {};
  const sessions = {
    established: neighbors?.filter(one => one.state === "Established").length ?? 0,
    configured: neighbors?.length ?? 0,
    overdue: neighbors?.filter(one => one.overdue).map(one => one.name) ?? [],
  };
  const { node, turns, startedAt, config, attachments, policies, services, serving } = found;
  return {
    node,
    version,
    pid: process.pid,
    memory: memory(),
    turns,
    startedAt,
    config,
    ...(isSpeaking(speaker) && { speaker: { ...speaker, sessions } }),
    attachments,
    ...(policies && { policies }),
    services,
    serving,
    problems: { errors, warnings: problems.length - errors },
  };
}

function isSpeaking(speaker: object): speaker is Omit<NonNullable<StatusView["speaker"]>, "sessions"> {
  return "asn" in speaker;
}

/** Octets, as Node counts them. */
function memory(): StatusView["memory"] {
  const { rss: resident, heapTotal, heapUsed, external } = process.memoryUsage();
  return { resident, heapTotal, heapUsed, external };
}
