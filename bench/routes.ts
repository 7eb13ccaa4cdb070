/**
 * How fast routes reach the kernel table and leave it: batchRoutes() beside `ip -batch`, in the same run, each in a namespace of its own.
 * Needs root. Usage: see --help.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { checkRequirements, openRtnetlink, type RouteChange, RTPROT_PODLANE, type RtnetlinkSocket } from "../kernel/index.ts";
import { formatAddress, parseAddress, uint32ToAddress } from "../net/address.ts";

const help = `usage: node bench/routes.ts [--routes N] [--rounds N] [--json]

Installs and removes N IPv4 routes (/32, one next hop), by podlane and by \`ip -batch\`, and prints routes per second: the best of the rounds.

  --routes N   1 to 1000000, default 100000
  --rounds N   1 to 100, default 3; the two programs take turns
  --json       one JSON document instead of the table
`;

interface Result {
  program: string;
  addSeconds: number;
  removeSeconds: number;
}

const FIRST = 0x14000000;
const GATEWAY = "10.1.1.1";

function main(): void {
  const { values } = parseArgs({
    options: {
      routes: { type: "string", default: "100000" },
      rounds: { type: "string", default: "3" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return;
  }
  const routes = count("--routes", values.routes, 1_000_000);
  const rounds = count("--rounds", values.rounds, 100);
  const problems = checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth"] });
  if (problems.length > 0) throw new Error(problems.join("\n"));
  const results = measure(routes, rounds);
  process.stdout.write(values.json ? `${JSON.stringify({ routes, rounds, results }, undefined, 2)}\n` : table(routes, rounds, results));
}

function count(name: string, text: string, max: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > max) throw new Error(`${name} ${text}: a number of 1 to ${max} is expected`);
  return value;
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
function timed(program: string, netlink: RtnetlinkSocket, routes: number, add: () => void, remove: () => void): Result {
  const seconds = (run: () => void, expected: number) => {
    const start = performance.now();
    run();
    const taken = (performance.now() - start) / 1000;
    let present = 0;
    for (const chunk of netlink.routes({ family: 4, protocol: RTPROT_PODLANE })) present += chunk.length;
    if (present !== expected) throw new Error(`${program}: ${present} routes in the kernel, not ${expected}`);
    return taken;
  };
  return { program, addSeconds: seconds(add, routes), removeSeconds: seconds(remove, 0) };
}

function table(routes: number, rounds: number, results: Result[]): string {
  const cell = (seconds: number) => `${seconds.toFixed(3)} s  ${Math.round(routes / seconds).toLocaleString("en")}/s`.padStart(22);
  const head = `${"".padEnd(22)}${"add".padStart(22)}${"remove".padStart(22)}`;
  const rows = results.map(result => `${result.program.padEnd(22)}${cell(result.addSeconds)}${cell(result.removeSeconds)}`);
  return [`${routes.toLocaleString("en")} IPv4 routes, best of ${rounds}`, head, ...rows, ""].join("\n");
}

try {
  main();
} catch (error) {
  process.stderr.write(`bench/routes.ts: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
