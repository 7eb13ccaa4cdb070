/**
 * Reads a topology file and says everything that is wrong with it at once, each with file, path, what and remedy. Beyond the schema it
 * checks what only the whole document can tell: that names exist, addresses fit their subnets, and nothing is defined twice.
 */
import { readFileSync, statSync } from "node:fs";
import { type Fault, formatPath, NO_HELP, validate } from "../../config/resources/validate.ts";
import { documentFault, Limits, parseYaml } from "../../config/resources/yaml.ts";
import { AddressError, formatPrefix, isAddress, overlaps, type Prefix, parsePrefix } from "../../net/address.ts";
import { objectProblems, readObjects } from "./objects.ts";
import { bridgeName, hostNumber, podNames } from "./plan.ts";
import type { TopologyProblem } from "./problem.ts";
import { type Checks, type Condition, conditionNames, type Topology, TopologySchema } from "./schema.ts";
import { actionNames, actionsOf } from "./steps.ts";

/** A topology has no business being larger. Octets. */
const MAX_FILE_SIZE = 1 << 20;

export class TopologyError extends Error {
  override readonly name = "TopologyError";
  readonly problems: TopologyProblem[];
  readonly file: string;

  constructor(file: string, problems: TopologyProblem[]) {
    super(problems.map(p => `${file}: ${p.path === "" ? "" : `${p.path}: `}${p.what}; ${p.remedy}`).join("\n"));
    this.file = file;
    this.problems = problems;
  }
}

/** Throws TopologyError. */
export function loadTopology(file: string): Topology {
  let text: string;
  try {
    if (statSync(file).size > MAX_FILE_SIZE) {
      throw new TopologyError(file, [
        { path: "", what: `larger than ${MAX_FILE_SIZE} octets`, remedy: "a topology is one small document" },
      ]);
    }
    text = readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof TopologyError) throw error;
    throw new TopologyError(file, [
      {
        path: "",
        what: `cannot be read: ${(error as Error).message}`,
        remedy: "give a topology file, or the name of a shipped one (npm run lab -- list)",
      },
    ]);
  }
  return parseTopology(text, file);
}

/** Throws TopologyError; `file` is only for its text. */
export function parseTopology(text: string, file = "topology"): Topology {
  const { documents, lines, fault } = parseYaml(text);
  const [document] = documents;
  const wrong = fault ?? (document && documentFault(document));
  if (wrong !== undefined || document === undefined || documents.length > 1) {
    const { line, col } = lines.linePos(wrong?.offset ?? 0);
    const place = wrong?.offset === undefined ? "" : ` at line ${line}, column ${col}`;
    const what = wrong ? `${wrong.message}${place}` : `holds ${documents.length} documents`;
    throw new TopologyError(file, [{ path: "", what, remedy: wrong ? "mend it at that place" : "a topology is one document" }]);
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: Limits.aliases });
  } catch (error) {
    throw new TopologyError(file, [{ path: "", what: `not usable YAML: ${(error as Error).message}`, remedy: "use fewer aliases" }]);
  }
  const { value: topology, faults } = validate(TopologySchema, value);
  if (faults.length > 0) throw new TopologyError(file, faults.map(problemOf));
  const semantic = semanticProblems(topology);
  const { objects, problems: unreadable } = readObjects(topology);
  if (semantic.length + unreadable.length > 0) throw new TopologyError(file, [...semantic, ...unreadable]);
  const meaning = objectProblems(topology, objects);
  if (meaning.length > 0) throw new TopologyError(file, meaning);
  return topology;
}

function problemOf({ path, about, message, remedy }: Fault): TopologyProblem {
  return {
    path: formatPath(about === "key" ? path.slice(0, -1) : path),
    what: message,
    remedy: remedy === NO_HELP ? "docs/lab.md describes it" : remedy,
  };
}

