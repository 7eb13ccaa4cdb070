/** `podlane api`: what a workstation runs in the agent's pod (remote.ts). Standard input goes to the agent's socket, and its answer to standard output. */
import { connect } from "node:net";
import { explainSocketError } from "./error.ts";

/** Ends with either side: an asker that is gone must leave no process behind. Rejects with CliError. */
export function relay(socketPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    const end = () => {
      process.stdin.destroy();
      socket.destroy();
    };
    socket.on("error", error => {
      end();
      reject(explainSocketError(error, socketPath));
    });
    socket.on("end", () => {
      end();
      resolve();
    });
    process.stdin.on("error", end).on("end", () => {
      end();
      resolve();
    });
    process.stdin.pipe(socket, { end: false });
    socket.pipe(process.stdout, { end: false });
  });
}
