/**
 * From a topology to what must be made: namespaces, interfaces and addresses with their names. Pure, so that drawing, checks and tests
 * know the same addresses as the engine without asking the kernel.
 */
import { formatAddress, parsePrefix } from "../../net/address.ts";
import type { LinkSpec, RouterSpec, Topology } from "./schema.ts";

/** Name of a lab: the topology's, with an instance so that two of one topology can run at once. */
export function labId(topology: string, instance?: string): string {
  const id = instance === undefined || instance === "" ? topology : `${topology}_${instance}`;
  if (!labIdPattern.test(id)) {
    throw new Error(`"${id}" cannot name a lab: use lower-case letters and digits, at most 12 for the topology and 16 for the instance`);
  }
  return id;
}

export const labIdPattern = /^[a-z][a-z0-9]{0,11}(_[a-z0-9]{1,16})?$/;

/** Lab ids hold no hyphen, so the prefix of one lab is never that of another. */
export function namespacePrefix(id: string): string {
  return `lab-${id}-`;
}

export interface Attachment {
  machine: string;
  interface: string;
  /** One per subnet of the link, in its order: address and prefix length. */
  addresses: { address: string; length: number }[];
}

export interface LinkPlan {
  spec: LinkSpec;
  kind: "point-to-point" | "switch" | "inside";
  /** Namespace of the bridge: a machine's, or one of its own; absent for point-to-point. */
  bridgeNamespace?: string;
  attachments: Attachment[];
}

export type MachinePlan = NodeMachine | RouterMachine;

/** Whether it forwards for others and speaks BGP: neither node, control plane nor host. */
export function isRouter({ kind }: MachinePlan): boolean {
  return kind !== "node" && kind !== "kubernetes" && kind !== "host";
}

export interface NodeMachine extends Machine {
  kind: "node";
  defaultRoutes: boolean;
}

export interface RouterMachine extends Machine {
  kind: RouterSpec["kind"];
  router: RouterSpec;
}

interface Machine {
  name: string;
  namespace: string;
  description?: string;
  interfaces: { link: string; interface: string; addresses: { address: string; length: number }[] }[];
  /** Addresses on its loopback interface, beside the kernel's own. */
  loopback: { address: string; length: number }[];
}

export interface PlannedPod {
  name: string;
  node: string;
  namespace: string;
}

export interface LabPlan {
  id: string;
  topology: Topology;
  machines: MachinePlan[];
  links: LinkPlan[];
  pods: PlannedPod[];
  /** All namespaces, switches included. */
  namespaces: string[];
  /** What the pods' addresses are taken from: podCIDRs of the Node documents, by node. */
  podSubnets: Record<string, string[]>;
}

export function planLab(topology: Topology, instance?: string): LabPlan {
  const id = labId(topology.name, instance);
  const prefix = namespacePrefix(id);
  const machines: MachinePlan[] = [
    ...Object.entries(topology.routers ?? {}).map(
      ([name, router]): MachinePlan => ({
        name,
        kind: router.kind,
        namespace: prefix + name,
        router,
        description: router.description,
        interfaces: [],
        loopback: [],
      }),
    ),
    ...Object.entries(topology.nodes ?? {}).map(
      ([name, node]): MachinePlan => ({
        name,
        kind: "node",
        defaultRoutes: node.defaultRoutes ?? false,
        namespace: prefix + name,
        description: node.description,
        interfaces: [],
        loopback: (node.loopback ?? []).map(address => ({ address, length: address.includes(":") ? 128 : 32 })),
      }),
    ),
  ];
  const byName = new Map(machines.map(machine => [machine.name, machine]));
  const links = topology.links.map(spec => planLink(spec, prefix, byName));
  const pods = Object.entries(topology.nodes ?? {}).flatMap(([node, { pods: count = 0 }]) =>
    podNames(node, count).map((name): PlannedPod => ({ name, node, namespace: `${prefix}pod-${name}` })),
  );
  const switches = links.flatMap(link => (link.kind === "switch" ? [link.bridgeNamespace as string] : []));
  return {
    id,
    topology,
    machines,
    links,
    pods,
    namespaces: [...switches, ...machines.map(machine => machine.namespace), ...pods.map(pod => pod.namespace)],
    podSubnets: podSubnets(topology),
  };
}

function planLink(spec: LinkSpec, prefix: string, machines: ReadonlyMap<string, MachinePlan>): LinkPlan {
  const members = Object.entries(spec.members);
  const kind = spec.inside !== undefined ? "inside" : members.length === 2 ? "point-to-point" : "switch";
  const attachments = members.map(([name, host]): Attachment => {
    const machine = machines.get(name) as MachinePlan;
    const addresses = spec.subnets.map(subnet => hostAddress(subnet, host));
    // The bridge itself is the interface of the router that the switch is part of.
    const ethernets = machine.interfaces.filter(({ interface: own }) => own.startsWith("eth")).length;
    const own = spec.inside === name ? bridgeName(spec.name) : `eth${ethernets}`;
    machine.interfaces.push({ link: spec.name, interface: own, addresses });
    return { machine: name, interface: own, addresses };
  });
  const bridgeNamespace = kind === "inside" ? `${prefix}${spec.inside}` : kind === "switch" ? `${prefix}sw-${spec.name}` : undefined;
  return { spec, kind, bridgeNamespace, attachments };
}

/** Linux allows 15 characters (IFNAMSIZ). */
export function bridgeName(link: string): string {
  return link.slice(0, 15);
}

/** Pods are named after their node: node1-1, node1-2, … */
export function podNames(node: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${node}-${index + 1}`);
}

/** Address number `host` of a subnet. In IPv6 its decimal digits are written as they are, so that 172.16.1.11 and fd00::11 belong together. */
export function hostAddress(subnet: string, host: number): { address: string; length: number } {
  const prefix = parsePrefix(subnet);
  const number = hostNumber(prefix.family, host);
  const octets = Uint8Array.from(prefix.address);
  octets[octets.length - 1] |= number & 255;
  octets[octets.length - 2] |= (number >> 8) & 255;
  if (prefix.family === 6) octets[octets.length - 3] |= number >> 16;
  return { address: formatAddress(octets), length: prefix.length };
}

/** What is added to the subnet's address. */
export function hostNumber(family: 4 | 6, host: number): number {
  return family === 6 ? Number.parseInt(String(host), 16) : host;
}

function podSubnets(topology: Topology): Record<string, string[]> {
  const subnets: Record<string, string[]> = {};
  for (const object of topology.objects ?? []) {
    if (object.kind !== "Node") continue;
    const spec = (object as { spec?: { podCIDRs?: unknown } }).spec;
    const cidrs = Array.isArray(spec?.podCIDRs) ? spec.podCIDRs.filter(cidr => typeof cidr === "string") : [];
    subnets[object.metadata.name] = cidrs;
  }
  return subnets;
}
