import { join } from "node:path";
import { defineConfig } from "vitest/config";
import LongestFirst from "./scripts/sequencer.ts";

export default defineConfig({
  test: {
    include: ["**/*.test.ts"],
    exclude: ["node_modules/**", "build/**"],
    globalSetup: ["./test/setup.ts"],
    pool: "forks",
    maxWorkers: 2,
    // Beside a cluster on two processors all takes many times as long as alone; who waits, waits for a condition.
    testTimeout: 120_000,
    hookTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
    // The programs that tests start, agents most of all, spend more than half of their start on compiling what has not changed.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, "build/compile-cache") },
    reporters: ["./scripts/reporter.ts"],
  },
});