function checkLoopbacks(topology: Topology, report: (path: string, what: string, remedy: string) => void): void {
  const owners = new Map<string, string>();
  for (const [name, { loopback = [] }] of Object.entries(topology.nodes ?? {})) {
    for (const [at, text] of loopback.entries()) {
      const path = `nodes.${name}.loopback[${at}]`;
      const owner = owners.get(text);
      if (!isAddress(text)) report(path, `"${text}" is no address`, "write an IPv4 or IPv6 address");
      else if (owner !== undefined) report(path, `${text} is on the loopback of ${owner} already`, "give each node addresses of its own");
      owners.set(text, name);
    }
  }
}

const machineName = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/;

function semanticProblems(topology: Topology): TopologyProblem[] {
  const problems: TopologyProblem[] = [];
  const report = (path: string, what: string, remedy: string) => problems.push({ path, what, remedy });
  const nodes = Object.keys(topology.nodes ?? {});
  const routers = Object.keys(topology.routers ?? {});
  const machines = new Set([...nodes, ...routers]);
  if (machines.size === 0) report("nodes", "there is neither a node nor a router", "name at least one");
  for (const [kind, names] of [["nodes", nodes] as const, ["routers", routers] as const]) {
    for (const name of names) {
      if (!machineName.test(name) || name.length > 20) {
        report(`${kind}.${name}`, "is no machine name", "use at most 20 lower-case letters, digits and hyphens, beginning with a letter");
      }
    }
  }
  for (const name of nodes) if (routers.includes(name)) report(`routers.${name}`, "is a node too", "give one of them another name");
  const known = (path: string, name: string, among: ReadonlySet<string> | string[], what = "machine") => {
    const names = [...among];
    if (!names.includes(name)) report(path, `there is no ${what} "${name}"`, `use one of ${names.join(", ") || "(none)"}`);
  };
  checkLinks(topology, machines, report, known);
  checkRouters(topology, machines, report, known);
  for (const name of nodes) {
    if (!(topology.objects ?? []).some(object => object.kind === "Node" && object.metadata.name === name)) {
      report("objects", `there is no Node document for ${name}`, "add one with spec.podCIDRs and status.addresses");
    }
  }
  checkLoopbacks(topology, report);
  const pods = new Set(Object.entries(topology.nodes ?? {}).flatMap(([name, node]) => podNames(name, node.pods ?? 0)));
  const condition = (path: string, value: Condition) => checkCondition(path, value, machines, report, known);
  if (topology.checks !== undefined) {
    condition("checks", topology.checks);
    for (const [index, ping] of (topology.checks.ping ?? []).entries()) {
      known(`checks.ping[${index}].from`, ping.from, new Set([...machines, ...pods]));
      if (!isAddress(ping.to)) report(`checks.ping[${index}].to`, `"${ping.to}" is no address`, "write an IPv4 or IPv6 address");
    }
    checkTraffic(topology.checks, machines, pods, report, known);
  }
  const endpoints = new Set([...pods, ...nodes]);
  for (const [index, scenario] of (topology.scenarios ?? []).entries()) {
    const path = `scenarios[${index}]`;
    for (const end of ["from", "to"] as const) {
      for (const [at, name] of (scenario.ping?.[end] ?? []).entries()) known(`${path}.ping.${end}[${at}]`, name, endpoints, "pod or node");
    }
    for (const [at, name] of (scenario.expect?.undisturbed ?? []).entries()) known(`${path}.expect.undisturbed[${at}]`, name, machines);
    if (scenario.expect !== undefined && scenario.ping === undefined && (scenario.expect.lost ?? scenario.expect.outage) !== undefined) {
      report(`${path}.expect`, "counts packets, but no packets run", "add `ping` to the scenario");
    }
    for (const [at, step] of scenario.steps.entries()) {
      const where = `${path}.steps[${at}]`;
      const actions = actionsOf(step);
      if (actions.length !== 1) report(where, `has ${actions.length} actions`, `give exactly one of ${actionNames.join(", ")}`);
      for (const action of actions) {
        if ("machine" in action) known(`${where}.${action.does}`, action.machine, machines);
        if (action.does === "await") condition(`${where}.await`, action.condition);
      }
      if (step.await !== undefined) {
        if (step.within === undefined) report(where, "awaits without a bound", "add `within: SECONDS`");
      } else if ((step.within ?? step.measure) !== undefined) {
        report(where, "`within` and `measure` belong to `await`", "remove them, or add `await`");
      }
    }
  }
  return problems;
}

