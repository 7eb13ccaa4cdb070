/**
 * Where a pod's packet goes, hop by hop. Real packets with TTL 1, 2, 3, … name the machines; each machine's own kernel says which route it
 * would take from there.
 */

import { contains, parseAddress, parsePrefix } from "../../net/address.ts";
import type { KernelRoute, Lab } from "../engine/lab.ts";
import { run, runIn } from "../engine/system.ts";

export interface Hop {
  /** Machine or pod of the lab; absent: nobody's address, or no answer. */
  machine?: string;
  /** The address that answered; absent for the sender and for a silent hop. */
  address?: string;
  /** What the kernel there does with the packet: "10.244.2.0/24 via 172.16.1.1 eth0 | 172.16.2.1 eth1". */
  route?: string;
}

const MAX_HOPS = 8;

export async function tracePath(lab: Lab, from: string, to: string, address: string): Promise<Hop[]> {
  const owners = await addressOwners(lab);
  const hops: Hop[] = [{ machine: from, route: await podRoute(lab.namespace(from), address) }];
  for (let ttl = 1; ttl <= MAX_HOPS; ttl++) {
    const { from: answer, refused } = await probe(lab.namespace(from), address, ttl);
    const machine = answer === undefined ? undefined : answer === address ? to : owners.get(answer);
    const known = lab.plan.machines.find(each => each.name === machine);
    const route = known === undefined ? undefined : describeRoute(lookup(await lab.kernelRoutes(known), address));
    hops.push({ machine, address: answer, route: refused === undefined ? route : `${route ?? ""}: refuses, ${refused}` });
    if (answer === undefined || answer === address || refused !== undefined) break;
  }
  return hops;
}

/** Who answers a packet of this TTL; `refused` when it is no longer about the TTL: "Destination Net Unreachable". */
async function probe(namespace: string, address: string, ttl: number): Promise<{ from?: string; refused?: string }> {
  const args = ["-n", "-c", "1", "-W", "2", "-t", String(ttl), address];
  const output = await runIn(namespace, "ping", args).catch(error => (error as { stdout?: string }).stdout ?? "");
  return readProbe(output);
}

/** Reads the output of `ping -c 1 -t TTL`. */
export function readProbe(output: string): { from?: string; refused?: string } {
  const echo = /bytes from (\S+): /.exec(output);
  if (echo !== null) return { from: echo[1] };
  const other = /^From (\S+?):? icmp_seq=\d+ (.+?)\s*$/m.exec(output);
  if (other === null) return {};
  return /^Time (to live )?exceeded/.test(other[2]) ? { from: other[1] } : { from: other[1], refused: other[2] };
}

async function podRoute(namespace: string, address: string): Promise<string> {
  const output = await run("ip", ["-n", namespace, address.includes(":") ? "-6" : "-4", "route", "get", address]);
  const via = /via (\S+)/.exec(output)?.[1];
  const device = /dev (\S+)/.exec(output)?.[1] ?? "?";
  return via === undefined ? `on link ${device}` : `via ${via} ${device}`;
}

/** Longest match, as the kernel does it. */
export function lookup(routes: KernelRoute[], address: string): KernelRoute | undefined {
  const octets = parseAddress(address);
  return routes
    .map(route => ({ route, prefix: parsePrefix(route.prefix, "clear") }))
    .filter(({ prefix }) => contains(prefix, octets))
    .sort((a, b) => b.prefix.length - a.prefix.length)[0]?.route;
}

export function describeRoute(route: KernelRoute | undefined): string {
  if (route === undefined) return "no route";
  if (route.hops.length === 0) return `${route.prefix} ${route.type}`;
  const hops = route.hops.map(hop => (hop.via === undefined ? `on link ${hop.dev}` : `via ${hop.via} ${hop.dev}`));
  return `${route.prefix} ${hops.join(" | ")}`;
}

async function addressOwners(lab: Lab): Promise<Map<string, string>> {
  const owners = new Map<string, string>();
  await Promise.all(
    lab.plan.machines.map(async machine => {
      const links = JSON.parse(await run("ip", ["-n", machine.namespace, "-j", "address", "show"])) as {
        addr_info?: { local?: string }[];
      }[];
      for (const { local } of links.flatMap(link => link.addr_info ?? []))
        if (local !== undefined && !local.startsWith("fe80:")) owners.set(local, machine.name);
    }),
  );
  return owners;
}
