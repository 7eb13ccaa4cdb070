/**
 * `podlane validate` of a cluster with two address families, as a whole process: in a full mesh, where every node has sessions with every other, and with
 * two route reflectors. There is no rival that asks the same.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { count, describeMachine, machine, median, nodeOptions, printTable, program, round, type Values } from "./common.ts";

const USAGE = `usage: npm run bench -- validate [--nodes N] [--rounds N] [--json]

  --nodes    in the cluster, 3..60000; default 1000
  --rounds   how often each is measured, 1..100; default 3
  --json     one JSON object instead of a table`;

const main = join(import.meta.dirname, "../cli/main.ts");

const reflectors = {
  apiVersion: "podlane.io/v1alpha1",
  kind: "Fabric",
  metadata: { name: "main" },
  spec: {
    nodeSelector: {},
    asn: 64512,
    mesh: { type: "RouteReflectors", routeReflectors: { nodeSelector: { matchLabels: { reflects: "yes" } } } },
  },
};

function nodeObject(number: number): object {
  const [high, low] = [number >> 8, number & 255];
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: `node${number}`, labels: number <= 2 ? { reflects: "yes" } : {} },
    spec: { podCIDRs: [`10.${high}.${low}.0/24`, `fd00:${number.toString(16)}::/64`] },
    status: { addresses: [`172.16.${high}.${low}`, `2001:db8::${number.toString(16)}`].map(address => ({ type: "InternalIP", address })) },
  };
}

/** Seconds. */
function measure(directory: string): number {
  const begin = performance.now();
  const { status, stderr } = spawnSync(process.execPath, [...nodeOptions, main, "validate", directory], { encoding: "utf8" });
  if (status !== 0) throw new Error(`podlane validate ended with ${status}: ${stderr}`);
  return (performance.now() - begin) / 1000;
}

function run(values: Values): void {
  const nodes = count(values, "nodes", 1000, 60_000, 3);
  const rounds = count(values, "rounds", 3, 100);
  const facts = machine();
  const folder = mkdtempSync(join(tmpdir(), "podlane-validate-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const objects = Array.from({ length: nodes }, (_, at) => JSON.stringify(nodeObject(at + 1)));
  const shapes = { "full mesh": objects, "two reflectors": [...objects, JSON.stringify(reflectors)] };
  const figures = Object.entries(shapes).map(([shape, all]) => {
    const directory = join(folder, shape.replace(" ", "-"));
    mkdirSync(directory);
    writeFileSync(join(directory, "all.yaml"), all.join("\n---\n"));
    const seconds = Array.from({ length: rounds }, () => measure(directory));
    return { shape, seconds: round(median(seconds), 2), spread: [Math.min(...seconds), Math.max(...seconds)].map(one => round(one, 2)) };
  });
  if (values.json) {
    console.log(JSON.stringify({ bench: "validate", machine: facts, nodes, rounds, figures }));
    return;
  }
  console.log(`${describeMachine(facts)}\n${nodes} nodes, medians of ${rounds}\n`);
  printTable(
    ["cluster", "seconds", "spread"],
    figures.map(({ shape, seconds, spread }) => [shape, String(seconds), spread.join("–")]),
  );
}

if (import.meta.main) await program("validate", USAGE, { nodes: { type: "string" }, rounds: { type: "string" } }, run);
