/** C programs of bench/, built with the system's compiler at the first run. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";

/** What they have together. */
const SHARED = join(import.meta.dirname, "common.h");

/** Where the program of `bench/NAME.c` is once it is built. */
export function programPath(name: string): string {
  return join(import.meta.dirname, "../build/bench", name);
}

/** Builds it where it is not newer than its source. Throws where that fails. */
export function compile(name: string): void {
  const source = join(import.meta.dirname, `${name}.c`);
  const program = programPath(name);
  const written = Math.max(...[source, SHARED].map(file => statSync(file).mtimeMs));
  if (existsSync(program) && statSync(program).mtimeMs > written) return;
  mkdirSync(join(program, ".."), { recursive: true });
  const temporary = `${program}.${process.pid}`;
  const { status, stderr, error } = spawnSync("cc", ["-O2", "-Wall", "-Wextra", "-o", temporary, source], { encoding: "utf8" });
  if (status !== 0) throw new Error(`cannot build ${source}: ${error?.message ?? stderr}; install gcc and libc6-dev`);
  renameSync(temporary, program);
}