function checkTraffic(
  { reach = [], dies = [], carried = [] }: Checks,
  machines: ReadonlySet<string>,
  pods: ReadonlySet<string>,
  report: Report,
  known: Known,
) {
  const all = new Set([...machines, ...pods]);
  const each = (path: string, { from, to }: { from: string[]; to: string[] }) => {
    for (const [at, name] of from.entries()) known(`${path}.from[${at}]`, name, all, "machine or pod");
    for (const [at, text] of to.entries())
      if (!isAddress(text)) report(`${path}.to[${at}]`, `"${text}" is no address`, "write an IPv4 or IPv6 address");
  };
  for (const [index, check] of reach.entries()) {
    each(`checks.reach[${index}]`, check);
    for (const [at, name] of check.by.entries()) known(`checks.reach[${index}].by[${at}]`, name, pods, "pod");
  }
  for (const [index, check] of dies.entries()) {
    each(`checks.dies[${index}]`, check);
    for (const [at, name] of check.at.entries()) known(`checks.dies[${index}].at[${at}]`, name, machines);
  }
  for (const [index, { from, to }] of carried.entries()) {
    known(`checks.carried[${index}].from`, from, pods, "pod");
    for (const [at, name] of to.entries()) known(`checks.carried[${index}].to[${at}]`, name, pods, "pod");
  }
}

type Report = (path: string, what: string, remedy: string) => void;
type Known = (path: string, name: string, among: ReadonlySet<string> | string[], what?: string) => void;

function checkLinks(topology: Topology, machines: ReadonlySet<string>, report: Report, known: Known): void {
  const seen = new Set<string>();
  const subnets: { prefix: Prefix; path: string; link: string }[] = [];
  const bridges = new Map<string, string>();
  for (const [index, link] of topology.links.entries()) {
    const path = `links[${index}]`;
    if (seen.has(link.name)) report(`${path}.name`, `"${link.name}" is used twice`, "give each link its own name");
    if (machines.has(link.name)) report(`${path}.name`, `"${link.name}" is a machine too`, "give the link another name");
    seen.add(link.name);
    const members = Object.keys(link.members);
    if (members.length < 2) report(`${path}.members`, "a link has at least two members", "add who is on it");
    for (const member of members) known(`${path}.members.${member}`, member, machines);
    if (link.inside !== undefined) {
      known(`${path}.inside`, link.inside, Object.keys(topology.routers ?? {}), "router");
      if (!members.includes(link.inside)) report(`${path}.inside`, "is no member of the link", `add ${link.inside} to the members`);
      const bridge = `${link.inside} ${bridgeName(link.name)}`;
      const other = bridges.get(bridge);
      if (other !== undefined || /^(eth\d+|lo)$/.test(link.name)) {
        const taken = other === undefined ? "an interface" : `the interface of ${other}`;
        report(`${path}.name`, `would be ${taken} of ${link.inside} too`, "give it a name that differs in its first 15 characters");
      }
      bridges.set(bridge, link.name);
    }
    const hosts = new Map<number, string>();
    for (const [member, host] of Object.entries(link.members)) {
      const other = hosts.get(host);
      if (other !== undefined) report(`${path}.members.${member}`, `has the host number of ${other}`, "give each its own");
      hosts.set(host, member);
    }
    for (const [at, text] of link.subnets.entries()) {
      const prefix = checkSubnet(`${path}.subnets[${at}]`, text, link.members, report);
      if (prefix === undefined) continue;
      const other = subnets.find(each => each.prefix.family === prefix.family && overlaps(each.prefix, prefix));
      if (other !== undefined) {
        const where = `${formatPrefix(other.prefix)} of ${other.link} (${other.path})`;
        report(`${path}.subnets[${at}]`, `${text} overlaps ${where}`, "give each link subnets of its own");
      }
      subnets.push({ prefix, path: `${path}.subnets[${at}]`, link: link.name });
    }
  }
}

