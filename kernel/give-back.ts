/**
 * Gives back memory that only the start needed: pages of Node's executable (madvise(2)), and what malloc keeps of freed memory (malloc_trim(3)). Some 25 MB of
 * the executable are read once, for its own start and for compiling ours, and count as resident from then on. They are clean, and stay in the page cache
 * while the machine has memory: one that is needed again costs a minor fault.
 */
import { readFile, readlink } from "node:fs/promises";
import koffi from "koffi";

const MADV_DONTNEED = 4;

export interface Range {
  start: bigint;
  length: bigint;
}

/** Where glibc is, and /proc; elsewhere nothing. Never rejects. */
export async function giveBackMemory(): Promise<void> {
  try {
    const library = koffi.load(null);
    const trim = library.func("int malloc_trim(size_t pad)");
    const madvise = library.func("int madvise(uint64_t address, size_t length, int advice)");
    const [executable, smaps] = await Promise.all([readlink("/proc/self/exe"), readFile("/proc/self/smaps", "utf8")]);
    for (const { start, length } of unchangedRanges(smaps, executable)) madvise(start, length, MADV_DONTNEED);
    // On a thread of its own: with much memory it takes some milliseconds.
    trim.async(0, () => {});
  } catch {
    // Another C library, or no /proc: it is a saving, and nothing depends on it.
  }
}

/**
 * Mappings of the file that nobody may write and nobody has written (proc_pid_smaps(5)). That there is no page of its own in them is looked at, as what the
 * linker relocated at the start (RELRO) is read-only as well, and would be lost; swapped out it is no less its own.
 */
export function unchangedRanges(smaps: string, file: string): Range[] {
  const found: Range[] = [];
  let range: Range | undefined;
  for (const line of smaps.split("\n")) {
    const mapping = /^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (mapping) {
      const [, from, to, rights, path] = mapping;
      const start = BigInt(`0x${from}`);
      range = /^r-[x-]p$/.test(rights) && path === file ? { start, length: BigInt(`0x${to}`) - start } : undefined;
    } else if (/^(Anonymous|Swap):\s+[1-9]/.test(line)) range = undefined;
    // The last line of each.
    else if (range && line.startsWith("VmFlags:")) found.push(range);
  }
  return found;
}
