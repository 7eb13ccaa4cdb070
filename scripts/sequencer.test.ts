import { globSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { longestFirst } from "./sequencer.ts";

const root = join(import.meta.dirname, "..");

test("clusters come one after another, with others of about their length between them, and short files last", () => {
  const clusters = ["test/kubernetes/pods.test.ts", "test/kubernetes/adversity.test.ts"];
  const others = [
    "net/address.test.ts",
    "test/kubernetes/status.test.ts",
    "test/kubernetes/source.test.ts",
    "test/kubernetes/crds.test.ts",
  ];
  expect(longestFirst([...clusters, ...others])).toEqual([
    "test/kubernetes/adversity.test.ts",
    "test/kubernetes/status.test.ts",
    "test/kubernetes/source.test.ts",
    "test/kubernetes/crds.test.ts",
    "net/address.test.ts",
    "test/kubernetes/pods.test.ts",
  ]);
});

test("every file of the project is there once", () => {
  const files = globSync("**/*.test.ts", { cwd: root, exclude: ["node_modules", "build"] });
  expect(longestFirst(files).toSorted()).toEqual(files.toSorted());
});
