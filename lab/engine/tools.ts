/** The commands of a machine under their own names: inside node1 `podlane` asks node1's agent, inside tor-a `vtysh` asks tor-a's daemons. */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { MachinePlan } from "../topology/plan.ts";
import { agentSocket } from "./agents.ts";
import { RouterKinds } from "./router-kinds.ts";
import { routerFolder } from "./routers.ts";

export function toolFolder(folder: string, machine: string): string {
  return `${folder}/${machine}/bin`;
}

export function writeTools(folder: string, machine: MachinePlan): void {
  const podlane = fileURLToPath(new URL("../../scripts/podlane", import.meta.url));
  const tool =
    machine.kind === "node" ? { name: "podlane", command: podlane } : RouterKinds[machine.kind].tool?.(routerFolder(folder, machine.name));
  const environment = machine.kind === "node" ? `PODLANE_SOCKET=${agentSocket(folder, machine.name)} ` : "";
  const bin = toolFolder(folder, machine.name);
  mkdirSync(bin, { recursive: true });
  if (tool) writeFileSync(`${bin}/${tool.name}`, `#!/bin/sh\n${environment}exec ${tool.command} "$@"\n`, { mode: 0o755 });
}
