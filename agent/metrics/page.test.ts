/** Holds docs/metrics.md to the table of metrics. UPDATE_GOLDEN=1 writes its lists anew. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { MetricSections } from "./table.ts";

const file = join(import.meta.dirname, "../../docs/metrics.md");
const [begin, end] = ["<!-- from agent/metrics/table.ts: UPDATE_GOLDEN=1 npm test -- agent/metrics/page -->\n", "<!-- end -->\n"];

it("lists each metric with what it means", () => {
  const lists = Object.entries(MetricSections).map(([title, rows]) => {
    const lines = rows.map(({ name, type, labels, help }) => `| \`${name}\` | ${type} | ${labels.join(", ")} | ${help} |\n`);
    return `### ${title}\n\n| metric | type | labels | |\n|---|---|---|---|\n${lines.join("")}\n`;
  });
  const text = readFileSync(file, "utf8");
  const [before, rest] = text.split(begin);
  const [, after] = rest.split(end);
  const wanted = `${before}${begin}\n${lists.join("")}${end}${after}`;
  if (process.env.UPDATE_GOLDEN) writeFileSync(file, wanted);
  expect(process.env.UPDATE_GOLDEN ? readFileSync(file, "utf8") : text).toBe(wanted);
});
