/**
 * A command in a container of the cluster, as a stream: what is written goes to its standard input, what is read is its standard output. The protocol,
 * channels of a WebSocket (v5.channel.k8s.io), is @kubernetes/client-node's.
 */
import { Duplex, Readable, Writable } from "node:stream";
import type { ApiClient } from "./client.ts";
import type { KubeconfigAccess } from "./kubeconfig.ts";
import { ApiError } from "./types.ts";

export interface ExecTarget {
  namespace: string;
  pod: string;
  container: string;
}

/** Milliseconds for the API server and the kubelet to start the command. */
const START_TIMEOUT = 45_000;
/** Milliseconds between pings. Load balancers forget connections that say nothing, and a server that is gone sends no end. */
const PING = 10_000;
/** Of pings without an answer. */
const PINGS_LOST = 3;
/** Octets of standard error that are kept: the first ones say why. */
const MAX_STDERR = 4096;

/** The command failed, or the way to it did. */
export class ExecError extends Error {
  override readonly name = "ExecError";
  /** Undefined: it did not start, or nobody knows how it ended. */
  readonly exitCode: number | undefined;
  readonly stderr: string;

  constructor(message: string, exitCode?: number, stderr = "") {
    super(message);
    this.exitCode = exitCode;
    this.stderr = stderr;
  }
}

/** What of client-node's WebSocket is used. */
interface Socket {
  terminate(): void;
  ping(): void;
  on(event: "close" | "pong", listener: () => void): void;
}

/**
 * Resolves when the command was accepted. Rejects with ApiError where the API server refuses; the stream ends with ExecError where the command fails, or is silent
 * for `idle` milliseconds (0: it may be).
 */
export async function exec(
  access: Pick<KubeconfigAccess, "config">,
  client: ApiClient,
  { namespace, pod, container }: ExecTarget,
  command: readonly string[],
  idle: number,
): Promise<Duplex> {
  const { Exec } = await import("@kubernetes/client-node");
  const stream = new ExecStream(idle);
  const opening = new Exec(access.config).exec(
    namespace,
    pod,
    container,
    [...command],
    stream.stdout,
    stream.stderr,
    stream.stdin,
    false,
    status => stream.ended(status),
  );
  void opening.then(
    socket => stream.destroyed && socket.terminate(),
    () => undefined,
  );
  try {
    stream.attach((await within(START_TIMEOUT, opening)) as unknown as Socket);
    if (stream.errored) throw stream.errored;
    return stream;
  } catch (error) {
    stream.destroy();
    if (error instanceof ExecError) throw error;
    // A refused upgrade says no more than its number. Asked without one, the server refuses in words; and it starts nothing without one.
    const query = new URLSearchParams([["container", container], ["stdout", "true"], ...command.map(word => ["command", word])]);
    const refusal = await client.get(`/api/v1/namespaces/${namespace}/pods/${pod}/exec?${query}`).catch((reason: ApiError) => reason);
    if (refusal instanceof ApiError && !/upgrade/i.test(refusal.message)) throw refusal;
    throw new ExecError((error as Error).message || "the connection was refused");
  }
}

interface ExecStatus {
  status?: string;
  message?: string;
  reason?: string;
  details?: { causes?: { reason?: string; message?: string }[] };
}

class ExecStream extends Duplex {
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Read by client-node. */
  readonly stdin = new Readable({ read() {} });
  #socket: Socket | undefined;
  #succeeded = false;
  readonly #idle: number;
  #stderr = "";
  #pinging: NodeJS.Timeout | undefined;
  #silence: NodeJS.Timeout | undefined;

  constructor(idle: number) {
    super();
    this.#idle = idle;
    // A command may have failed before anybody listens.
    this.on("error", () => undefined);
    this.stdout = new Writable({
      write: (chunk, _encoding, done) => {
        this.#alive();
        this.push(chunk);
        done();
      },
    });
    this.stderr = new Writable({
      write: (chunk, _encoding, done) => {
        this.#stderr = (this.#stderr + chunk).slice(0, MAX_STDERR);
        done();
      },
    });
  }

  attach(socket: Socket): void {
    this.#socket = socket;
    this.#alive();
    let lost = 0;
    socket.on("close", () => this.destroy(this.#succeeded ? undefined : new ExecError("the connection broke off")));
    socket.on("pong", () => {
      lost = 0;
    });
    this.#pinging = setInterval(() => {
      if (lost++ >= PINGS_LOST) this.destroy(new ExecError(`the API server has not answered for ${(PINGS_LOST * PING) / 1000} s`));
      else socket.ping();
    }, PING);
  }

  /** metav1.Status of the command. */
  ended({ status, message = "", details }: ExecStatus): void {
    if (status === "Success") {
      this.#succeeded = true;
      this.push(null);
      return;
    }
    const code = details?.causes?.find(cause => cause.reason === "ExitCode")?.message;
    this.destroy(new ExecError(message, code === undefined ? undefined : Number(code), this.#stderr));
  }

  #alive(): void {
    clearTimeout(this.#silence);
    const idle = this.#idle;
    if (idle > 0) this.#silence = setTimeout(() => this.destroy(new ExecError(`no answer for ${idle / 1000} s`)), idle);
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.stdin.push(chunk);
    done();
  }

  override _final(done: () => void): void {
    this.stdin.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#silence);
    clearInterval(this.#pinging);
    this.#socket?.terminate();
    done(error);
  }
}

async function within<Value>(milliseconds: number, work: Promise<Value>): Promise<Value> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new ExecError(`the command did not start within ${milliseconds / 1000} s`)), milliseconds);
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
  }
}
