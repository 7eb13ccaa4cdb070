/** What the node must let the agent do before any pod can be attached; looked at whenever somebody asks, so it clears by itself. */
import { findLacks } from "../../kernel/index.ts";
import type { AttachProblem } from "../types.ts";

/** `bridged`: pods are on a bridge. */
export function nodeProblems(bridged: boolean): AttachProblem[] {
  const problem = (severity: AttachProblem["severity"]) => (lack: { message: string; remedy: string }) => ({
    severity,
    reason: "KernelLacks" as const,
    field: "",
    ...lack,
  });
  return [
    ...findLacks({ netAdmin: true, sysAdmin: true, sysctl: true }).map(problem("error")),
    ...findLacks({ bridgeNetfilter: bridged }).map(problem("warning")),
  ];
}
