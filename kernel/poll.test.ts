import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { expect, onTestFinished, test } from "vitest";
import { AF_INET, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK } from "./constants.ts";
import * as libc from "./libc.ts";
import { pollDescriptor } from "./poll.ts";
import { encodeSockaddr, localPort } from "./socket.ts";

/** A UDP descriptor that koffi made, and how to send to it. */
function receiver() {
  const fd = libc.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, "test");
  libc.bind(fd, encodeSockaddr(Uint8Array.of(127, 0, 0, 1), 0), "test");
  const sender = createSocket("udp4");
  onTestFinished(() => {
    sender.close();
    closeSync(fd);
  });
  return { fd, send: (text: string) => sender.send(text, localPort(fd), "127.0.0.1") };
}

function receive(fd: number): string {
  const data = new Uint8Array(64);
  const length = libc.recv(fd, data, MSG_DONTWAIT);
  return length < 0 ? "" : Buffer.from(data.subarray(0, length)).toString();
}

test("a descriptor calls back when it is readable, again and again", async () => {
  const { fd, send } = receiver();
  const got: string[] = [];
  await new Promise<void>(resolve => {
    const poll = pollDescriptor(fd, { readable: true }, ready => {
      expect(ready.readable).toBe(true);
      got.push(receive(fd));
      if (got.length < 3) send(`message ${got.length}`);
      else {
        poll.close();
        resolve();
      }
    });
    send("message 0");
  });
  expect(got).toEqual(["message 0", "message 1", "message 2"]);
});

test("what is waited for can change, and close() ends it, twice too", async () => {
  const { fd, send } = receiver();
  const seen: string[] = [];
  await new Promise<void>(resolve => {
    const poll = pollDescriptor(fd, { writable: true }, ready => {
      seen.push(ready.writable ? "writable" : `readable ${receive(fd)}`);
      if (ready.writable) {
        poll.update({ readable: true });
        send("now");
      } else {
        poll.close();
        poll.close();
        poll.update({ writable: true });
        poll.unref();
        resolve();
      }
    });
  });
  expect(seen).toEqual(["writable", "readable now"]);
});

test("a process with an unreferenced poll ends by itself; with another one it stays until close()", async () => {
  const module = new URL("./", import.meta.url).href;
  const source = `
    import * as libc from "${module}libc.ts";
    import { pollDescriptor } from "${module}poll.ts";
    const fd = libc.socket(2, 2, 0, "test");
    const idle = pollDescriptor(fd, { readable: true }, () => {});
    idle.unref();
    const other = pollDescriptor(libc.socket(2, 2, 0, "test"), { writable: true }, () => { other.close(); console.log("written"); });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => {
    child.kill();
  });
  let output = "";
  child.stdout.on("data", data => {
    output += data;
  });
  const [code] = await once(child, "close");
  expect([code, output]).toEqual([0, "written\n"]);
});

test("a pending socket error is delivered, and polling goes on after it", async () => {
  const target = libc.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, "test");
  const peer = createSocket("udp4");
  await new Promise<void>(resolve => peer.bind(0, "127.0.0.1", resolve));
  onTestFinished(() => closeSync(target));
  libc.connect(target, encodeSockaddr(Uint8Array.of(127, 0, 0, 1), peer.address().port), "test");
  const own = localPort(target);
  const seen: string[] = [];
  await new Promise<void>(resolve => {
    const poll = pollDescriptor(target, { readable: true }, () => {
      const data = new Uint8Array(64);
      const length = libc.recv(target, data, MSG_DONTWAIT);
      seen.push(length < 0 ? `error ${-length}` : Buffer.from(data.subarray(0, length)).toString());
      if (length < 0) reopen();
      else {
        poll.close();
        resolve();
      }
    });
    const port = peer.address().port;
    const reopen = () => {
      const again = createSocket("udp4");
      again.bind(port, "127.0.0.1", () => again.send("after", own, "127.0.0.1", () => again.close()));
    };
    peer.close(() => libc.send(target, Uint8Array.of(1), 1, 0, "test"));
  });
  expect(seen).toEqual(["error 111", "after"]);
});

test("what the callback throws is an uncaught exception, and promises it resolves go on at once", async () => {
  const module = new URL("./", import.meta.url).href;
  const source = `
    import * as libc from "${module}libc.ts";
    import { pollDescriptor } from "${module}poll.ts";
    const once = body => {
      const poll = pollDescriptor(libc.socket(2, 2, 0, "test"), { writable: true }, () => { poll.close(); body(); });
    };
    process.on("uncaughtException", error => console.log("uncaught " + error.message));
    once(() => { throw new Error("thrown"); });
    await new Promise(resolve => once(resolve));
    console.log("resumed");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => {
    child.kill();
  });
  let output = "";
  child.stdout.on("data", data => {
    output += data;
  });
  const [code] = await once(child, "close");
  expect([code, output]).toEqual([0, "uncaught thrown\nresumed\n"]);
});
