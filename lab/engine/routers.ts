/**
 * The neighbours that are not podlane (router-kinds.ts), one instance per router, in its namespace and with all its files in its folder of
 * the lab. The short form of a topology becomes the daemon's own configuration here, readable in that folder.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { parsePrefix } from "../../net/address.ts";
import type { LabPlan, RouterMachine } from "../topology/plan.ts";
import { RouterKinds } from "./router-kinds.ts";
import type { PathView, RouterPlan, RouterSession, SessionView } from "./router-types.ts";
import { isAlive, type ProcessId, startDaemon, until } from "./system.ts";

function planRouter(plan: LabPlan, machine: RouterMachine): RouterPlan {
  const spec = machine.router;
  const sessions = (spec.neighbors ?? []).flatMap(neighbor => {
    const link = plan.links.find(
      each =>
        machine.name in each.spec.members && neighbor.name in each.spec.members && (neighbor.link ?? each.spec.name) === each.spec.name,
    );
    const own = link?.attachments.find(each => each.machine === machine.name);
    const other = link?.attachments.find(each => each.machine === neighbor.name);
    if (link === undefined || own === undefined || other === undefined) return [];
    return own.addresses.map(({ address }, index): RouterSession => {
      const family = address.includes(":") ? 6 : 4;
      return {
        name: neighbor.name,
        link: link.spec.name,
        asn: neighbor.asn,
        local: address,
        remote: other.addresses[index].address,
        family,
        shared: link.kind !== "point-to-point",
        passive: neighbor.passive ?? false,
        password: neighbor.password,
      };
    });
  });
  const ipv4 = machine.interfaces.flatMap(each => each.addresses).find(({ address }) => !address.includes(":"));
  return {
    name: machine.name,
    asn: spec.asn as number,
    routerId: ipv4?.address ?? `192.0.2.${plan.machines.indexOf(machine) + 1}`,
    holdTime: spec.holdTime ?? 9,
    sessions,
    announce: (spec.announce ?? []).map(prefix => ({ prefix, family: parsePrefix(prefix).family })),
  };
}

export function routerFolder(folder: string, router: string): string {
  return `${folder}/${router}`;
}

/** Starts the daemons; resolves when they answer their control socket. Throws with the end of the log when they do not. */
export async function startRouter(
  plan: LabPlan,
  machine: RouterMachine,
  folder: string,
  record: (program: string, id: ProcessId) => void,
  abort?: AbortSignal,
): Promise<void> {
  const kind = RouterKinds[machine.kind];
  const own = routerFolder(folder, machine.name);
  mkdirSync(own, { recursive: true });
  const config = machine.router.config ?? kind.config(planRouter(plan, machine));
  const log = `${own}/log`;
  const daemons: ProcessId[] = [];
  const start = (program: string, command: string, args: string[]) => {
    const id = startDaemon(machine.namespace, command, args, log);
    daemons.push(id);
    record(program, id);
  };
  const answers = async (program: string) => {
    let ended = false;
    const asked = async () => {
      ended = !daemons.every(isAlive);
      return (
        ended ||
        (await kind.ask(own, program).then(
          () => true,
          () => false,
        ))
      );
    };
    const up = await until(asked, 10_000, 50, abort);
    if (up && !ended) return;
    const what = ended ? "ended at its start" : "does not answer";
    throw new Error(`${kind.title} of ${machine.name} ${what}; the end of ${log}:\n${logEnd(log)}`);
  };
  await kind.start({ name: machine.name, folder: own, config }, start, answers);
}

/** Last lines of a log, for error texts. */
export function logEnd(file: string, lines = 20): string {
  try {
    const text = readFileSync(file, "utf8").trimEnd();
    return text === "" ? "(empty)" : text.split("\n").slice(-lines).join("\n");
  } catch {
    return "(no log)";
  }
}

export async function routerSessions(plan: LabPlan, machine: RouterMachine, folder: string): Promise<SessionView[]> {
  const owner = ownerOf(plan);
  const sessions = await RouterKinds[machine.kind].sessions(routerFolder(folder, machine.name));
  return sessions.map(session => ({ ...session, machine: machine.name, neighbor: owner(session.address) ?? session.neighbor }));
}

export function routerPaths(plan: LabPlan, machine: RouterMachine, folder: string): Promise<PathView[]> {
  return RouterKinds[machine.kind].paths(routerFolder(folder, machine.name), planRouter(plan, machine), ownerOf(plan));
}

/** Whose address on a link this is. */
export function ownerOf(plan: LabPlan): (address: string) => string | undefined {
  const owners = new Map(
    plan.machines.flatMap(machine =>
      machine.interfaces.flatMap(each => each.addresses.map(({ address }) => [address, machine.name] as const)),
    ),
  );
  return address => owners.get(address);
}
