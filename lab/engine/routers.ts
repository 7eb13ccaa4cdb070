/**
 * The neighbours that are not podlane: FRR and BIRD 2, one instance per router, in its namespace and with all its files in its folder of
 * the lab. The short form of a topology becomes the daemon's own configuration here, readable in that folder.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parsePrefix } from "../../net/address.ts";
import type { LabPlan, MachinePlan } from "../topology/plan.ts";
import type { RouterSpec } from "../topology/schema.ts";
import { birdConfig, birdProtocol, parseBirdProtocols, parseBirdRoutes } from "./bird.ts";
import { frrConfig, parseFrrRoutes, parseFrrSummary } from "./frr.ts";
import type { PathView, RouterPlan, RouterSession, SessionView } from "./router-types.ts";
import { isAlive, type ProcessId, run, startDaemon, until } from "./system.ts";

function planRouter(plan: LabPlan, machine: MachinePlan): RouterPlan {
  const spec = machine.router as RouterSpec;
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
  machine: MachinePlan,
  folder: string,
  record: (program: string, id: ProcessId) => void,
  abort?: AbortSignal,
): Promise<void> {
  const own = routerFolder(folder, machine.name);
  mkdirSync(own, { recursive: true });
  const config =
    machine.router?.config ?? (machine.kind === "frr" ? frrConfig(planRouter(plan, machine)) : birdConfig(planRouter(plan, machine)));
  const log = `${own}/log`;
  const daemons: ProcessId[] = [];
  const start = (program: string, command: string, args: string[]) => {
    const id = startDaemon(machine.namespace, command, args, log);
    daemons.push(id);
    record(program, id);
  };
  const speaks = async (daemon?: string) => {
    let ended = false;
    const up = await until(
      async () => {
        ended = !daemons.every(isAlive);
        return ended || (await answers(machine, own, daemon));
      },
      10_000,
      50,
      abort,
    );
    if (up && !ended) return;
    const what = ended ? "ended at its start" : "does not answer";
    throw new Error(`${machine.kind === "frr" ? "FRR" : "BIRD"} of ${machine.name} ${what}; the end of ${log}:\n${logEnd(log)}`);
  };
  if (machine.kind === "bird") {
    writeFileSync(`${own}/bird.conf`, config);
    start("bird", "bird", ["-f", "-c", `${own}/bird.conf`, "-s", `${own}/bird.ctl`]);
  } else {
    // FRR's daemons give up root for the user frr and must still write their sockets.
    await run("chown", ["frr:frr", own]);
    writeFileSync(`${own}/zebra.conf`, `hostname ${machine.name}\n`);
    writeFileSync(`${own}/bgpd.conf`, config);
    for (const file of ["zebra.conf", "bgpd.conf"]) chmodSync(`${own}/${file}`, 0o644);
    const common = (daemon: string) => [
      "-i",
      `${own}/${daemon}.pid`,
      "-z",
      `${own}/zserv.api`,
      "--vty_socket",
      own,
      "-f",
      `${own}/${daemon}.conf`,
      "-P",
      "0",
      "--log",
      "stdout",
    ];
    start("zebra", "/usr/lib/frr/zebra", common("zebra"));
    await speaks("zebra");
    start("bgpd", "/usr/lib/frr/bgpd", common("bgpd"));
  }
  await speaks();
}

async function answers(machine: MachinePlan, own: string, daemon = "bgpd"): Promise<boolean> {
  try {
    if (machine.kind === "bird") await run("birdc", ["-r", "-s", `${own}/bird.ctl`, "show status"]);
    else await run("vtysh", ["--vty_socket", own, "-d", daemon, "-c", "show version"]);
    return true;
  } catch {
    return false;
  }
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

export async function routerSessions(plan: LabPlan, machine: MachinePlan, folder: string): Promise<SessionView[]> {
  const own = routerFolder(folder, machine.name);
  const owner = ownerOf(plan);
  const sessions =
    machine.kind === "frr"
      ? parseFrrSummary(await run("vtysh", ["--vty_socket", own, "-d", "bgpd", "-c", "show bgp summary json"]))
      : parseBirdProtocols(await run("birdc", ["-r", "-s", `${own}/bird.ctl`, "show protocols all"]));
  return sessions.map(session => ({ ...session, machine: machine.name, neighbor: owner(session.address) ?? session.neighbor }));
}

export async function routerPaths(plan: LabPlan, machine: MachinePlan, folder: string): Promise<PathView[]> {
  const own = routerFolder(folder, machine.name);
  if (machine.kind === "bird") {
    const { sessions } = planRouter(plan, machine);
    const names = new Map(sessions.map(session => [birdProtocol(session, sessions), session.name]));
    const paths = parseBirdRoutes(await run("birdc", ["-r", "-s", `${own}/bird.ctl`, "show route all"]));
    return paths.map(path => ({ ...path, from: names.get(path.from) ?? (/^own[46]$/.test(path.from) ? "itself" : path.from) }));
  }
  const show = (family: string) => run("vtysh", ["--vty_socket", own, "-d", "bgpd", "-c", `show bgp ${family} unicast json`]);
  const owner = ownerOf(plan);
  return [...parseFrrRoutes(await show("ipv4")), ...parseFrrRoutes(await show("ipv6"))].map(path => ({
    ...path,
    from: owner(path.from) ?? path.from,
  }));
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
