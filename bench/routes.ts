/**
 * How fast routes reach the kernel table and leave it: batchRoutes() beside `ip -batch`, in the same run, each in a namespace of its own.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkRequirements, openRtnetlink, type RouteChange, RTPROT_PODLANE, type RtnetlinkSocket } from "../kernel/index.ts";
import { formatAddress, parseAddress, uint32ToAddress } from "../net/address.ts";
import { count, describeMachine, machine, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- routes [--routes N] [--rounds N] [--json]

  --routes   IPv4 routes (/32, one next hop) that are installed and removed, 1..1000000; default 100000
  --rounds   1..100, default 3: the best counts. The two programs take turns
  --json     one JSON object instead of a table

Needs root (it makes network namespaces) and iproute2.`;

interface Result {
  program: string;
  addSeconds: number;
  removeSeconds: number;
}

const FIRST = 0x14000000;
const GATEWAY = "10.1.1.1";

function main(values: Values): void {
  const routes = count(values, "routes", 100_000, 1_000_000);
  const rounds = count(values, "rounds", 3, 100);
  const problems = checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth"] });
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const facts = machine();
  const figures = measure(routes, rounds);
  if (values.json) console.log(JSON.stringify({ bench: "routes", machine: facts, routes, rounds, figures }));
  else print(`${describeMachine(facts)}\n\n${routes.toLocaleString("en-US")} IPv4 routes, best of ${rounds}`, routes, figures);
}

function measure(routes: number, rounds: number): Result[] {
  const best = new Map<string, Result>();
  for (let round = 0; round < rounds; round++) {
    for (const result of [inNamespace(podlane, routes), inNamespace(ipBatch, routes)]) {
      const known = best.get(result.program) ?? result;
      best.set(result.program, {
        program: result.program,
        addSeconds: Math.min(known.addSeconds, result.addSeconds),
        removeSeconds: Math.min(known.removeSeconds, result.removeSeconds),
      });
    }
  }
  return [...best.values()];
}

/** A namespace with one veth pair, whose peer's address every route has as its gateway. */
function inNamespace(run: (name: string, netlink: RtnetlinkSocket, routes: number) => Result, routes: number): Result {
  const name = `pl-${process.pid}-bench`;
  execFileSync("ip", ["netns", "add", name]);
  try {
    const netlink = openRtnetlink({ netns: `/run/netns/${name}` });
    try {
      const { index } = netlink.addLink({ kind: "veth", name: "v0", up: true, peer: { name: "v1" } });
      netlink.setLink(netlink.link("v1")?.index ?? 0, { up: true });
      netlink.addAddress({ ifindex: index, address: parseAddress("10.1.1.2"), prefixLength: 24 });
      return run(name, netlink, routes);
    } finally {
      netlink.close();
    }
  } finally {
    execFileSync("ip", ["netns", "delete", name]);
  }
}

function podlane(_name: string, netlink: RtnetlinkSocket, routes: number): Result {
  const nextHops = [{ gateway: parseAddress(GATEWAY), ifindex: 0 }];
  const change = (i: number, action: RouteChange["action"]): RouteChange => ({
    action,
    route: { family: 4, destination: uint32ToAddress(FIRST + i), length: 32, protocol: RTPROT_PODLANE, nextHops },
  });
  const apply = (action: RouteChange["action"]) => {
    const changes = Array.from({ length: routes }, (_, i) => change(i, action));
    const [failed] = netlink.batchRoutes(changes);
    if (failed !== undefined) throw failed.error;
  };
  return timed(
    "podlane batchRoutes()",
    netlink,
    routes,
    () => apply("replace"),
    () => apply("delete"),
  );
}

function ipBatch(name: string, netlink: RtnetlinkSocket, routes: number): Result {
  const directory = mkdtempSync(join(tmpdir(), "podlane-bench-"));
  const file = (verb: string) => {
    const lines = Array.from({ length: routes }, (_, i) => {
      return `route ${verb} ${formatAddress(uint32ToAddress(FIRST + i))} via ${GATEWAY} proto ${RTPROT_PODLANE}\n`;
    });
    const path = join(directory, verb);
    writeFileSync(path, lines.join(""));
    return path;
  };
  try {
    const [add, remove] = [file("replace"), file("delete")];
    const apply = (path: string) => execFileSync("ip", ["-n", name, "-batch", path]);
    return timed(
      "ip -batch",
      netlink,
      routes,
      () => apply(add),
      () => apply(remove),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Counts what is in the table after each step, so that no failure passes for speed. */
function timed(name: string, netlink: RtnetlinkSocket, routes: number, add: () => void, remove: () => void): Result {
  const seconds = (run: () => void, expected: number) => {
    const start = performance.now();
    run();
    const taken = (performance.now() - start) / 1000;
    let present = 0;
    for (const chunk of netlink.routes({ family: 4, protocol: RTPROT_PODLANE })) present += chunk.length;
    if (present !== expected) throw new Error(`${name}: ${present} routes in the kernel, not ${expected}`);
    return taken;
  };
  return { program: name, addSeconds: round(seconds(add, routes), 4), removeSeconds: round(seconds(remove, 0), 4) };
}

function print(head: string, routes: number, figures: Result[]): void {
  console.log(head);
  const perSecond = (seconds: number) => Math.round(routes / seconds).toLocaleString("en-US");
  const rows = figures.map(({ program: name, addSeconds, removeSeconds }) => {
    return [name, addSeconds.toFixed(3), perSecond(addSeconds), removeSeconds.toFixed(3), perSecond(removeSeconds)];
  });
  printTable(["program", "add, s", "routes/s", "remove, s", "routes/s"], rows);
}

if (import.meta.main) await program("routes", USAGE, { routes: { type: "string" }, rounds: { type: "string" } }, main);
