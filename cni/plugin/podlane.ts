/**
 * The executable that a container runtime calls, for machines without a C compiler: the same behaviour as podlane.c, forty
 * times slower to start. It imports nothing of podlane, because it is installed as a single file.
 */
import fs from "node:fs";
import path from "node:path";

// Not imported: that loads a whole HTTP client besides (agent/node-http.ts).
const http = process.getBuiltinModule("node:http");

const MAXIMUM_CONFIG = 1 << 20;
const MAXIMUM_ANSWER = 4 << 20;
const MAXIMUM_HEAD = 14000;
const MAXIMUM_QUEUE = 1024;
const INPUT_TIMEOUT = 10_000;
const STATUS_TIMEOUT = 5_000;
const CALL_TIMEOUT = 90_000;
/** For an agent that is being replaced; $PODLANE_WAIT, in seconds, overrides it. With the call it comes to less than the two minutes that runtimes have. */
const WAIT = 60_000;
const WAIT_POLL = 100;
const TOTAL = 110_000;
const versions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const MAXIMUM_CONTAINER_ID = 255;
const variables: [string, string][] = [
  ["CNI_COMMAND", "X-Cni-Command"],
  ["CNI_CONTAINERID", "X-Cni-Containerid"],
  ["CNI_NETNS", "X-Cni-Netns"],
  ["CNI_IFNAME", "X-Cni-Ifname"],
  ["CNI_ARGS", "X-Cni-Args"],
  ["CNI_PATH", "X-Cni-Path"],
  ["TRACEPARENT", "X-Cni-Traceparent"],
  ["TRACESTATE", "X-Cni-Tracestate"],
  ["BAGGAGE", "X-Cni-Baggage"],
];

class PluginError extends Error {
  readonly code: number;
  readonly details: string;

  constructor(code: number, message: string, details: string) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

let cniVersion = "1.1.0";

main().catch(error => {
  const { code, message, details } = error instanceof PluginError ? error : new PluginError(5, String(error?.message ?? error), "");
  process.stdout.write(`${JSON.stringify({ cniVersion, code, msg: message, details })}\n`);
  process.exitCode = 1;
});

async function main(): Promise<void> {
  const command = process.env.CNI_COMMAND;
  if (!command) throw new PluginError(4, "CNI_COMMAND is missing", "this is a CNI plugin: a container runtime calls it");
  const input = await readInput();
  const config = scan(input);
  cniVersion = config?.cniVersion ?? cniVersion;
  if (command === "VERSION") {
    process.stdout.write(`${JSON.stringify({ cniVersion, supportedVersions: versions })}\n`);
    return;
  }
  const head = buildHead(command);
  const socket = config?.socket ?? (process.env.PODLANE_SOCKET || "/run/podlane/agent.sock");
  try {
    const { status, body } = await callOrWait(command, config, { socket, head, input });
    process.stdout.write(body);
    process.exitCode = status === 200 ? 0 : 1;
  } catch (error) {
    if (error instanceof PluginError) throw error;
    unreachable(command, socket, config?.queue ?? "/var/lib/podlane/del-queue", head, input, (error as Error).message);
  }
}

interface Request {
  socket: string;
  head: [string, string][];
  input: Buffer;
}

/** Waits for an agent that is being replaced: see call_again() in podlane.c. */
async function callOrWait(command: string, config: Scanned | undefined, request: Request): Promise<Answer> {
  const started = performance.now();
  const end = started + Math.min(TOTAL, process.env.PODLANE_WAIT ? Number(process.env.PODLANE_WAIT) * 1000 : WAIT);
  const timeout = () => Math.min(command === "STATUS" ? STATUS_TIMEOUT : CALL_TIMEOUT, started + TOTAL - performance.now());
  let losses = 0;
  let undo = false;
  for (let first = true; ; first = false) {
    try {
      const answer = await call({ ...request, head: undo ? asDel(request.head) : request.head }, timeout());
      if (!undo) return answer;
      undo = false;
    } catch (error) {
      if (first) refuse(command, config);
      const { message } = error as Error;
      if (message === INCOMPLETE) {
        losses++;
        undo = command === "ADD";
      } else if (!Object.values(absent).includes(message)) throw error;
      if (command === "STATUS" || command === "DEL" || losses > 1 || performance.now() >= end) throw error;
    }
    await new Promise(resolve => setTimeout(resolve, WAIT_POLL));
  }
}

function asDel(head: [string, string][]): [string, string][] {
  return head.map(([name, value]) => [name, name === "X-Cni-Command" ? "DEL" : value]);
}

async function readInput(): Promise<Buffer> {
  const timer = setTimeout(() => {
    process.stdin.destroy(new Error("Connection timed out"));
  }, INPUT_TIMEOUT);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of process.stdin) {
      chunks.push(chunk);
      length += chunk.length;
      if (length > MAXIMUM_CONFIG) throw new Error("File too large");
    }
  } catch (error) {
    throw new PluginError(5, "cannot read the network configuration from standard input", (error as Error).message);
  } finally {
    clearTimeout(timer);
  }
  return Buffer.concat(chunks);
}

interface Scanned {
  socket?: string;
  queue?: string;
  cniVersion?: string;
}

