/**
 * Namespaces, links and addresses of a plan. Devices are created directly in their namespaces (`link add … netns A type veth peer … netns B`),
 * so no name ever appears in the machine's own namespace.
 */
import { bridgeName, isRouter, type LabPlan, type MachinePlan } from "../topology/plan.ts";
import { ipBatch, type RunOptions, run, sysctls } from "./system.ts";

export async function makeNamespaces(plan: LabPlan, options?: RunOptions): Promise<void> {
  await ipBatch(
    undefined,
    plan.namespaces.map(name => `netns add ${name}`),
    options,
  );
  await Promise.all(plan.namespaces.map(name => prepare(name, plan, options)));
}

async function prepare(namespace: string, plan: LabPlan, options?: RunOptions): Promise<void> {
  const machine = plan.machines.find(each => each.namespace === namespace);
  const loopback = machine?.loopback ?? [];
  await ipBatch(
    namespace,
    ["link set lo up", ...loopback.map(({ address, length }) => `address add ${address}/${length} dev lo`)],
    options,
  );
  // No router solicitations, no address detection: a lab is ready when its links are.
  const quiet = { "net.ipv6.conf.all.accept_dad": 0, "net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.accept_ra": 0 };
  if (machine === undefined) return sysctls(namespace, quiet, options);
  await sysctls(namespace, { ...quiet, ...machineSysctls(machine) }, options);
}

function machineSysctls(machine: MachinePlan): Record<string, number> {
  const all = {
    // Every router on the way answers traceroute at once.
    "net.ipv4.icmp_ratelimit": 0,
    "net.ipv6.icmp.ratelimit": 0,
    // Flows, not only pairs of hosts, spread over equal paths.
    "net.ipv4.fib_multipath_hash_policy": 1,
    "net.ipv6.fib_multipath_hash_policy": 1,
    // With two top-of-rack routers the way back is often another one.
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
  };
  // A node's forwarding is the agent's business; a router's is ours, and a host forwards nothing.
  return machine.kind === "node" || machine.kind === "host" ? all : { ...all, "net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1 };
}

export async function makeLinks(plan: LabPlan, options?: RunOptions): Promise<void> {
  const root: string[] = [];
  const within = new Map<string, string[]>();
  const lines = (namespace: string) => {
    const known = within.get(namespace) ?? [];
    within.set(namespace, known);
    return known;
  };
  const namespaceOf = (name: string) => plan.machines.find(machine => machine.name === name)?.namespace as string;
  for (const link of plan.links) {
    const mtu = link.spec.mtu === undefined ? "" : ` mtu ${link.spec.mtu}`;
    if (link.kind === "point-to-point") {
      const [a, b] = link.attachments;
      root.push(cable([a.interface, namespaceOf(a.machine)], [b.interface, namespaceOf(b.machine)], mtu, root.length));
    } else {
      const bridgeNamespace = link.bridgeNamespace as string;
      const bridge = bridgeName(link.spec.name);
      lines(bridgeNamespace).push(`link add name ${bridge}${mtu} type bridge mcast_snooping 0`, `link set ${bridge} up`);
      for (const attachment of link.attachments) {
        if (attachment.machine === link.spec.inside) continue;
        const port = portName(attachment.machine, lines(bridgeNamespace));
        root.push(cable([port, bridgeNamespace], [attachment.interface, namespaceOf(attachment.machine)], mtu, root.length));
        lines(bridgeNamespace).push(`link set ${port} master ${bridge} up`);
      }
    }
    for (const attachment of link.attachments) {
      lines(namespaceOf(attachment.machine)).push(...addressLines(attachment.interface, attachment.addresses));
    }
  }
  for (const machine of plan.machines.filter(hasDefaultRoutes)) lines(machine.namespace).push(...defaultRoutes(plan, machine));
  await ipBatch(undefined, root, options);
  await Promise.all([...within].map(([namespace, batch]) => ipBatch(namespace, batch, options)));
}

function hasDefaultRoutes(machine: MachinePlan): boolean {
  return machine.kind === "host" || (machine.kind === "node" && machine.defaultRoutes);
}

/** To the first router on a link of the machine's. */
export function defaultRoutes(plan: LabPlan, machine: MachinePlan): string[] {
  const links = plan.links.filter(link => link.attachments.some(each => each.machine === machine.name));
  const routers = plan.machines.filter(isRouter).map(({ name }) => name);
  const gateway = links.flatMap(link => link.attachments).find(each => routers.includes(each.machine));
  return (gateway?.addresses ?? []).map(({ address }) => `route replace default via ${address}`);
}

/**
 * The two ends have different interface indexes: where they are alike Linux takes a veth for a real device, whose loss of carrier may wait up to
 * a second behind whatever other links of the machine just did.
 */
function cable(a: [device: string, namespace: string], b: [device: string, namespace: string], mtu: string, number: number): string {
  const end = ([device, namespace]: [string, string], index: number) => `name ${device} index ${index}${mtu} netns ${namespace}`;
  return `link add ${end(a, 1000 + number)} type veth peer ${end(b, 2000 + number)}`;
}

function addressLines(device: string, addresses: { address: string; length: number }[]): string[] {
  return [
    `link set ${device} up`,
    ...addresses.map(({ address, length }) => `address add ${address}/${length} dev ${device}${address.includes(":") ? " nodad" : ""}`),
  ];
}

/** A port is named after who is behind it; a number tells a second link of the same machine apart. */
function portName(machine: string, batch: string[]): string {
  for (let number = 1; ; number++) {
    const suffix = number === 1 ? "" : `.${number}`;
    const name = machine.slice(0, 15 - suffix.length) + suffix;
    if (!batch.some(line => line.startsWith(`link set ${name} `))) return name;
  }
}

/** All devices of a machine but the loopback. */
async function devices(namespace: string): Promise<string[]> {
  const links = JSON.parse(await run("ip", ["-n", namespace, "-j", "link", "show"])) as { ifname: string }[];
  return links.map(link => link.ifname).filter(name => name !== "lo");
}

/** What a power cut does to the links, or its end. What the kernel drops with a link, IPv6 addresses and default routes, is put back. */
export async function power(plan: LabPlan, machine: MachinePlan, on: boolean): Promise<void> {
  const names = await devices(machine.namespace);
  await ipBatch(
    machine.namespace,
    names.map(name => `link set ${name} ${on ? "up" : "down"}`),
  );
  if (!on) return;
  const restored = plan.links
    .flatMap(link => link.attachments)
    .filter(attachment => attachment.machine === machine.name)
    .flatMap(({ interface: device, addresses }) =>
      addresses
        .filter(({ address }) => address.includes(":"))
        .map(({ address, length }) => `address replace ${address}/${length} dev ${device} nodad`),
    );
  await ipBatch(machine.namespace, [...restored, ...(hasDefaultRoutes(machine) ? defaultRoutes(plan, machine) : [])]);
}
