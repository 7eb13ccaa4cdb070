import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Reasons } from "./problem.ts";

test("a reason is a word as Kubernetes' conditions have them, there once, and given somewhere", () => {
  const root = join(import.meta.dirname, "..");
  const sources = ["agent", "bgpd", "cni", "config", "netfilter", "overlay"].flatMap(folder =>
    globSync(`${folder}/**/*.ts`, { cwd: root }),
  );
  const text = sources
    .filter(name => !name.endsWith(".test.ts"))
    .map(name => readFileSync(join(root, name), "utf8"))
    .join("\n");
  expect([...Reasons]).toEqual([...new Set(Reasons)].sort());
  for (const reason of Reasons) {
    expect(reason).toMatch(/^[A-Z][A-Za-z]+$/);
    expect(text).toContain(`"${reason}"`);
  }
});
