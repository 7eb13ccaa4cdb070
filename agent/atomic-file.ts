/** Files that are the old or the new one after a crash at any moment, never half of one: written aside, flushed and renamed. Mode 0600. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Throws what the file system throws, such as ENOSPC; the old file is then still there. */
export function replaceFile(path: string, text: string): void {
  const temporary = `${path}.new`;
  // A leftover of a crash may have another mode.
  rmSync(temporary, { force: true });
  const fd = openSync(temporary, "wx", 0o600);
  try {
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  syncDirectory(dirname(path));
}

/** The rename itself is on disk only after this. */
function syncDirectory(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
