/** prctl(2) PR_SET_DUMPABLE: memory that holds passwords is not written to a disk when the process dies. */
import koffi from "koffi";

const PR_GET_DUMPABLE = 3;
const PR_SET_DUMPABLE = 4;
let native: ((option: number, value: number, third: number, fourth: number, fifth: number) => number) | undefined;

function prctl(option: number, value: number): number {
  native ??= koffi.load(null).func("int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)");
  return native(option, value, 0, 0, 0);
}

/**
 * For the rest of this process's life, threads included; a limit of 0 octets would not count where a program takes the dumps. Returns whether the kernel says
 * so.
 */
export function forbidCoreDumps(): boolean {
  prctl(PR_SET_DUMPABLE, 0);
  return prctl(PR_GET_DUMPABLE, 0) === 0;
}
