/**
 * Holds the direction of imports (ARCHITECTURE.md): cli, lab -> agent -> controller -> config, cni, bgpd -> kernel -> net. Run as a program it
 * checks every .ts file of the project and exits 1 with one line for each import that goes the wrong way.
 */
import { dirname, join, normalize } from "node:path";
import { sources } from "./sources.ts";

export interface Import {
  /** As written: "../net/address.ts", "node:fs", "pino". */
  specifier: string;
  /** `import type`: gone at run time, so it cannot close a cycle. */
  typeOnly: boolean;
  /** From 1. */
  line: number;
}

/** Which folders a folder may import besides itself. A folder that is not listed may import anything. */
const mayImport: Record<string, readonly string[]> = {
  net: [],
  platform: [],
  kernel: ["net", "platform"],
  bgpd: ["kernel", "net", "platform"],
  cni: ["kernel", "net", "platform"],
  netfilter: ["kernel", "net", "platform"],
  overlay: ["kernel", "net", "platform"],
  kubernetes: ["net", "platform"],
  config: ["kubernetes", "net", "platform"],
  controller: ["kubernetes", "config", "platform"],
  agent: ["kubernetes", "controller", "config", "cni", "netfilter", "overlay", "bgpd", "kernel", "net", "platform"],
  cli: ["kubernetes", "agent", "config", "cni", "netfilter", "overlay", "bgpd", "kernel", "net", "platform"],
  lab: ["kubernetes", "agent", "cli", "config", "cni", "netfilter", "overlay", "bgpd", "kernel", "net", "platform", "deploy"],
};

/**
 * What files of the folders inside a folder may import of it besides their own folder: other folders, and files beside these. A folder that is not
 * listed may import anything.
 */
const inside: Record<string, readonly string[]> = {
  "bgpd/message": ["bgpd/family.ts"],
  "bgpd/table": ["bgpd/message"],
  "bgpd/policy": ["bgpd/family.ts", "bgpd/config.ts", "bgpd/message"],
  "bgpd/session": ["bgpd/family.ts", "bgpd/config.ts", "bgpd/platform.ts", "bgpd/message"],
  "bgpd/fib": ["bgpd/faults.ts", "bgpd/table"],
  "bgpd/rib": [
    "bgpd/family.ts",
    "bgpd/config.ts",
    "bgpd/faults.ts",
    "bgpd/message",
    "bgpd/table",
    "bgpd/policy",
    // The borders towards next hops and kernel routes; types alone.
    "bgpd/fib/types.ts",
  ],
};

/** By what others come into a folder: files, and folders with all that is in them. One that is not listed stands open. */
const doors: Record<string, readonly string[]> = {
  // Types are free: they load no system call.
  kernel: ["kernel/index.ts", "kernel/types.ts", "kernel/constants.ts"],
  bgpd: [
    // What it is told, what it shows, and itself.
    ...["bgpd/config.ts", "bgpd/snapshot.ts", "bgpd/speaker.ts", "bgpd/platform.ts", "bgpd/faults.ts", "bgpd/forwarding.ts"],
    // What can be asked without a speaker.
    ...["bgpd/planned-exports.ts", "bgpd/route-list.ts", "bgpd/policy/index.ts"],
    // The words of BGP.
    ...["bgpd/family.ts", "bgpd/message"],
  ],
  cni: ["cni/types.ts", "cni/http.ts", "cni/protocol", "cni/attach/handler.ts", "cni/attach/leftovers.ts", "cni/plugin"],
};

/** Packages that only one folder may import: the foreign function interface. */
const reserved: Record<string, string> = { koffi: "kernel" };

/** Narrower or wider than the folder's rule: the first entry that the importing file starts with decides. */
const exceptions: { files: string; alsoMayImport: readonly string[]; because: string }[] = [
  { files: "config/compile", alsoMayImport: ["bgpd", "cni", "netfilter", "overlay"], because: "compile knows all vocabularies" },
  {
    files: "config/resources",
    alsoMayImport: ["bgpd", "netfilter"],
    because:
      "the families that users may name are the rows of bgpd/family.ts; policies are read into the words of netfilter/policy/types.ts",
  },
  {
    files: "config/sources",
    alsoMayImport: ["netfilter"],
    because: "policies and pods go to who carries them out as netfilter/policy/types.ts has them",
  },
  {
    files: "config/plan",
    alsoMayImport: ["bgpd", "cni", "netfilter", "overlay"],
    because: "a plan holds what compile made for the speaker and for the pods",
  },
];

/** Pure code: neither Node nor the system below it. */
const pure = ["net/", "platform/", "config/compile", "bgpd/message/", "bgpd/policy/", "bgpd/rib/", "bgpd/session/fsm"];

/**
 * The imports of one file. The source is formatted by the formatter, so a static import starts a line; comments and template
 * strings are no imports, a dynamic `import("…")` with a literal is one.
 */