/** The top-level strings that concern this program. undefined: this is no JSON object, and the agent will say what is wrong with it. */
function scan(input: Buffer): Scanned | undefined {
  let value: unknown;
  try {
    value = JSON.parse(input.toString("utf8"));
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const text = (key: string) => {
    const found = (value as Record<string, unknown>)[key];
    return typeof found === "string" ? found : undefined;
  };
  return { socket: text("socket"), queue: text("queue"), cniVersion: text("cniVersion") };
}

function buildHead(command: string): [string, string][] {
  let length = 0;
  return variables.flatMap(([name, header]) => {
    const value = process.env[name];
    if (value === undefined) return [];
    const encoded = Array.from(Buffer.from(value), b =>
      b > 32 && b < 127 && b !== 37 ? String.fromCharCode(b) : `%${b.toString(16).toUpperCase().padStart(2, "0")}`,
    ).join("");
    const size = header.length + encoded.length + 4;
    if (length + size > MAXIMUM_HEAD) {
      if (isDispensable(name, command)) return [];
      throw new PluginError(4, `${name} is too long`, `the environment of a call has at most ${MAXIMUM_HEAD} octets`);
    }
    length += size;
    return [[header, encoded]];
  });
}

/** Whether the call can be carried out without: nothing but ADD and CHECK looks at the namespace and CNI_ARGS, and nothing at what follows these. */
function isDispensable(variable: string, command: string): boolean {
  if (variable === "CNI_NETNS" || variable === "CNI_ARGS") return command !== "ADD" && command !== "CHECK";
  return !["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME"].includes(variable);
}

interface Answer {
  status: number;
  body: string;
}

/** The agent ended before it answered. */
const INCOMPLETE = "it closed the connection without a whole answer";
/** There is no agent. */
const absent: Record<string, string> = { ENOENT: "No such file or directory", ECONNREFUSED: "Connection refused" };

function call({ socket: socketPath, head, input }: Request, timeout: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = {
      ...Object.fromEntries(head),
      Host: "podlane",
      Connection: "close",
      "Content-Type": "application/json",
      "Content-Length": input.length,
    };
    const request = http.request({ socketPath, path: "/v1/cni", method: "POST", headers }, response => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > MAXIMUM_ANSWER) request.destroy(new Error("File too large"));
      });
      response.on("error", () => reject(new Error(INCOMPLETE)));
      response.on("end", () => {
        const body = Buffer.concat(chunks).toString("utf8");
        const proper = body.startsWith("{") || (body === "" && response.statusCode === 200);
        if (!response.complete || !proper) reject(new Error(INCOMPLETE));
        else resolve({ status: response.statusCode ?? 0, body });
      });
    });
    const timer = setTimeout(() => request.destroy(new Error("Connection timed out")), timeout);
    request.on("close", () => clearTimeout(timer));
    request.on("error", (error: NodeJS.ErrnoException) => reject(new Error(explain(error))));
    request.end(input);
  });
}

function explain({ code = "", message }: NodeJS.ErrnoException): string {
  return code === "ECONNRESET" || code === "EPIPE" || code.startsWith("HPE_") ? INCOMPLETE : (absent[code] ?? message);
}

/** What no agent would accept is told at once: waiting for one, or keeping it, would not help. Throws PluginError. */
function refuse(command: string, config: Scanned | undefined): void {
  if (!config) throw new PluginError(6, "the network configuration on standard input is not a JSON object", "");
  if (!config.cniVersion || !versions.includes(config.cniVersion)) {
    const shown = config.cniVersion ? `"${config.cniVersion}"` : "is missing or no version";
    throw new PluginError(1, `cniVersion ${shown}: not supported`, `podlane speaks ${JSON.stringify(versions)}`);
  }
  if (command !== "DEL") return;
  const container = process.env.CNI_CONTAINERID ?? "";
  const ifname = process.env.CNI_IFNAME ?? "";
  const remedy = "the container runtime sets these variables";
  if (container.length > MAXIMUM_CONTAINER_ID || !/^[A-Za-z0-9][A-Za-z0-9_.-]*$/.test(container))
    throw new PluginError(4, "CNI_CONTAINERID is missing or not valid", remedy);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (ifname === "." || ifname === ".." || Buffer.byteLength(ifname) > 15 || !/^[^/:%\x00-\x20]+$/.test(ifname))
    throw new PluginError(4, "CNI_IFNAME is missing or not valid", remedy);
}

function unreachable(command: string, socket: string, queue: string, head: [string, string][], input: Buffer, reason: string): void {
  const message = `the podlane agent at ${socket} did not answer: ${reason}`;
  const remedy = `is the podlane agent running on this node, and is its socket ${socket}? Set "socket" in the network configuration otherwise`;
  if (command === "STATUS") throw new PluginError(50, message, remedy);
  if (command !== "DEL") throw new PluginError(11, message, remedy);
  try {
    enqueue(queue, `${process.env.CNI_CONTAINERID}@${process.env.CNI_IFNAME}`, head, input);
  } catch (error) {
    const details = `and the DEL could not be queued in ${queue}: ${(error as Error).message} (at most ${MAXIMUM_QUEUE} are kept); start the agent`;
    throw new PluginError(11, message, details);
  }
}

/** One file for each attachment: the request's headers, an empty line, the configuration. */
function enqueue(queue: string, name: string, head: [string, string][], input: Buffer): void {
  fs.mkdirSync(queue, { recursive: true, mode: 0o700 });
  const file = path.join(queue, name);
  if (!fs.existsSync(file) && fs.readdirSync(queue).filter(entry => !entry.startsWith(".")).length >= MAXIMUM_QUEUE) {
    throw new Error("No space left on device");
  }
  const temporary = path.join(queue, `.${process.pid}.new`);
  fs.rmSync(temporary, { force: true });
  try {
    const fd = fs.openSync(temporary, "wx", 0o600);
    try {
      fs.writeFileSync(fd, Buffer.concat([Buffer.from(`${head.map(([key, value]) => `${key}: ${value}\r\n`).join("")}\r\n`), input]));
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(temporary, file);
  } catch (error) {
    fs.rmSync(temporary, { force: true });
    throw error;
  }
  const directory = fs.openSync(queue, "r");
  try {
    fs.fsyncSync(directory);
  } finally {
    fs.closeSync(directory);
  }
}
