/** A reader of the log that does not read: in memory, and as a pipe under a real process. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, rmSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { expect, test } from "vitest";
import { LogSink } from "./log-sink.ts";

const dropped = (count: number) => `${count} dropped\n`;

test("keeps lines for a slow reader up to a bound, drops the others, and says how many", async () => {
  let room = 0;
  let read = "";
  const output = {
    write(octets: Uint8Array) {
      const taken = Math.min(room, octets.length);
      room -= taken;
      read += Buffer.from(octets.subarray(0, taken)).toString();
      return taken;
    },
    close() {},
  };
  const sink = new LogSink(2, dropped, output);
  for (let n = 0; n < 1000; n++) sink.write(`${String(n).padEnd(1023)}\n`);
  expect([read, sink.dropped]).toEqual(["", 1000 - 256]);
  room = Number.POSITIVE_INFINITY;
  await expect.poll(() => read).toContain(`${1000 - 256} dropped\n`);
  const lines = read.split("\n").map(line => line.trim());
  expect(lines.slice(0, 256)).toEqual(Array.from({ length: 256 }, (_, n) => String(n)));
  sink.write("later\n");
  expect(read.endsWith("later\n")).toBe(true);
});

test("a reader that is gone costs the lines and nothing else", () => {
  const output = {
    write(): number {
      throw Object.assign(new Error("broken pipe"), { code: "EPIPE" });
    },
    close() {},
  };
  const sink = new LogSink(2, dropped, output);
  for (let n = 0; n < 10; n++) sink.write("line\n");
  expect(sink.dropped).toBe(10);
});

test.each(["pipe", "socket"])("a process whose %s nobody reads goes on, and its last lines come out when somebody does", async kind => {
  const source = `
    const { createLog } = await import(${JSON.stringify(join(import.meta.dirname, "log.ts"))});
    const log = await createLog("info", "json");
    for (let n = 0; n < 20000; n++) log.info({ n }, "x".repeat(100));
    process.stdout.write("alive\\n");
    process.stdin.once("data", () => { log.info({}, "the end"); process.exit(0); });
  `;
  const words = ["--input-type=module", "-e", source];
  let child: ChildProcess;
  let reader: NodeJS.ReadableStream;
  if (kind === "socket") {
    // What Node makes for stdio.
    child = spawn(process.execPath, words, { stdio: ["pipe", "pipe", "pipe"] });
    reader = child.stderr!;
    reader.pause();
  } else {
    const folder = mkdtempSync(join(tmpdir(), "podlane-log-"));
    const path = join(folder, "fifo");
    execFileSync("mkfifo", [path]);
    const end = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stderr = openSync(path, constants.O_WRONLY);
    child = spawn(process.execPath, words, { stdio: ["pipe", "pipe", stderr] });
    closeSync(stderr);
    rmSync(folder, { recursive: true });
    reader = new Socket({ fd: end, readable: true, writable: false }).pause();
  }
  await once(child.stdout!, "data");
  let text = "";
  reader.setEncoding("utf8");
  reader.on("data", chunk => {
    text += chunk;
  });
  reader.resume();
  const ended = Promise.all([once(child, "exit"), once(reader as Readable, "close")]);
  await expect.poll(() => text, { timeout: 10_000 }).toContain("log lines were dropped: nobody read them");
  child.stdin!.write("go\n");
  const [[code]] = await ended;
  expect(code).toBe(0);
  const lines = text
    .trim()
    .split("\n")
    .map(line => JSON.parse(line));
  expect(lines.at(-1).msg).toBe("the end");
  expect(lines.some(line => /^\d+ log lines were dropped: nobody read them$/.test(line.msg))).toBe(true);
});
