/** `npm run bench`: lists the benchmarks of bench/, or runs the one that is named with the rest of the arguments. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const folder = join(import.meta.dirname, "../bench");
/** Name -> the opening paragraph of its file, which says what it measures. */
const benchmarks = new Map(
  readdirSync(folder)
    .filter(file => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map(file => [file.slice(0, -3), readFileSync(join(folder, file), "utf8")] as const)
    .filter(([, source]) => source.includes("import.meta.main"))
    .map(([name, source]) => [name, openingParagraph(source)] as const),
);
const [name, ...rest] = process.argv.slice(2);

if (name === undefined || name === "--help") {
  console.log("benchmarks (npm run bench -- NAME [ARGUMENTS]):\n");
  for (const [one, text] of benchmarks) console.log(`  ${one.padEnd(16)}${text}`);
  if (benchmarks.size === 0) console.log("  none in bench/");
} else if (benchmarks.has(name)) {
  const { status, signal } = spawnSync(process.execPath, [join(folder, `${name}.ts`), ...rest], { stdio: "inherit" });
  process.exitCode = signal ? 1 : (status ?? 1);
} else {
  console.error(`there is no benchmark "${name}"; there are: ${[...benchmarks.keys()].join(", ") || "none"}`);
  process.exitCode = 2;
}

function openingParagraph(source: string): string {
  const comment = /^(?:#!.*\n)?\s*\/\*\*?([\s\S]*?)\*\//.exec(source)?.[1] ?? "";
  const words = comment
    .split("\n")
    .map(line => line.replace(/^\s*\*?\s?/, "").trim())
    .join(" ")
    .trim();
  return words.split(/(?<=[.:])\s/)[0];
}
