/** The executable by itself: what it relays, and what it says and keeps when no agent answers. Both builds, the same tests. */
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { readQueue } from "../../cni/attach/queue.ts";
import { decodeHeaders } from "../../cni/http.ts";
import { buildPlugin } from "../../cni/plugin/build.ts";
import { supportedVersions } from "../../cni/protocol/version.ts";
import { type Outcome, runPlugin } from "./harness.ts";

const directories: Record<string, string> = {};
function pluginOf(kind: "cc" | "node"): string {
  directories[kind] ??= fs.mkdtempSync(path.join(os.tmpdir(), `podlane-plugin-${kind}-`));
  const file = path.join(directories[kind], "podlane");
  return fs.existsSync(file) ? file : buildPlugin(directories[kind], kind);
}

afterAll(() => {
  for (const directory of Object.values(directories)) fs.rmSync(directory, { recursive: true, force: true });
});

describe.each(["cc", "node"] as const)("built with %s", kind => {
  let directory: string;
  let socket: string;
  let queue: string;
  let server: net.Server | undefined;

  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-relay-"));
    socket = path.join(directory, "agent.sock");
    queue = path.join(directory, "deep/er/queue");
  });
  afterEach(() => {
    server?.close();
    server = undefined;
    fs.rmSync(directory, { recursive: true, force: true });
  });

  function call(command: string | undefined, env: Record<string, string> = {}, config: object | string = {}): Promise<Outcome> {
    const stdin =
      typeof config === "string"
        ? config
        : JSON.stringify({ cniVersion: "1.0.0", name: "pods", type: "podlane", socket, queue, ...config });
    const usual = { PATH: process.env.PATH ?? "", PODLANE_WAIT: "0" };
    return runPlugin(pluginOf(kind), { ...usual, ...(command && { CNI_COMMAND: command }), ...env }, stdin);
  }

  /** Answers every connection with these bytes; resolves with what was asked. */
  function answer(bytes: string): Promise<string> {
    return new Promise(resolve => {
      server = net.createServer(connection => {
        let asked = "";
        connection.on("error", () => undefined);
        connection.on("data", chunk => {
          asked += chunk;
          const end = asked.indexOf("\r\n\r\n");
          const length = Number(/content-length: (\d+)/i.exec(asked)?.[1]);
          if (end >= 0 && Buffer.byteLength(asked) >= end + 4 + length) {
            resolve(asked);
            connection.end(bytes);
          }
        });
      });
      server.listen(socket);
    });
  }

  function http(status: number, body: string): string {
    return `HTTP/1.1 ${status} X\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
  }

  test("environment and configuration arrive whole; the answer comes out whole", async () => {
    const asked = answer(http(200, '{"ips":[]}'));
    const env = {
      CNI_CONTAINERID: "abc",
      CNI_NETNS: "/run/netns/ü %",
      CNI_IFNAME: "eth0",
      CNI_ARGS: "A=1;B=\r\nX: y",
      CNI_PATH: "/opt/cni/bin",
      TRACEPARENT: "00-ab-cd-01",
    };
    expect(await call("ADD", env, { text: "größe" })).toMatchObject({ status: 0, stdout: '{"ips":[]}', stderr: "" });
    const text = await asked;
    expect(text.startsWith("POST /v1/cni HTTP/1.1\r\n")).toBe(true);
    const [head, body] = text.split("\r\n\r\n");
    const headers = Object.fromEntries(
      head
        .split("\r\n")
        .slice(1)
        .map(line => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 2)]),
    );
    expect(decodeHeaders(headers)).toEqual({ ...env, CNI_COMMAND: "ADD" });
    expect(JSON.parse(Buffer.from(body).toString())).toMatchObject({ name: "pods", text: "größe" });
  });

  test("an error answer is printed and the exit status is 1; a success may be empty", async () => {
    void answer(http(503, '{"code":11,"msg":"later"}'));
    expect(await call("ADD")).toMatchObject({ status: 1, json: { code: 11, msg: "later" } });
    server?.close();
    fs.rmSync(socket, { force: true });
    void answer(http(200, ""));
    expect(await call("DEL")).toMatchObject({ status: 0, stdout: "" });
  });

  test.each([
    ["nothing", ""],
    ["half an answer", http(200, '{"ips":[]}').slice(0, -3)],
    ["no HTTP", "hello\r\n\r\n"],
    ["no JSON", http(500, "<html>")],
    ["an error without a body", http(500, "")],
  ])("an agent that answers %s: try again later", async (_, bytes) => {
    void answer(bytes);
    const outcome = await call("ADD");
    expect(outcome.status).toBe(1);
    expect(outcome.json).toMatchObject({
      cniVersion: "1.0.0",
      code: 11,
      msg: expect.stringContaining(`the podlane agent at ${socket} did not answer`),
    });
  });

  test("VERSION is answered without an agent", async () => {
    expect(await call("VERSION", {}, '{"cniVersion":"0.4.0"}')).toMatchObject({
      status: 0,
      json: { cniVersion: "0.4.0", supportedVersions },
    });
    expect(await call("VERSION", {}, "")).toMatchObject({ status: 0, json: { cniVersion: "1.1.0" } });
  });

  test.each([
    ["ADD", 11],
    ["CHECK", 11],
    ["GC", 11],
    ["STATUS", 50],
  ])("%s without an agent: code %d with socket and remedy", async (command, code) => {
    const outcome = await call(command);
    expect(outcome.status).toBe(1);
    expect(outcome.json).toMatchObject({
      cniVersion: "1.0.0",
      code,
      msg: expect.stringContaining(socket),
      details: expect.stringContaining("is the podlane agent running on this node"),
    });
    expect(outcome.json.msg).toContain("No such file or directory");
  });

  describe("while the agent is being replaced", () => {
    const pod = { CNI_CONTAINERID: "abc", CNI_IFNAME: "eth0", CNI_NETNS: "/run/netns/x", PODLANE_WAIT: "60" };
    /** Answers one connection after the other as `replies` say; undefined: ends it without a word. Resolves with the commands that came. */
    function replies(...all: (string | undefined)[]): { commands: string[] } {
      const commands: string[] = [];
      server = net.createServer(connection => {
        let asked = "";
        connection.on("error", () => undefined);
        connection.on("data", chunk => {
          asked += chunk;
          if (!asked.endsWith("}")) return;
          commands.push(/X-Cni-Command: (\w+)/.exec(asked)![1]);
          const reply = all.length > 1 ? all.shift() : all[0];
          if (reply === undefined) connection.destroy();
          else connection.end(reply);
        });
      });
      server.listen(socket);
      return { commands };
    }
    /** A call that began later has found nobody, and so has the one that waits. */
    const waits = async () => expect(await call("STATUS", pod)).toMatchObject({ status: 1, json: { code: 50 } });

    test.each(["ADD", "CHECK", "GC"])("%s waits for a socket that is missing", async command => {
      const outcome = call(command, pod);
      await waits();
      const { commands } = replies(http(200, "{}"));
      expect(await outcome).toMatchObject({ status: 0, stdout: "{}" });
      expect(commands).toEqual([command]);
    });

    test("ADD waits for a socket that refuses, as a killed agent leaves it", async () => {
      const killed = net.createServer().listen(socket);
      await new Promise(resolve => killed.once("listening", resolve));
      fs.linkSync(socket, `${socket}.kept`);
      await new Promise(resolve => killed.close(resolve));
      fs.renameSync(`${socket}.kept`, socket);
      const outcome = call("ADD", pod);
      await waits();
      fs.rmSync(socket);
      replies(http(200, "{}"));
      expect(await outcome).toMatchObject({ status: 0 });
    });

    test("an ADD that was lost is undone and made again, once", async () => {
      const { commands } = replies(undefined, http(200, ""), http(200, '{"ips":[]}'));
      expect(await call("ADD", pod)).toMatchObject({ status: 0, stdout: '{"ips":[]}' });
      expect(commands).toEqual(["ADD", "DEL", "ADD"]);
    });

    test("a call that ends the agent again is given up", async () => {
      const { commands } = replies(undefined, http(200, ""), undefined);
      expect(await call("ADD", pod)).toMatchObject({ status: 1, json: { code: 11 } });
      expect(commands).toEqual(["ADD", "DEL", "ADD"]);
    });

    test("an answer is final, also a refusal", async () => {
      const { commands } = replies(http(503, '{"code":11,"msg":"later"}'));
      expect(await call("ADD", pod)).toMatchObject({ status: 1, json: { code: 11 } });
      expect(commands).toEqual(["ADD"]);
    });

    test("STATUS and DEL wait for nobody, and what no agent would take is refused at once", async () => {
      expect(await call("STATUS", pod)).toMatchObject({ status: 1, json: { code: 50 } });
      expect(await call("DEL", pod)).toMatchObject({ status: 0 });
      expect(await call("ADD", pod, "[]")).toMatchObject({ status: 1, json: { code: 6 } });
    });

    test("the wait has an end", async () => {
      expect(await call("ADD", { ...pod, PODLANE_WAIT: "1" })).toMatchObject({ status: 1, json: { code: 11 } });
    });
  });

  test("no CNI_COMMAND, endless input, an endless variable", async () => {
    expect(await call(undefined)).toMatchObject({ status: 1, json: { code: 4, msg: "CNI_COMMAND is missing" } });
    expect(await call("ADD", {}, "x".repeat((1 << 20) + 10))).toMatchObject({ status: 1, json: { code: 5, details: "File too large" } });
    expect(await call("ADD", { CNI_ARGS: "x".repeat(20_000) })).toMatchObject({
      status: 1,
      json: { code: 4, msg: "CNI_ARGS is too long" },
    });
  });

  test("tracing and a DEL's arguments that do not fit are left out; what ADD needs is counted as it is sent", async () => {
    const env = { CNI_CONTAINERID: "abc", CNI_IFNAME: "eth0", CNI_NETNS: "/run/netns/x" };
    const long = { CNI_ARGS: `A=${"x".repeat(13_000)}`, BAGGAGE: "a".repeat(8000), TRACEPARENT: "00-ab-cd-01" };
    let asked = answer(http(200, "{}"));
    expect(await call("ADD", { ...env, ...long })).toMatchObject({ status: 0 });
    const added = await asked;
    expect(added).toContain(`X-Cni-Args: ${long.CNI_ARGS}\r\n`);
    expect(added).toContain("X-Cni-Traceparent: 00-ab-cd-01\r\n");
    expect(added).not.toContain("X-Cni-Baggage");
    server?.close();
    fs.rmSync(socket, { force: true });
    asked = answer(http(200, ""));
    expect(await call("DEL", { ...env, CNI_ARGS: "x".repeat(20_000), CNI_NETNS: `/${"n".repeat(20_000)}` })).toMatchObject({ status: 0 });
    const removed = await asked;
    expect(removed).toContain("X-Cni-Containerid: abc\r\nX-Cni-Ifname: eth0\r\n");
    expect(removed).not.toMatch(/X-Cni-(Args|Netns)/);
  });

  test.each([
    ["", 6],
    ["null", 6],
    ["[]", 6],
    ['{"cniVersion":"1.0.0"', 6],
    ['{"cniVersion":"1.0.0"} x', 6],
    ['{"name":"x"}', 1],
    ['{"cniVersion":1}', 1],
    ['{"cniVersion":"0.2.0"}', 1],
    ['{"cniVersion":"9.9.9"}', 1],
  ])("what no agent would take is refused without one, and no DEL is kept: %s", async (text, code) => {
    const config = text.replace("{", `{"socket":${JSON.stringify(socket)},"queue":${JSON.stringify(queue)}${text.length > 2 ? "," : ""}`);
    for (const command of ["ADD", "DEL", "CHECK", "GC", "STATUS"]) {
      const env = { CNI_CONTAINERID: "abc", CNI_IFNAME: "eth0", CNI_NETNS: "/x", PODLANE_SOCKET: socket };
      expect(await call(command, env, text.startsWith("{") ? config : text)).toMatchObject({ status: 1, json: { code } });
    }
    expect(fs.existsSync(queue)).toBe(false);
  });

  test("octets that are no UTF-8 do not hinder a DEL", () => {
    expect(decodeHeaders({ "x-cni-command": "DEL", "x-cni-args": "K=%FF", "x-cni-netns": "/%C3%BC" })).toEqual({
      CNI_COMMAND: "DEL",
      CNI_ARGS: "K=\ufffd",
      CNI_NETNS: "/\u00fc",
    });
  });

  test.each([
    [
      "nested and escaped",
      (s: string) =>
        `{"a":{"socket":"/wrong"},"b":["socket","/wrong",{"socket":"/wrong"}],"c":"\\"socket\\":\\"/wrong\\"","s\\u006fcket":${JSON.stringify(s).replaceAll("/", "\\/")}}`,
    ],
    ["last in order", (s: string) => `  {"name" : "x" , "n":-1.5e3, "t":true,\n"socket"\t: "${s}" }`],
  ])("the socket is found in a configuration that is %s", async (_, text) => {
    const asked = answer(http(200, "{}"));
    expect(await call("STATUS", {}, text(socket))).toMatchObject({ status: 0 });
    expect(await asked).toContain("X-Cni-Command: STATUS");
  });

  test("without a socket in the configuration the environment names it", async () => {
    void answer(http(200, "{}"));
    expect(await call("STATUS", { PODLANE_SOCKET: socket }, '{"x":{"socket":"/wrong"}}')).toMatchObject({ status: 0 });
  });

  test("a DEL without an agent is kept, once for each interface, and readable by the agent", async () => {
    const env = { CNI_CONTAINERID: "abc", CNI_IFNAME: "eth0", CNI_NETNS: "", CNI_ARGS: "K=ü" };
    for (const round of [1, 2]) expect(await call("DEL", env, { round })).toMatchObject({ status: 0, stdout: "" });
    expect(await call("DEL", { ...env, CNI_IFNAME: "net1" })).toMatchObject({ status: 0 });
    expect(fs.readdirSync(queue).sort()).toEqual(["abc@eth0", "abc@net1"]);
    const [first] = readQueue(queue).filter(({ file }) => file.endsWith("abc@eth0"));
    expect(first.request?.env).toEqual({ ...env, CNI_COMMAND: "DEL" });
    expect(JSON.parse(first.request?.stdin ?? "")).toMatchObject({ name: "pods", round: 2 });
    expect(fs.statSync(path.join(queue, "abc@eth0")).mode & 0o777).toBe(0o600);
  });

  test("a DEL that cannot be kept is an error: names, a full queue, an unwritable one", async () => {
    expect(await call("DEL", { CNI_IFNAME: "eth0" })).toMatchObject({
      status: 1,
      json: { code: 4, msg: expect.stringContaining("CNI_CONTAINERID") },
    });
    expect(await call("DEL", { CNI_CONTAINERID: "../x", CNI_IFNAME: "eth0" })).toMatchObject({ status: 1, json: { code: 4 } });
    expect(await call("DEL", { CNI_CONTAINERID: "x", CNI_IFNAME: "../../y" })).toMatchObject({
      status: 1,
      json: { code: 4, msg: expect.stringContaining("CNI_IFNAME") },
    });
    fs.mkdirSync(queue, { recursive: true });
    for (let i = 0; i < 1024; i++) fs.writeFileSync(path.join(queue, `c${i}@eth0`), "");
    const full = await call("DEL", { CNI_CONTAINERID: "new", CNI_IFNAME: "eth0" });
    expect(full).toMatchObject({ status: 1, json: { code: 11, details: expect.stringContaining("at most 1024 are kept") } });
    expect(await call("DEL", { CNI_CONTAINERID: "c5", CNI_IFNAME: "eth0" })).toMatchObject({ status: 0 });
    const file = path.join(directory, "file");
    fs.writeFileSync(file, "");
    const blocked = await call("DEL", { CNI_CONTAINERID: "new", CNI_IFNAME: "eth0" }, { queue: `${file}/queue` });
    expect(blocked).toMatchObject({
      status: 1,
      json: { code: 11, details: expect.stringContaining(`could not be queued in ${file}/queue`) },
    });
    expect(fs.readdirSync(queue).filter(name => name.startsWith("."))).toEqual([]);
  });
});

test("installing replaces the file under a running program", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "podlane-install-"));
  try {
    const first = buildPlugin(directory, "cc");
    const inode = fs.statSync(first).ino;
    const running = runPlugin(first, { CNI_COMMAND: "VERSION" }, "{}");
    expect(buildPlugin(directory, "node")).toBe(first);
    expect(fs.statSync(first).ino).not.toBe(inode);
    expect((await running).status).toBe(0);
    expect(fs.readdirSync(directory).sort()).toEqual([".podlane.mjs", "podlane"]);
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
});
