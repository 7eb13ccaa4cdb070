/** What a drawing of a lab shows, independent of how it is drawn: boxes in tiers and the links between them. Pure. */
import type { LabPlan, LinkPlan, MachinePlan } from "../topology/plan.ts";

export interface PictureBox {
  id: string;
  title: string;
  /** Small text behind the title: "FRR · AS 65000". */
  subtitle: string;
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
}

export interface Picture {
  title: string;
  routers: PictureBox[];
  nodes: PictureBox[];
  links: PictureLink[];
}

const software = { frr: "FRR", bird: "BIRD", node: "" };

/** `podAddresses`: by pod, without lengths; pods that are not attached yet have none. */
export function pictureOf(plan: LabPlan, podAddresses: Record<string, string[]>): Picture {
  const indexes = new Map(plan.links.map((link, index) => [link.spec.name, index]));
  const box = (machine: MachinePlan): PictureBox => {
    const asn = machine.router?.asn === undefined ? undefined : `AS ${machine.router.asn}`;
    const description = machine.description ?? asn;
    return {
      id: machine.name,
      title: machine.name,
      subtitle: [software[machine.kind], description].filter(text => text !== "" && text !== undefined).join(" · "),
      interfaces: machine.interfaces.map(each => ({
        link: indexes.get(each.link) as number,
        interface: each.interface,
        addresses: each.addresses.map(({ address }) => address),
      })),
      subnets: plan.podSubnets[machine.name] ?? [],
      pods: plan.pods.filter(pod => pod.node === machine.name).map(pod => ({ name: pod.name, addresses: podAddresses[pod.name] ?? [] })),
    };
  };
  return {
    title: plan.topology.title,
    routers: plan.machines.filter(machine => machine.kind !== "node").map(box),
    nodes: plan.machines.filter(machine => machine.kind === "node").map(box),
    links: plan.links.map(link => ({
      name: link.spec.name,
      kind: link.kind,
      subnets: link.spec.subnets,
      members: link.attachments
        .map(({ machine }) => machine)
        .sort((a, b) => Number(b === link.spec.inside) - Number(a === link.spec.inside)),
    })),
  };
}
