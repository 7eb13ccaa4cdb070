/**
 * Where log lines go: standard error, without ever waiting for its reader. journald that is stopped or a pager that nobody scrolls must not stop
 * routing. What does not fit into the pipe waits in memory, up to a bound; beyond it lines are dropped and counted, and the count is said when
 * the reader is back. A reader that is gone for good loses the lines and nothing else.
 */
import { type NonBlockingOutput, nonBlockingOutput } from "../kernel/index.ts";

/** Octets that wait for a slow reader. */
const MAX_WAITING = 256 * 1024;
/** Milliseconds between two tries. */
const RETRY = 50;
/** Milliseconds that the last lines have at the end of the process. */
const LAST_TRY = 500;

export class LogSink {
  readonly #output: NonBlockingOutput;
  readonly #droppedLine: (count: number) => string;
  #waiting: Buffer[] = [];
  #octets = 0;
  #unsaid = 0;
  #timer: NodeJS.Timeout | undefined;
  /** Lines that nobody got, since the start. */
  dropped = 0;

  /** `droppedLine`: what is said of lines that were dropped. */
  constructor(fd: number, droppedLine: (count: number) => string, output: NonBlockingOutput = nonBlockingOutput(fd)) {
    this.#output = output;
    this.#droppedLine = droppedLine;
  }

  write(line: string): void {
    const octets = Buffer.from(line);
    if (this.#octets + octets.length > MAX_WAITING) {
      this.dropped++;
      this.#unsaid++;
      return;
    }
    this.#push(octets);
    if (!this.#timer) this.#drain();
  }

  /** Tries for a bounded time to bring out what waits: the process ends. */
  end(): void {
    const until = performance.now() + LAST_TRY;
    while (this.#octets > 0 && performance.now() < until) {
      this.#drain();
      if (this.#octets > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }

  #push(octets: Buffer): void {
    this.#waiting.push(octets);
    this.#octets += octets.length;
  }

  #drain(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    try {
      while (this.#waiting.length > 0) {
        const [first] = this.#waiting;
        const written = this.#output.write(first);
        this.#octets -= written;
        if (written < first.length) {
          this.#waiting[0] = first.subarray(written);
          this.#timer = setTimeout(() => this.#drain(), RETRY).unref();
          return;
        }
        this.#waiting.shift();
        if (this.#waiting.length === 0 && this.#unsaid > 0) {
          const count = this.#unsaid;
          this.#unsaid = 0;
          this.#push(Buffer.from(this.#droppedLine(count)));
        }
      }
    } catch {
      // Nobody reads any more: a closed terminal, a journald that went away.
      this.dropped += this.#waiting.length;
      this.#waiting = [];
      this.#octets = 0;
    }
  }
}
