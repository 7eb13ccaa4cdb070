/** memfd_create(2): a file without a name, in memory, for a program that reads its input by opening it again (/dev/stdin), which no pipe of Node's allows. */
import { closeSync, writeSync } from "node:fs";
import koffi from "koffi";
import { SystemCallError } from "./error.ts";

const MFD_CLOEXEC = 1;
let native: ((name: string, flags: number) => number) | undefined;

/** Descriptor of a file that has `content`; closeSync() ends it. A child that gets it as its standard input reads from the beginning. Throws SystemCallError. */
export function memoryFile(name: string, content: string): number {
  native ??= koffi.load(null).func("int memfd_create(const char *name, unsigned int flags)");
  const fd = native(name, MFD_CLOEXEC);
  if (fd < 0) throw new SystemCallError("memfd_create", koffi.errno(), `make a file ${name} in memory`);
  try {
    const octets = Buffer.from(content);
    for (let at = 0; at < octets.length; ) at += writeSync(fd, octets, at, octets.length - at, at);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
