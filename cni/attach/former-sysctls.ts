/**
 * Kernel parameters of the node as they were before podlane changed them, on disk: whoever uninstalls can set them back. Of this boot only, as the next
 * begins with those of the system. One file, `sysctls.json` of the state directory.
 */
import fs from "node:fs";
import path from "node:path";
import { readSysctl, writeSysctl } from "../../kernel/index.ts";
import { replaceFile } from "../replace-file.ts";

export interface FormerSysctl {
  /** Its parts: an interface may have a dot in its name. */
  name: string[];
  before: string;
  /** What podlane set. */
  value: string;
}

const FILE = "sysctls.json";
/** Of interfaces: a node has a handful that listen to router advertisements. */
const MAXIMUM = 4096;

export class FormerSysctls {
  readonly #directory: string;
  #known: FormerSysctl[] | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Whether it had another value. Throws like writeSysctl. */
  set(name: string[], value: string): boolean {
    const before = readSysctl(name);
    if (before === value) return false;
    this.#remember({ name, before, value });
    writeSysctl(name, value);
    return true;
  }

  /** A node that cannot keep it still serves its pods: what stays set is the lesser evil. */
  #remember(entry: FormerSysctl): void {
    this.#known ??= formerSysctls(this.#directory);
    const known = this.#known.find(({ name }) => name.join("/") === entry.name.join("/"));
    if (known?.value === entry.value || this.#known.length >= MAXIMUM) return;
    this.#known = [...this.#known.filter(one => one !== known), known ? { ...known, value: entry.value } : entry];
    try {
      replaceFile(path.join(this.#directory, FILE), JSON.stringify({ bootId: bootId(), sysctls: this.#known }), 0o600);
    } catch {
      // Tried again with the next change.
    }
  }
}

/** In the order in which they were changed. Empty where nothing can be read. */
export function formerSysctls(directory: string): FormerSysctl[] {
  try {
    const saved = JSON.parse(fs.readFileSync(path.join(directory, FILE), "utf8"));
    if (saved.bootId !== bootId()) return [];
    return saved.sysctls.filter(isFormer);
  } catch {
    return [];
  }
}

function isFormer(entry: Partial<FormerSysctl>): entry is FormerSysctl {
  const { name, before, value } = entry;
  return Array.isArray(name) && name.every(part => typeof part === "string") && typeof before === "string" && typeof value === "string";
}

function bootId(): string {
  return fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