function checkSubnet(path: string, text: string, members: Record<string, number>, report: Report): Prefix | undefined {
  let prefix: Prefix;
  try {
    prefix = parsePrefix(text);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    report(path, error.message, "write a prefix such as 172.16.1.0/24");
    return undefined;
  }
  const bits = prefix.address.length * 8 - prefix.length;
  for (const [member, host] of Object.entries(members)) {
    const number = hostNumber(prefix.family, host);
    const of = `host number ${host} (${member})`;
    if (number >= 2 ** bits) report(path, `${text} has no ${of}`, "use a larger subnet or smaller number");
    else if (bits > 1 && number === 0) report(path, `${of} is the address of ${text} itself`, "count from 1");
    else if (bits > 1 && prefix.family === 4 && number === 2 ** bits - 1) {
      report(path, `${of} is the broadcast address of ${text}`, "use a smaller number");
    }
  }
  return prefix;
}

function checkRouters(topology: Topology, machines: ReadonlySet<string>, report: Report, known: Known): void {
  for (const [name, router] of Object.entries(topology.routers ?? {})) {
    const path = `routers.${name}`;
    if (router.kind === "kubernetes" || router.kind === "host") {
      const { kind, description: _description, ...rest } = router;
      const what = kind === "host" ? "host" : "control plane";
      for (const field of Object.keys(rest)) report(`${path}.${field}`, `is of routers; a ${what} has none`, "remove it");
      continue;
    }
    const short = router.asn !== undefined || router.neighbors !== undefined;
    if (short === (router.config !== undefined)) {
      report(path, short ? "has both `config` and a short form" : "has no configuration", "give either `asn` and `neighbors`, or `config`");
    }
    if (router.neighbors !== undefined && router.asn === undefined) report(path, "has neighbours but no ASN", "add `asn`");
    for (const [index, neighbor] of (router.neighbors ?? []).entries()) {
      const where = `${path}.neighbors[${index}]`;
      known(`${where}.name`, neighbor.name, machines);
      const shared = topology.links.filter(link => name in link.members && neighbor.name in link.members);
      if (neighbor.link !== undefined)
        known(
          `${where}.link`,
          neighbor.link,
          shared.map(link => link.name),
          "shared link",
        );
      else if (machines.has(neighbor.name) && shared.length !== 1) {
        report(where, `shares ${shared.length} links with ${name}`, shared.length === 0 ? "connect the two" : "say which with `link`");
      }
    }
    for (const [index, prefix] of (router.announce ?? []).entries()) checkPrefix(`${path}.announce[${index}]`, prefix, report);
  }
}

function checkCondition(path: string, value: Condition, machines: ReadonlySet<string>, report: Report, known: Known): void {
  for (const part of conditionNames) {
    for (const machine of Object.keys(value[part] ?? {})) known(`${path}.${part}.${machine}`, machine, machines);
  }
  for (const part of ["routes", "noRoutes", "noKernel"] as const) {
    for (const [machine, prefixes] of Object.entries(value[part] ?? {})) {
      for (const [index, prefix] of prefixes.entries()) checkPrefix(`${path}.${part}.${machine}[${index}]`, prefix, report);
    }
  }
  for (const [machine, routes] of Object.entries(value.kernel ?? {})) {
    for (const [index, route] of routes.entries()) {
      checkPrefix(`${path}.kernel.${machine}[${index}].prefix`, route.prefix, report);
      for (const [at, via] of (route.via ?? []).entries()) {
        if (!isAddress(via))
          report(`${path}.kernel.${machine}[${index}].via[${at}]`, `"${via}" is no address`, "write the gateway's address");
      }
    }
  }
}

function checkPrefix(path: string, text: string, report: Report): void {
  try {
    parsePrefix(text);
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    report(path, error.message, "write a prefix such as 10.244.1.0/24");
  }
}
