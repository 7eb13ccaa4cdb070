/** Problems as they come: each is logged and told once, while it lasts. */
import type { Logger } from "../platform/log.ts";
import type { Problem } from "../platform/problem.ts";

type Told = Pick<Problem, "severity" | "reason" | "object" | "field" | "remedy">;

export class ProblemLog {
  readonly #log: Logger;
  readonly #tell: (text: string, problem: Told) => void;
  readonly #logged = new Set<string>();

  constructor(log: Logger, tell: (text: string, problem: Told) => void) {
    this.#log = log;
    this.#tell = tell;
  }

  /** All that there are now. */
  see(problems: readonly Problem[]): void {
    const now = new Set(problems.map(one => JSON.stringify(one)));
    for (const old of this.#logged) if (!now.has(old)) this.#logged.delete(old);
    for (const problem of problems) {
      const key = JSON.stringify(problem);
      if (this.#logged.has(key)) continue;
      this.#logged.add(key);
      const { severity, reason, object, field, place, message, remedy } = problem;
      const text = `${[object, field].filter(Boolean).join(" ")}: ${message}`;
      this.#log[severity === "error" ? "error" : "warn"]({ reason, place, remedy }, text);
      this.#tell(text, { severity, reason, object, field, remedy });
    }
  }
}
