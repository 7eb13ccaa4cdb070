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

/** Of the agent's socket. */
export function explainSocketError(error: NodeJS.ErrnoException, path: string): CliError {
  const remedy = 'start it with "podlane agent", or name its socket with --socket';
  switch (error.code) {
    case "ENOENT":
      return new CliError(`no agent runs here: ${path} does not exist`, remedy);
    case "ECONNREFUSED":
      return new CliError(`no agent runs here: nobody answers on ${path}`, remedy);
    case "EACCES":
    case "EPERM":
      return new CliError(`you may not open ${path}`, "only root may: try sudo");
    case "ECONNRESET":
    case "EPIPE":
      return new CliError(`the agent on ${path} ended before it answered: ${error.message}`, "see the agent's log");
    default:
      return new CliError(`cannot ask the agent on ${path}: ${error.message}`, "see the agent's log");
  }
}
