/**
 * What `npm test` shows: a line for each file as it ends, every failure in full, what was skipped and why, and as the last line
 * `N passed, N failed` (and `, N skipped`), which people and CI read.
 */
import { DefaultReporter, type TestCase, type TestModule } from "vitest/node";

export interface Tally {
  passed: number;
  failed: number;
  /** Reason -> full names. */
  skipped: Map<string, string[]>;
}

type Counted = Pick<TestModule, "relativeModuleId"> & {
  errors(): readonly unknown[];
  children: { allTests(): Iterable<CountedTest>; allSuites(): Iterable<{ errors(): readonly unknown[] }> };
};
type CountedTest = Pick<TestCase, "fullName"> & { result(): { state: string; note?: string } };

/**
 * Counts each test once. A file or a suite whose hooks or imports fail, and an error outside any test, counts as one failure, so that
 * a run with exit code 1 never reads "0 failed".
 */
export function tally(modules: readonly Counted[], unhandledErrors: number): Tally {
  const count: Tally = { passed: 0, failed: unhandledErrors, skipped: new Map() };
  for (const module of modules) {
    count.failed += module.errors().length;
    for (const suite of module.children.allSuites()) count.failed += suite.errors().length;
    for (const test of module.children.allTests()) {
      const result = test.result();
      if (result.state === "passed") count.passed++;
      else if (result.state === "failed") count.failed++;
      else {
        const reason = result.note ?? "no reason given";
        const name = `${module.relativeModuleId} > ${test.fullName}`;
        count.skipped.set(reason, [...(count.skipped.get(reason) ?? []), name]);
      }
    }
  }
  return count;
}

/** The lines after the failures, the last of them alone and without colour. */
export function closingLines(count: Tally): string[] {
  const lines: string[] = [];
  let skipped = 0;
  for (const [reason, names] of [...count.skipped].sort(([a], [b]) => a.localeCompare(b))) {
    skipped += names.length;
    lines.push(`skipped: ${reason}`, ...names.map(name => `    ${name}`));
  }
  if (lines.length > 0) lines.push("");
  lines.push(`${count.passed} passed, ${count.failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return lines;
}

export default class PodlaneReporter extends DefaultReporter {
  override reportTestSummary(): void {
    this.log(`\n${((this.end - this.start) / 1000).toFixed(1)} s`);
  }

  override onTestRunEnd(...[modules, errors, reason]: Parameters<DefaultReporter["onTestRunEnd"]>): void {
    super.onTestRunEnd(modules, errors, reason);
    const count = tally(modules, errors.length);
    if (modules.length === 0) count.failed++;
    for (const line of closingLines(count)) this.log(line);
  }
}
