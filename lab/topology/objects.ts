/**
 * The objects of a topology, checked before anything is built: each by its schema, all together as each node's agent will compile them, and
 * that a node's document names addresses which the node has in this topology. An agent would go on with what is good; a lab would wait in vain.
 */
import { compile } from "../../config/compile.ts";
import { checkObject } from "../../config/resources/check-object.ts";
import { GROUP } from "../../config/resources/common.ts";
import { CoreKinds, type Node } from "../../config/resources/core.ts";
import { type AnyResource, collect, type Resources } from "../../config/resources/kinds.ts";
import { formatPath } from "../../config/resources/validate.ts";
import { formatAddress, isAddress, parseAddress } from "../../net/address.ts";
import { type MachinePlan, planLab } from "./plan.ts";
import type { TopologyProblem } from "./problem.ts";
import type { Topology } from "./schema.ts";

/** `places`: where each stands, by "Kind/name". */
export interface TopologyObjects {
  objects: AnyResource[];
  places: ReadonlyMap<string, string>;
}

/** Each for itself, by its schema. */
export function readObjects(topology: Topology): { objects: TopologyObjects; problems: TopologyProblem[] } {
  const problems: TopologyProblem[] = [];
  const places = new Map<string, string>();
  const objects: AnyResource[] = [];
  for (const [index, value] of (topology.objects ?? []).entries()) {
    const { object, name, faults } = isForeign(topology, value) ? foreign(value) : checkObject(value);
    const place = `objects[${index}]${name === undefined ? "" : ` (${name})`}`;
    for (const fault of faults) {
      problems.push({ path: [place, formatPath(fault.path)].filter(Boolean).join("."), what: fault.message, remedy: fault.remedy });
    }
    if (name !== undefined && places.has(name)) {
      problems.push({ path: place, what: `is ${places.get(name)} again`, remedy: "give each object of a kind its own name" });
    }
    if (name !== undefined) places.set(name, place);
    if (object) objects.push(object);
  }
  return { objects: { objects, places }, problems };
}

/** What only a control plane knows: it will say what is wrong with it. */
function isForeign({ routers = {} }: Topology, { apiVersion, kind }: { apiVersion: string; kind: string }): boolean {
  const ours = apiVersion.startsWith(`${GROUP}/`) || (apiVersion === "v1" && kind in CoreKinds);
  return !ours && Object.values(routers).some(router => router.kind === "kubernetes");
}

function foreign({ kind, metadata }: { kind: string; metadata: { name: string } }): ReturnType<typeof checkObject> {
  return { name: `${kind}/${metadata.name}`, faults: [] };
}

/** Of a topology that was found good. */
export function readResources(topology: Topology): Resources {
  return collect(readObjects(topology).objects.objects).resources;
}

/** All together, as the agents will compile them. The topology must be good otherwise: its links are planned. */
export function objectProblems(topology: Topology, { objects, places }: TopologyObjects): TopologyProblem[] {
  const problems: TopologyProblem[] = [];
  const { resources } = collect(objects);
  const found = new Map<string, TopologyProblem>();
  for (const machine of planLab(topology).machines.filter(each => each.kind === "node")) {
    const node = resources.nodes.get(machine.name);
    if (node) problems.push(...foreignAddresses(node, machine, places.get(`Node/${machine.name}`) ?? "objects"));
    for (const { severity, object, field, message, remedy } of compile(resources, { name: machine.name, addresses: facts(machine) })
      .problems) {
      if (severity !== "error") continue;
      const path = [places.get(object) ?? object, field].filter(Boolean).join(".");
      found.set(`${path} ${message}`, { path, what: message, remedy });
    }
  }
  return [...problems, ...found.values()];
}

function facts(machine: MachinePlan): { interface: string; address: string; prefixLength: number }[] {
  return [...machine.interfaces, { interface: "lo", addresses: machine.loopback }].flatMap(each =>
    each.addresses.map(({ address, length }) => ({ interface: each.interface, address, prefixLength: length })),
  );
}

/** Its neighbours in the mesh would connect to an address that nobody has. */
function foreignAddresses(node: Node, machine: MachinePlan, place: string): TopologyProblem[] {
  const own = facts(machine).map(({ address }) => address);
  return node.status.addresses
    .filter(({ type, address }) => type === "InternalIP" && isAddress(address) && !own.includes(formatAddress(parseAddress(address))))
    .map(({ address }) => ({
      path: `${place}.status.addresses`,
      what: `${address} is on no link of ${machine.name}, nor on its loopback`,
      remedy: `use one of ${own.join(", ") || "(none: connect it to a link)"}`,
    }));
}
