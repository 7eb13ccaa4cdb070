#!/usr/bin/env node
/** The program `podlane`. */
import { run, systemTerminal } from "./program.ts";

// A reader that has seen enough (`podlane routes | head`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
// kubectl runs what is called kubectl-podlane as `kubectl podlane`; the launcher says by which name it was called.
const name = process.env.PODLANE_CALLED === "kubectl-podlane" ? "kubectl podlane" : "podlane";
process.exitCode = await run(process.argv.slice(2), systemTerminal(), text => void process.stderr.write(text), name);
