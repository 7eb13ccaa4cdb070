/**
 * The program nft(8), run with an input in JSON: the kernel's interface to nftables differs between versions, and nft is made for the kernel beside it. One
 * run is one transaction. Bounded in time and in what it may say.
 */
import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { memoryFile } from "../kernel/index.ts";
import type { Command } from "./json.ts";

/** Milliseconds that a run may take: 100,000 new elements take about a second. */
const PATIENCE = 30_000;
/** Octets that it may list. */
const MAXIMUM_OUTPUT = 64 << 20;
/** Of what it says about an error. */
const MAXIMUM_ERROR = 2000;

export class NftError extends Error {
  override readonly name = "NftError";
  /** "absent": there is no such program. "late": it was killed. "refused": nft or the kernel did not want it. */
  readonly reason: "absent" | "late" | "refused";

  constructor(reason: NftError["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Carries out the commands, all or none, and resolves with what it lists. Rejects with NftError. */
export type Nft = (commands: readonly Command[]) => Promise<string>;

/** `program`: with what goes before its options, for tests `ip netns exec NAME nft`. */
export function nft(program: readonly string[] = ["nft"], patience = PATIENCE): Nft {
  return commands => run([...program, "-j", "-f", "-"], JSON.stringify({ nftables: commands }), patience);
}

function run([program, ...args]: readonly string[], input: string, patience: number): Promise<string> {
  const fd = memoryFile("nft", input);
  const child = spawn(program, args, { stdio: [fd, "pipe", "pipe"], timeout: patience, killSignal: "SIGKILL" });
  closeSync(fd);
  const output: Buffer[] = [];
  let octets = 0;
  let error = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    octets += chunk.length;
    if (octets > MAXIMUM_OUTPUT) child.kill("SIGKILL");
    else output.push(chunk);
  });
  child.stderr!.on("data", (chunk: Buffer) => {
    error = `${error}${chunk}`.slice(0, MAXIMUM_ERROR);
  });
  return new Promise((resolve, reject) => {
    child.on("error", (failure: NodeJS.ErrnoException) => {
      const absent = failure.code === "ENOENT" || failure.code === "EACCES";
      reject(new NftError(absent ? "absent" : "refused", `${program} cannot be run: ${failure.message}`));
    });
    child.on("close", (code, signal) => {
      if (octets > MAXIMUM_OUTPUT) reject(new NftError("refused", `${program} says more than ${MAXIMUM_OUTPUT >> 20} MiB`));
      else if (signal !== null) reject(new NftError("late", `${program} was killed by ${signal}, its limit is ${patience / 1000} s`));
      else if (code === 0) resolve(Buffer.concat(output).toString());
      else reject(new NftError("refused", `nft: ${inOneLine(error) || `ended with code ${code}`}`));
    });
  });
}

/** Without the place, which in JSON is always the same. */
function inOneLine(text: string): string {
  const lines = text.split("\n").map(line => line.replace(/^internal:0:0-0: /, "").trim());
  return lines.filter(line => line !== "" && !/^\^[\^~]*$/.test(line)).join(" ");
}
