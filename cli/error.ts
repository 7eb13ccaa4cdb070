/** What ends a command with a sentence instead of a stack. Exit codes: 1 it failed, 2 it was called wrongly. */

export class CliError extends Error {
  override readonly name = "CliError";
  readonly remedy: string;
  readonly exitCode: 1 | 2;

  constructor(message: string, remedy: string, exitCode: 1 | 2 = 1) {
    super(message);
    this.remedy = remedy;
    this.exitCode = exitCode;
  }
}
