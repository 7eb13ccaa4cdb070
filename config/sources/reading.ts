/**
 * From text to objects without holding up the event loop: parsing YAML takes about a second per megabyte, so a text that is not small is read in a
 * thread of its own, with a bound on its time and memory. A small one is read at once.
 */
import { Worker } from "node:worker_threads";
import { type ReadResult, readDocuments } from "../resources/documents.ts";

/** Characters that are read at once: some tens of milliseconds. */
const SMALL = 64 * 1024;

export interface ReadingLimits {
  /** Milliseconds; the largest file allowed takes some seconds. */
  time: number;
  /** Megabytes of heap. */
  memory: number;
}

/** Beside this file, as source and in the bundle. */
const workerFile = new URL(import.meta.url.endsWith(".ts") ? "./reading-worker.ts" : "./reading-worker.js", import.meta.url);

const defaultLimits: ReadingLimits = { time: 60_000, memory: 1024 };

export class TextReader {
  readonly #limits: ReadingLimits;
  #worker: Worker | undefined;
  #closed = false;

  constructor(limits = defaultLimits) {
    this.#limits = limits;
  }

  /** One text at a time. Never rejects: what cannot be read is a problem. */
  async read(text: string, file: string): Promise<ReadResult> {
    if (text.length <= SMALL || this.#closed) return readDocuments(text, file);
    const worker = new Worker(workerFile, {
      workerData: { text, file },
      resourceLimits: { maxOldGenerationSizeMb: this.#limits.memory },
      // Options of the process, such as the heap's size, are not the thread's.
      execArgv: [],
    });
    this.#worker = worker;
    const seconds = this.#limits.time / 1000;
    try {
      return await new Promise<ReadResult>(resolve => {
        const fail = (message: string) => resolve(unreadable(file, message));
        const timer = setTimeout(() => fail(`cannot be read within ${seconds} s`), this.#limits.time);
        worker.once("message", resolve);
        worker.once("error", (error: Error) => fail(`cannot be read: ${error.message}`));
        worker.once("exit", () => {
          clearTimeout(timer);
          fail("cannot be read: reading was ended");
        });
      });
    } finally {
      this.#worker = undefined;
      await worker.terminate();
    }
  }

  /** Ends what is being read. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#worker?.terminate();
  }
}

function unreadable(file: string, message: string): ReadResult {
  const remedy = "split it into several files; what it said before stays in force";
  return {
    objects: [],
    services: [],
    policies: [],
    problems: [{ severity: "error", reason: "UnreadableFile", object: file, field: "", message, remedy }],
    broken: true,
  };
}
