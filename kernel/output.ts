/**
 * Writing to a descriptor that somebody else reads, without ever waiting for him. O_NONBLOCK belongs to the open file description, which standard error
 * shares with the shell and with other processes: a description of our own is opened where that can be done; a socket takes the flag call by call.
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { constants as os } from "node:os";
import { SystemCallError } from "./error.ts";
import * as libc from "./libc.ts";

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

export interface NonBlockingOutput {
  /** Octets that were taken, 0 where the reader does not keep up. Throws where he is gone. */
  write(octets: Uint8Array): number;
  close(): void;
}

export function nonBlockingOutput(fd: number): NonBlockingOutput {
  if (fstatSync(fd).isSocket()) {
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    return { write: octets => taken(() => libc.send(fd, octets, octets.length, flags, "write a log line")), close() {} };
  }
  let own: number;
  try {
    own = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // Without /proc, or where the file may not be opened again: the one that there is.
    return { write: octets => taken(() => writeSync(fd, octets)), close() {} };
  }
  return { write: octets => taken(() => writeSync(own, octets)), close: () => closeSync(own) };
}

function taken(write: () => number): number {
  try {
    return write();
  } catch (error) {
    const blocked = error instanceof SystemCallError ? error.errno === os.errno.EAGAIN : (error as NodeJS.ErrnoException).code === "EAGAIN";
    if (blocked) return 0;
    throw error;
  }
}
