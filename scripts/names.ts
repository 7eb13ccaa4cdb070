/**
 * Holds one form of constants: a single value (number, text, octets of a mask) at the top of a file is in CAPITALS, as in `const READ_TURN = 128 * 1024`;
 * tables and enumerations are not. Tests may call their examples as they like. Run as a program it checks every .ts file and exits 1 with one line for each.
 */
import { sources } from "./sources.ts";

const value = String.raw`(?:-?\d[\w.]*|"[^"]*"|'[^']*'|true|false|[A-Z][A-Z0-9_]*)`;
const constant = new RegExp(`^(?:export )?const ([a-z]\\w*)(?:: [\\w<>, ]+)? = \\(*${value}(?: [-+*/|&<>]+ \\(*${value}\\)*)*;`, "gm");

/** One sentence for each constant of `files` (path from the project's root -> source) in another form, sorted by place. */
export function wrongNames(files: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  for (const [file, source] of files) {
    if (file.endsWith(".test.ts")) continue;
    for (const match of source.matchAll(constant)) {
      const name = match[1].replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();
      problems.push(`${file}:${source.slice(0, match.index).split("\n").length}: call the constant ${match[1]} ${name}`);
    }
  }
  return problems.sort();
}

if (import.meta.main) {
  const files = sources();
  const problems = wrongNames(files);
  for (const problem of problems) console.error(problem);
  if (problems.length === 0) console.log(`${files.size} files name their constants alike`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
