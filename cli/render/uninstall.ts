/** `podlane uninstall`: a line for each thing that went, and for what stays. */
import type { UninstallReport } from "../../agent/uninstall.ts";
import { type Paint, printable } from "./paint.ts";

export function renderUninstall({ removals, notes }: UninstallReport, dryRun: boolean, paint: Paint): string {
  const lines = removals.map(({ what, name, change }) => {
    return `${paint(change === "stays" ? "warn" : "accent", change.padEnd(8))}  ${what.padEnd(9)}  ${printable(name)}`;
  });
  const head = dryRun ? ["nothing was changed; this would be done:"] : [];
  const body = lines.length > 0 ? lines : ["nothing of podlane is here"];
  return [...head, ...body, ...notes.map(printable), ""].join("\n");
}
