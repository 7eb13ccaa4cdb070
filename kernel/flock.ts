/** flock(2): a lock that the kernel releases however the process ends. */
import koffi from "koffi";

const LOCK_EX = 2;
const LOCK_NB = 4;
let native: ((fd: number, operation: number) => number) | undefined;

/** false: another process holds the lock of this file. */
export function tryLock(fd: number): boolean {
  native ??= koffi.load(null).func("int flock(int fd, int operation)");
  return native(fd, LOCK_EX | LOCK_NB) === 0;
}
