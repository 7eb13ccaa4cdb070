/** Drawings and tables, without a lab. */
import { expect, test } from "vitest";
import { plain } from "../../cli/render/paint.ts";
import { shippedTopologies, topologyFile } from "../names.ts";
import { lossesByAction } from "../scenario.ts";
import { loadTopology, parseTopology } from "../topology/load.ts";
import { planLab } from "../topology/plan.ts";
import { pictureOf } from "./picture.ts";
import { terminalProgress } from "./progress.ts";
import { renderHops, renderMatrix, renderPaths, renderScenario, renderSessions } from "./report.ts";
import { drawSvg } from "./svg.ts";
import { drawTerminal } from "./terminal.ts";

const rack = () => pictureOf(planLab(loadTopology(topologyFile("rack"))), { "node1-1": ["10.244.1.2"] });

test("the rack in the terminal: lines that pass interrupt, lines that join do not", () => {
  const lines = drawTerminal(rack(), plain);
  const busA = lines.find(line => line.endsWith(" leaf-a")) ?? "";
  const busB = lines.find(line => line.endsWith(" leaf-b")) ?? "";
  expect(busA.match(/[┌┬┐]/g)).toHaveLength(3);
  expect(busA.match(/┴/g)).toHaveLength(1);
  expect(busA.match(/│/g)).toHaveLength(1);
  expect(busB.match(/│/g)).toHaveLength(3);
  expect(lines.join("\n")).toContain("• node1-1  10.244.1.2");
});

test("every line of a link meets a mark in the frame above or below it", () => {
  for (const { name } of shippedTopologies()) {
    const picture = pictureOf(planLab(loadTopology(topologyFile(name))), {});
    const lines = drawTerminal(picture, plain);
    const top = lines.findLastIndex(line => line.includes("┌") && line.includes("┴"));
    const marks = [...lines[top]].flatMap((character, column) => (character === "┴" ? [column] : []));
    expect(marks).toHaveLength(picture.tiers.at(-1)!.flatMap(node => node.interfaces).length);
    for (const column of marks) expect("┌┬┐│").toContain(lines[top - 1][column]);
  }
});

/** Eight nodes in two racks, a leaf in each, a spine above both. */
function spineAndLeaves() {
  const nodes = [1, 2, 3, 4, 5, 6, 7, 8].map(n => ({ name: `node${n}`, rack: n < 5 ? 1 : 2, n }));
  const members = (rack: number) => nodes.filter(node => node.rack === rack).map(({ name, n }) => `${name}: ${10 + n}`);
  const topology = parseTopology(`
name: racks
title: Two racks and a spine
nodes: { ${nodes.map(({ name }) => `${name}: { pods: 1 }`).join(", ")} }
routers:
  leaf-1: { kind: frr, asn: 65001, neighbors: [{ name: spine, asn: 65000 }] }
  leaf-2: { kind: bird, asn: 65002, neighbors: [{ name: spine, asn: 65000 }] }
  spine: { kind: frr, asn: 65000, neighbors: [{ name: leaf-1, asn: 65001 }, { name: leaf-2, asn: 65002 }] }
links:
  - { name: rack-1, inside: leaf-1, subnets: [10.1.0.0/24, "fd00:11::/64"], members: { leaf-1: 1, ${members(1).join(", ")} } }
  - { name: rack-2, inside: leaf-2, subnets: [10.2.0.0/24, "fd00:12::/64"], members: { leaf-2: 1, ${members(2).join(", ")} } }
  - { name: up-1, subnets: [192.0.2.0/30, "fd00:1::/64"], members: { spine: 1, leaf-1: 2 } }
  - { name: up-2, subnets: [192.0.2.4/30, "fd00:2::/64"], members: { spine: 1, leaf-2: 2 } }
objects:
${nodes.map(({ name, rack, n }) => `  - { apiVersion: v1, kind: Node, metadata: { name: ${name} }, spec: { podCIDRs: [10.244.${n}.0/24, "fd00:244:${n}::/64"] }, status: { addresses: [{ type: InternalIP, address: 10.${rack}.0.${10 + n} }] } }`).join("\n")}
  - { apiVersion: podlane.io/v1alpha1, kind: Fabric, metadata: { name: all }, spec: { nodeSelector: {}, asn: 64999 } }
`);
  return pictureOf(planLab(topology), { "node8-1": ["10.244.8.2", "fd00:244:8::2"] });
}

