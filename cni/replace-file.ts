/** Files that others read, written aside, flushed and renamed: whoever looks sees the old or the new one, whole. */
import fs from "node:fs";
import path from "node:path";

/** Makes the directory where it is missing. Throws errors of the file system, which name the path. */
export function replaceFile(file: string, content: Buffer | string, mode: number): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  // A name that no runtime reads.
  const temporary = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.new`);
  try {
    fs.writeFileSync(temporary, content, { flush: true });
    fs.chmodSync(temporary, mode);
    fs.renameSync(temporary, file);
  } finally {
    fs.rmSync(temporary, { force: true });
  }
}