export function importsOf(source: string): Import[] {
  const code = source.replace(/\/\*[\s\S]*?\*\/|(?<=^|[\s;{}])\/\/[^\n]*/g, comment => comment.replace(/[^\n]/g, " "));
  const found: Import[] = [];
  const statement =
    /^(?:import|export)\b(\s+type\b(?!\s*(?:,|from\b)))?(?:[^"'`;=(]*?\bfrom)?\s*["']([^"'\n]+)["']|\bimport\(\s*["']([^"'\n]+)["']\s*\)/gm;
  for (const match of code.matchAll(statement)) {
    const line = code.slice(0, match.index).split("\n").length;
    found.push({ specifier: match[2] ?? match[3], typeOnly: match[1] !== undefined, line });
  }
  return found;
}

/** One sentence for each import of `files` (path from the project's root -> source) that is not allowed, sorted by place. */
export function wrongImports(files: ReadonlyMap<string, string>): string[] {
  const problems: string[] = [];
  const graph = new Map<string, string[]>();
  for (const [file, source] of files) {
    const targets: string[] = [];
    for (const entry of importsOf(source)) {
      const problem = judge(file, entry);
      if (problem) problems.push(`${file}:${entry.line}: ${problem}`);
      if (entry.specifier.startsWith(".") && !isTest(file)) targets.push(resolveFrom(file, entry.specifier));
    }
    graph.set(file, targets);
  }
  for (const cycle of cycles(graph)) problems.push(`${cycle[0]}: imports itself in a circle: ${[...cycle, cycle[0]].join(" -> ")}`);
  return problems.sort();
}

function judge(file: string, entry: Import): string | undefined {
  // A test beside the code may hold two neighbours against each other, and read files.
  if (file.endsWith(".test.ts")) return undefined;
  if (!entry.specifier.startsWith(".")) {
    const owner = Object.hasOwn(reserved, entry.specifier) ? reserved[entry.specifier] : undefined;
    if (owner !== undefined && !file.startsWith(`${owner}/`)) return `imports ${entry.specifier}, which only ${owner}/ may`;
    const impure = entry.specifier.startsWith("node:") && pure.some(prefix => file.startsWith(prefix));
    return impure ? `imports ${entry.specifier}; this code is pure: take what it needs as an argument` : undefined;
  }
  const target = resolveFrom(file, entry.specifier);
  const from = file.split("/")[0];
  const to = target.split("/")[0];
  const folder = dirname(file).split("/").slice(0, 2).join("/");
  const siblings = inside[folder];
  if (siblings && from === to && !target.startsWith(`${folder}/`) && !isTestSupport(file)) {
    if (siblings.some(one => target === one || target.startsWith(`${one}/`))) return undefined;
    return `imports ${target}; of ${from}/ ${folder}/ may import only ${siblings.join(", ")}`;
  }
  const allowed = mayImport[from];
  if (!allowed || from === to || to === "package.json") return undefined;
  const exception = exceptions.find(one => file.startsWith(one.files));
  if (allowed.includes(to) || exception?.alsoMayImport.includes(to)) return pastTheDoor(file, target, to);
  return `imports ${target}; ${from}/ may import ${allowed.length > 0 ? `only ${allowed.map(one => `${one}/`).join(", ")}` : "nothing of podlane"}`;
}

function pastTheDoor(file: string, target: string, to: string): string | undefined {
  const open = doors[to];
  if (!open || isTestSupport(file) || open.some(one => target === one || target.startsWith(`${one}/`))) return undefined;
  return `imports ${target}; others come into ${to}/ by ${open.join(", ")}`;
}

function isTest(file: string): boolean {
  return file.endsWith(".test.ts") || isTestSupport(file);
}

/** What tests share may know more than what it stands for. */
function isTestSupport(file: string): boolean {
  return file.endsWith("/testing.ts") || file.includes("/testing/");
}

function resolveFrom(file: string, specifier: string): string {
  return normalize(join(dirname(file), specifier));
}

/** Each strongly connected group of files once, as one circle through it, beginning with its first name. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const found = new Map<string, string[]>();
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string) => {
    const at = path.indexOf(file);
    if (at >= 0) {
      const circle = path.slice(at);
      const first = circle.indexOf([...circle].sort()[0]);
      const turned = [...circle.slice(first), ...circle.slice(0, first)];
      found.set(turned.join(" "), turned);
      return;
    }
    if (done.has(file)) return;
    path.push(file);
    for (const target of graph.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of [...graph.keys()].sort()) visit(file);
  return [...found.values()];
}

if (import.meta.main) {
  const files = sources();
  const problems = wrongImports(files);
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) console.error(`${problems.length} imports go the wrong way; ARCHITECTURE.md says which way they may go`);
  else console.log(`${files.size} files import only what they may`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
