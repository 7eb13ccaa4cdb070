/** The commands of a machine under their own names: inside node1 `podlane` asks node1's agent, inside tor-a `vtysh` asks tor-a's daemons. */
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { MachinePlan } from "../topology/plan.ts";
import { agentSocket } from "./agents.ts";
import { routerFolder } from "./routers.ts";

export function toolFolder(folder: string, machine: string): string {
  return `${folder}/${machine}/bin`;
}

export function writeTools(folder: string, machine: MachinePlan): void {
  const podlane = fileURLToPath(new URL("../../scripts/podlane", import.meta.url));
  const own = routerFolder(folder, machine.name);
  const command = {
    node: ["podlane", `PODLANE_SOCKET=${agentSocket(folder, machine.name)} exec ${podlane}`],
    frr: ["vtysh", `exec /usr/bin/vtysh --vty_socket ${own}`],
    bird: ["birdc", `exec /usr/sbin/birdc -s ${own}/bird.ctl`],
  }[machine.kind];
  const bin = toolFolder(folder, machine.name);
  mkdirSync(bin, { recursive: true });
  writeFileSync(`${bin}/${command[0]}`, `#!/bin/sh\n${command[1]} "$@"\n`, { mode: 0o755 });
}
