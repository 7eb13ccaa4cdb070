/**
 * Listening on a Unix socket: mode 0600, a dead agent's socket is taken over, a living agent's or a foreign file is not touched.
 */
import { chmodSync, lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";

export class SocketError extends Error {
  override readonly name = "SocketError";
}

/** sizeof(sockaddr_un.sun_path) less the final zero. */
const MAX_PATH = 107;

/** Creates the folder with mode 0700 where it is missing. Throws SocketError. */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH) {
    throw new SocketError(`${path}: a socket's path has at most ${MAX_PATH} octets; choose a shorter one with --socket`);
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  await removeStale(path);
  await listen(server, path);
}

/** Whether somebody accepts connections at `path`. */
function isAlive(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // EAGAIN: the queue is full, so there is somebody.
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "EAGAIN" || error.code === "EACCES"));
  });
}

async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new SocketError(`${path} exists and is not a socket: remove it, or choose another path with --socket`);
  if (await isAlive(path)) {
    throw new SocketError(`another agent answers on ${path}: stop it, or choose another path with --socket and another --state`);
  }
  unlinkSync(path);
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const reason = error.code === "EADDRINUSE" ? "another agent has just taken it" : error.message;
      reject(new SocketError(`cannot listen on ${path}: ${reason}`));
    });
    server.once("listening", resolve);
    // bind(2) happens within listen(): at no time is the socket open to others.
    const umask = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(umask);
    }
    if (lstatSync(path, { throwIfNoEntry: false })?.isSocket()) chmodSync(path, 0o600);
  });
}
