/**
 * An append-only file of records that is readable again after a crash at any instruction. Each line is the CRC-32 of its
 * JSON, a space and the JSON. A torn last line is cut off; a damaged line in the middle is reported and skipped. The file is
 * rewritten (temporary file, fsync, rename, fsync of the directory) when most of it is history.
 */
import fs from "node:fs";
import path from "node:path";
import { crc32 } from "node:zlib";

export interface JournalContent {
  records: unknown[];
  /** Lines that were lost, in words. Empty: the file is whole (a torn tail is no damage: nobody was told of it). */
  damage: string[];
}

/** A file that cannot be read or written; the message names it. */
export class JournalError extends Error {
  override readonly name = "JournalError";
}

const MAXIMUM_FILE = 256 << 20;
const MINIMUM_COMPACTION = 256 << 10;

export class Journal {
  readonly file: string;
  readonly content: JournalContent;
  #fd: number;
  #length: number;
  /** Length after the last rewrite. */
  #compacted: number;
  #syncing = false;
  /** Written since the last fdatasync began. */
  #dirty = false;
  #waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  #afterSync: (() => void)[] = [];
  #broken: Error | undefined;

  /**
   * Creates the file where there is none. One that can be read and not written, or not be made, begins broken. Throws JournalError where it
   * cannot be read.
   */
  constructor(file: string) {
    this.file = file;
    try {
      const bytes = this.#read();
      const { content, length } = decode(bytes);
      this.content = content;
      this.#length = length;
      this.#compacted = length;
      this.#fd = -1;
      try {
        fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
        if (content.damage.length > 0) fs.copyFileSync(file, `${file}.damaged`);
        this.#fd = fs.openSync(file, "a+", 0o600);
        if (length < bytes.length) fs.ftruncateSync(this.#fd, length);
        syncDirectory(file);
      } catch (error) {
        this.#broken = error as Error;
      }
    } catch (error) {
      throw new JournalError(`cannot open ${file}: ${(error as Error).message}`);
    }
  }

  /** Nothing can be appended before the file is rewritten. */
  get isBroken(): boolean {
    return this.#broken !== undefined;
  }

  /** A rewrite would save most of the file. */
  get isMostlyHistory(): boolean {
    return this.#length > Math.max(MINIMUM_COMPACTION, 4 * this.#compacted);
  }

  /** In words, where the file system has no room for another record. */
  fullness(): string | undefined {
    const directory = path.dirname(this.file);
    try {
      if (fs.statfsSync(directory).bfree > 0) return undefined;
      return `cannot write ${this.file}: no space is left in ${directory}`;
    } catch (error) {
      return `cannot write ${this.file}: ${(error as Error).message}`;
    }
  }

  /**
   * All records or none are in the file when this returns: they survive the process, and, once `durable` has resolved, the
   * machine. Throws JournalError and leaves the file as it was.
   */
  append(records: readonly unknown[]): void {
    const bytes = encode(records);
    try {
      if (this.#broken) throw this.#broken;
      writeAll(this.#fd, bytes);
      this.#length += bytes.length;
      this.#dirty = true;
    } catch (error) {
      this.#restoreLength();
      throw new JournalError(`cannot write ${this.file}: ${(error as Error).message}`);
    }
  }

  /** Resolves when everything appended so far is on the disk. One fdatasync serves all who wait. Rejects with JournalError. */
  durable(): Promise<void> {
    if (!this.#dirty && !this.#syncing) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#sync();
    });
  }

  /** Begins to write to the disk without waiting. */
  flush(): void {
    this.durable().catch(() => undefined);
  }

  /** Replaces the file by one with just these records, on the disk when this returns. Throws JournalError, then the old file stays. */
  compact(records: readonly unknown[]): void {
    const temporary = `${this.file}.new`;
    let fd: number | undefined;
    try {
      const bytes = encode(records);
      fs.mkdirSync(path.dirname(this.file), { recursive: true, mode: 0o700 });
      fs.rmSync(temporary, { force: true });
      fd = fs.openSync(temporary, "ax+", 0o600);
      writeAll(fd, bytes);
      fs.fsyncSync(fd);
      fs.renameSync(temporary, this.file);
      syncDirectory(this.file);
      this.#replaceDescriptor(fd);
      this.#length = bytes.length;
      this.#compacted = bytes.length;
      this.#broken = undefined;
      this.#dirty = false;
    } catch (error) {
      if (fd !== undefined && fd !== this.#fd) {
        fs.closeSync(fd);
        // It would take what little room is left.
        fs.rmSync(temporary, { force: true });
      }
      throw new JournalError(`cannot rewrite ${this.file}: ${(error as Error).message}`);
    }
  }

  /** Writes what is left to the disk. */
  close(): void {
    if (this.#fd < 0) return;
    try {
      fs.fdatasyncSync(this.#fd);
    } finally {
      this.#replaceDescriptor(-1);
      for (const { resolve } of this.#waiting.splice(0)) resolve();
    }
  }

  /** Empty where there is none. */
  #read(): Buffer {
    const stat = fs.statSync(this.file, { throwIfNoEntry: false });
    if (!stat) return Buffer.alloc(0);
    if (!stat.isFile()) throw new Error("it is not a regular file");
    if (stat.size > MAXIMUM_FILE) throw new Error(`it is larger than ${MAXIMUM_FILE} octets`);
    return fs.readFileSync(this.file);
  }

  #sync(): void {
    if (this.#syncing || this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#syncing = true;
    this.#dirty = false;
    fs.fdatasync(this.#fd, error => {
      this.#syncing = false;
      for (const close of this.#afterSync.splice(0)) close();
      // After a failed fdatasync the kernel forgets which pages were not written: only a new file is trustworthy.
      if (error) this.#broken = error;
      for (const { resolve, reject } of waiting) {
        if (error) reject(new JournalError(`cannot write ${this.file} to the disk: ${error.message}`));
        else resolve();
      }
      this.#sync();
    });
  }

  #restoreLength(): void {
    if (this.#broken) return;
    try {
      fs.ftruncateSync(this.#fd, this.#length);
    } catch (error) {
      this.#broken = error as Error;
    }
  }

  #replaceDescriptor(fd: number): void {
    const old = this.#fd;
    this.#fd = fd;
    if (old < 0) return;
    if (this.#syncing) this.#afterSync.push(() => fs.closeSync(old));
    else fs.closeSync(old);
  }
}

function syncDirectory(file: string): void {
  const fd = fs.openSync(path.dirname(file), "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function encode(records: readonly unknown[]): Buffer {
  return Buffer.from(
    records
      .map(record => {
        const json = JSON.stringify(record);
        return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
      })
      .join(""),
  );
}

function decode(bytes: Buffer): { content: JournalContent; length: number } {
  const records: unknown[] = [];
  const lost: number[] = [];
  const damage: string[] = [];
  let length = 0;
  let line = 0;
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(10, start);
    const end = newline < 0 ? bytes.length : newline;
    line++;
    const record = newline < 0 ? undefined : decodeLine(bytes.toString("utf8", start, end));
    if (record === undefined) lost.push(line);
    else {
      records.push(record);
      damage.push(...lost.splice(0).map(number => `line ${number} was damaged and is lost`));
      length = end + 1;
    }
    start = end + 1;
  }
  return { content: { records, damage }, length };
}

function decodeLine(text: string): unknown {
  const json = text.slice(9);
  if (!/^[0-9a-f]{8} /.test(text) || Number.parseInt(text.slice(0, 8), 16) !== crc32(json)) return undefined;
  return JSON.parse(json);
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let written = 0; written < bytes.length; ) written += fs.writeSync(fd, bytes, written);
}
