/** Drawings and tables, without a lab. */
import { expect, test } from "vitest";
import { plain } from "../../cli/render/paint.ts";
import { shippedTopologies, topologyFile } from "../names.ts";
import { lossesByAction } from "../scenario.ts";
import { loadTopology } from "../topology/load.ts";
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
    expect(marks).toHaveLength(picture.nodes.flatMap(node => node.interfaces).length);
    for (const column of marks) expect("┌┬┐│").toContain(lines[top - 1][column]);
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