test("a spine stands above its leaves, and these above the nodes, in both drawings", () => {
  const picture = spineAndLeaves();
  expect(picture.tiers.map(tier => tier.map(({ title }) => title).join(" "))).toEqual([
    "spine",
    "leaf-1 leaf-2",
    "node1 node2 node3 node4 node5 node6 node7 node8",
  ]);
  const lines = drawTerminal(picture, plain);
  const rowOf = (name: string) => lines.findIndex(line => line.includes(`│ ${name} `));
  expect(rowOf("spine")).toBeLessThan(rowOf("leaf-1"));
  expect(rowOf("leaf-1")).toBeLessThan(rowOf("node1"));
  const svg = drawSvg(picture);
  const [, spine, leaf, node] = /y="(\d+)"[^>]*>spine[\s\S]*y="(\d+)"[^>]*>leaf-1[\s\S]*y="(\d+)"[^>]*>node1</.exec(svg)!.map(Number);
  expect([spine, leaf, node]).toEqual([spine, leaf, node].toSorted((a, b) => a - b));
});

test("eight nodes fit into 120 columns, each with its AS and every address of both families", () => {
  const picture = spineAndLeaves();
  const lines = drawTerminal(picture, plain, 118);
  expect(Math.max(...lines.map(line => line.length))).toBeLessThanOrEqual(118);
  expect(lines.filter(line => /(│AS 64999){1}│( │AS 64999│){7}$/.test(line))).toHaveLength(1);
  const text = lines.join("\n");
  for (const box of picture.tiers.flat()) {
    const addresses = [...box.interfaces, ...box.pods].flatMap(one => one.addresses);
    for (const shown of [box.title, ...addresses, ...box.subnets]) expect(text).toContain(shown);
  }
});

test("both drawings show the AS of each node and both families of interfaces, pod ranges and pods", () => {
  const picture = pictureOf(planLab(loadTopology(topologyFile("rack"))), { "node1-1": ["10.244.1.2", "fd00:10:244:1::2"] });
  for (const text of [drawTerminal(picture, plain).join("\n"), drawSvg(picture)]) {
    for (const shown of [
      "AS 65011",
      "AS 65013",
      "172.16.1.11",
      "fd00:172:16:1::11",
      "10.244.1.0/24",
      "fd00:10:244:1::/64",
      "fd00:10:244:1::2",
    ]) {
      expect(text).toContain(shown);
    }
  }
});

test("the SVG is well-formed, shows every machine and pod, and escapes text", () => {
  const picture = { ...rack(), title: 'A <rack> & "more"' };
  const svg = drawSvg(picture);
  expect(svg).toContain("A &lt;rack&gt; &amp; &quot;more&quot;");
  for (const name of ["tor-a", "tor-b", "node1", "node3", "node2-2"]) expect(svg).toContain(`>${name}<`);
  expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  expect(svg.match(/<path /g)).toHaveLength(6);
});

test("boxes of the SVG lie within it and do not overlap", () => {
  for (const { name } of shippedTopologies()) {
    const svg = drawSvg(pictureOf(planLab(loadTopology(topologyFile(name))), {}));
    const width = Number(/width="([\d.]+)"/.exec(svg)?.[1]);
    const boxes = [...svg.matchAll(/<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)" rx="10"/g)].map(each =>
      each.slice(1).map(Number),
    );
    for (const [index, [x, y, w, h]] of boxes.entries()) {
      expect(x + w).toBeLessThanOrEqual(width);
      for (const [x2, y2, w2, h2] of boxes.slice(index + 1)) expect(x + w <= x2 || x2 + w2 <= x || y + h <= y2 || y2 + h2 <= y).toBe(true);
    }
  }
});

test("a long title and a long legend widen the SVG, and eight links have eight colours", () => {
  const widthOf = (svg: string) => Number(/width="([\d.]+)"/.exec(svg)?.[1]);
  const [link] = rack().links;
  expect(widthOf(drawSvg({ ...rack(), title: "W".repeat(200) }))).toBeGreaterThan(2000);
  expect(widthOf(drawSvg({ ...rack(), links: [{ ...link, subnets: Array(20).fill("fd00:172:16:1::/64") }] }))).toBeGreaterThan(2000);
  const links = Array.from({ length: 8 }, (_, index) => ({ ...link, name: `link-${index}` }));
  const legend = drawSvg({ ...rack(), links }).match(/height="4" rx="2" fill="#\w+"/g);
  expect(new Set(legend).size).toBe(8);
});

test("the matrix counts and explains what failed", () => {
  const cell = { from: "a", to: "b", family: 4 as const, address: "10.0.0.2", ping: 0.25, untranslated: true };
  expect(renderMatrix([cell], plain).join("\n")).toContain("all 1 of 1 echoes answered");
  const bad = { ...cell, untranslated: false, problem: "b saw 10.0.0.9 instead of 10.0.0.1: there is NAT on the way" };
  const text = renderMatrix([bad], plain).join("\n");
  expect(text).toContain("1 of 1 failed");
  expect(text).toContain("a to b: b saw 10.0.0.9");
});

