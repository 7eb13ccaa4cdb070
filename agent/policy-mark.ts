/**
 * Whether there were policies when they were last known, on disk: a node whose files cannot be read goes on attaching pods where there never were any, and
 * keeps them out where there were. A file of no content, or none.
 */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Logger } from "../platform/log.ts";

export class PolicyMark {
  readonly #path: string;
  readonly #log: Pick<Logger, "warn">;
  #had: boolean | undefined;

  constructor(stateDirectory: string, log: Pick<Logger, "warn">) {
    this.#path = join(stateDirectory, "had-policies");
    this.#log = log;
  }

  get(): boolean {
    this.#had ??= existsSync(this.#path);
    return this.#had;
  }

  set(had: boolean): void {
    if (had === this.get()) return;
    this.#had = had;
    try {
      if (had) writeFileSync(this.#path, "", { mode: 0o600 });
      else rmSync(this.#path, { force: true });
    } catch (error) {
      this.#log.warn({}, `the next agent will not know whether there are policies: ${(error as Error).message}`);
    }
  }
}
