/** What a drawing of a lab shows, independent of how it is drawn: boxes in tiers and the links between them. Pure. */
import { compile } from "../../config/compile.ts";
import { RouterKinds } from "../engine/router-kinds.ts";
import { readResources } from "../topology/objects.ts";
import type { LabPlan, LinkPlan, MachinePlan } from "../topology/plan.ts";

export interface PictureBox {
  id: string;
  title: string;
  /** Small text behind the title: "FRR · AS 65000". */
  subtitle: string;
  asn?: number;
  router: boolean;
  /** Addresses of its interfaces, by link. */
  interfaces: { link: number; interface: string; addresses: string[] }[];
  /** Pod subnets of a node. */
  subnets: string[];
  pods: { name: string; addresses: string[] }[];
}

export interface PictureLink {
  name: string;
  kind: LinkPlan["kind"];
  subnets: string[];
  /** Ids of the boxes; the router that a link is inside of comes first. */
  members: string[];
  /** Number of the tier that the link hangs below; -1 where it lies above the only one. */
  below: number;
}

export interface Picture {
  title: string;
  /** From the top: routers far from the nodes (spines), those next to them (leaves), and last the nodes. Links join a tier and the next one. */
  tiers: PictureBox[][];
  links: PictureLink[];
}

/** `podAddresses`: by pod, without lengths; pods that are not attached yet have none. */
export function pictureOf(plan: LabPlan, podAddresses: Record<string, string[]>): Picture {
  const indexes = new Map(plan.links.map((link, index) => [link.spec.name, index]));
  const resources = readResources(plan.topology);
  const box = (machine: MachinePlan): PictureBox => {
    const asn = machine.kind !== "node" ? machine.router.asn : compile(resources, { name: machine.name, addresses: [] }).speaker?.asn;
    const texts = [
      machine.kind === "node" ? "" : RouterKinds[machine.kind].title,
      asn === undefined ? "" : `AS ${asn}`,
      machine.description ?? "",
    ];
    return {
      id: machine.name,
      title: machine.name,
      subtitle: texts.filter(text => text !== "").join(" · "),
      ...(asn !== undefined && { asn }),
      router: machine.kind !== "node",
      interfaces: machine.interfaces.map(each => ({
        link: indexes.get(each.link) as number,
        interface: each.interface,
        addresses: each.addresses.map(({ address }) => address),
      })),
      subnets: plan.podSubnets[machine.name] ?? [],
      pods: plan.pods.filter(pod => pod.node === machine.name).map(pod => ({ name: pod.name, addresses: podAddresses[pod.name] ?? [] })),
    };
  };
  const tiers = tiersOf(plan);
  const tierOf = new Map(tiers.flatMap((tier, at) => tier.map(machine => [machine.name, at] as const)));
  return {
    title: plan.topology.title,
    tiers: tiers.map(tier => tier.map(box)),
    links: plan.links.map(link => ({
      name: link.spec.name,
      kind: link.kind,
      subnets: link.spec.subnets,
      members: link.attachments
        .map(({ machine }) => machine)
        .sort((a, b) => Number(b === link.spec.inside) - Number(a === link.spec.inside)),
      below: bandOf(link, tierOf, tiers),
    })),
  };
}

/** By the number of links to the nearest node; where there is no node, routers are one tier. */
function tiersOf({ machines, links }: LabPlan): MachinePlan[][] {
  const distances = new Map(machines.filter(({ kind }) => kind === "node").map(({ name }) => [name, 0]));
  let reached = [...distances.keys()];
  for (let distance = 1; reached.length > 0; distance++) {
    const near = links.filter(link => link.attachments.some(({ machine }) => reached.includes(machine)));
    reached = near.flatMap(link => link.attachments.map(({ machine }) => machine)).filter(name => !distances.has(name));
    for (const name of reached) distances.set(name, distance);
  }
  const farthest = Math.max(1, ...distances.values());
  const tiers = Array.from({ length: farthest + 1 }, (_, at) =>
    machines.filter(({ name, kind }) => (distances.get(name) ?? (kind === "node" ? 0 : farthest)) === farthest - at),
  );
  return tiers.filter(tier => tier.length > 0);
}

/** Members of one link are at most a link apart, so it lies between two tiers or at one. */
function bandOf(link: LinkPlan, tierOf: ReadonlyMap<string, number>, tiers: readonly MachinePlan[][]): number {
  const top = Math.min(...link.attachments.map(({ machine }) => tierOf.get(machine) ?? 0));
  const amongNodes = top === tiers.length - 1 && tiers[top].every(({ kind }) => kind === "node");
  return amongNodes ? top - 1 : top;
}