test("the matrix of pods of one family and of both shows what there is", () => {
  const cell = { ping: 0.25, untranslated: true };
  const cells = [
    { ...cell, from: "a", to: "b", family: 4 as const, address: "10.0.0.2" },
    { ...cell, from: "b", to: "a", family: 4 as const, address: "10.0.0.1" },
  ];
  expect(
    renderMatrix(cells, plain)
      .slice(0, 3)
      .map(line => line.trim().split(/ {2,}/)),
  ).toEqual([
    ["FROM \\ TO", "a", "b"],
    ["a", "·", "0.25"],
    ["b", "0.25", "·"],
  ]);
  expect(renderMatrix(cells, plain).at(-1)).toContain("no NAT (ms, IPv4)");
  const mixed = [...cells, { ...cell, from: "a", to: "c", family: 6 as const, address: "fd00::3" }];
  expect(renderMatrix(mixed, plain)[1].trim().split(/ {2,}/)).toEqual(["a", "·", "0.25/-", "-/0.25"]);
  expect(renderMatrix(mixed, plain)[2].trim().split(/ {2,}/)).toEqual(["b", "0.25/-", "·", "-/-"]);
});

test("what would fill more than a screen is summed up, and says so", () => {
  const session = { machine: "a", neighbor: "b", address: "10.0.0.1", asn: "1", state: "Established" };
  const sessions = [...Array.from({ length: 99 }, () => session), { ...session, state: "Active" }];
  expect(renderSessions(sessions, plain).map(line => line.trim().split(/ {2,}/).slice(0, 5))).toEqual([
    ["MACHINE", "ESTABLISHED"],
    ["a", "99 of 100"],
    ["MACHINE", "NEIGHBOR", "ADDRESS", "AS", "STATE"],
    ["a", "b", "10.0.0.1", "1", "Active"],
  ]);
  const cells = Array.from({ length: 20 }, (_, index) => ({
    from: `a-${index}`,
    to: "b-1",
    family: 4 as const,
    address: "10.0.0.2",
    ping: 0.25,
    untranslated: true,
  }));
  expect(renderMatrix(cells, plain)).toEqual([expect.stringContaining("all 20 of 20 echoes answered")]);
  const path = { best: true, asPath: "", nextHops: [], from: "b" };
  const paths = Array.from({ length: 50 }, (_, index) => ({ ...path, prefix: `10.0.${index}.0/24` }));
  expect(renderPaths("a", paths, plain).at(-1)).toBe("  … and 10 more paths of a");
});

test("a silent hop is named as such", () => {
  expect(renderHops([{ machine: "a", route: "via x" }, {}], plain).join("\n")).toMatch(/1 {2}no answer/);
});

test("a scenario shows what was lost after which action, in each family by itself", () => {
  const stream = { from: "a", to: "b", sent: 100 };
  const streams = [
    { ...stream, address: "10.0.0.2", lost: 3, gaps: [{ at: 1010, duration: 60, lost: 3 }] },
    { ...stream, address: "fd00::2", lost: 0, gaps: [] },
    {
      ...stream,
      address: "fd00::3",
      lost: 7,
      gaps: [
        { at: 1011, duration: 40, lost: 2 },
        { at: 2000, duration: 90, lost: 5 },
      ],
    },
  ];
  const losses = lossesByAction(streams, [
    { text: "cut the power of a", at: 1000 },
    { text: "restore the power of a", at: 1990 },
  ]);
  const text = renderScenario({ name: "s", steps: [], streams, losses, withdrawals: [], problems: ["bad"] }, plain);
  expect(text).toEqual([
    "  ✘ s: 300 packets sent, 10 lost",
    "    cut the power of a      IPv4  3 lost  in 1 of 1 streams, longest gap 60 ms",
    "    cut the power of a      IPv6  2 lost  in 1 of 2 streams, longest gap 40 ms",
    "    restore the power of a  IPv4  0 lost",
    "    restore the power of a  IPv6  5 lost  in 1 of 2 streams, longest gap 90 ms",
    "    bad",
  ]);
});

test("progress is plain where nobody looks at a terminal, and tells of failure", async () => {
  let output = "";
  const progress = terminalProgress({ write: text => (output += text) }, plain);
  await progress.step("outer", async detail => {
    await progress.step("inner", async () => {});
    detail("done");
  });
  await expect(progress.step("bad", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(output).not.toContain("\u001b");
  expect(output.replaceAll("\n\n", "\n")).toMatch(/✔ inner {2}\d+ ms\n {2}✔ outer {2}done {2}\d+ ms\n {2}✘ bad/);
});
