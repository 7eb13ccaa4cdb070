/** The commands as they are called: usage, exit codes, and what needs no agent. With an agent: agent/agent.test.ts. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { run } from "./program.ts";
import { plain } from "./render/paint.ts";

/** As the program does it, within this process: the exit code and what is written. */
async function podlane(...words: string[]) {
  const written = { stdout: "", stderr: "" };
  const print = (text: string) => {
    written.stdout += text;
  };
  const status = await run(words, { print, paint: plain, now: Date.now }, text => {
    written.stderr += text;
  });
  return { status, ...written };
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-cli-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const node = (name: string, number: number) => `
apiVersion: v1
kind: Node
metadata: { name: ${name} }
spec: { podCIDRs: [10.244.${number}.0/24] }
status: { addresses: [{ type: InternalIP, address: 10.0.0.${number} }] }
`;
const write = (file: string, text: string) => writeFileSync(join(folder, file), text);

describe("usage", () => {
  test.each<[string[], string]>([
    [["frobnicate"], "unknown command 'frobnicate'"],
    [["peers", "too", "many"], "too many arguments"],
    [["peers", "--colour"], "unknown option '--colour'"],
    [["peer"], "missing required argument 'name'"],
    [["explain"], "missing required argument 'what'"],
    [["routes", "10.0.0.0/33"], '"10.0.0.0/33": the length is at most 32'],
    [["explain", "10.244.2.7/24"], "did you mean 10.244.2.0/24"],
    [["explain", "node1"], '"node1" is not a prefix (ADDRESS/LENGTH)'],
    [["explain"], 'Try "podlane explain --help".'],
    [["routes", "--limit", "0"], "It is a whole number from 1 to 10000."],
    [["routes", "--limit", "1e3"], "It is a whole number from 1 to 10000."],
    [["routes", "--family", "ipx"], "Allowed choices are ipv4-unicast, ipv6-unicast."],
    [["routes", "--longer"], "--longer needs a PREFIX"],
    [["routes", "--after", "soon"], '"soon" is not a prefix'],
    [["peer", "a", "--refresh", "in", "--reset", "b"], "cannot be used with option"],
    [["peers", "--context", "a"], "--context says nothing without --node"],
    [["plan", "--config", ".", "--namespace", "a"], "--namespace says nothing without --node"],
    [["plan", "--config", ".", "--node", "a", "--context", "b"], "--context says nothing with --config"],
    [["peers", "--node", "a", "--socket", "b"], "cannot be used with option '--socket <path>'"],
    [["services", "--limit", "0"], "It is a whole number from 1 to 10000."],
    [["services", "--context", "a"], "--context says nothing without --node or --all-nodes"],
    [["services", "--agents-namespace", "a"], "--agents-namespace says nothing without --node or --all-nodes"],
    [["services", "--all-nodes", "--node", "a"], "cannot be used with option"],
    [["services", "shop/web", "--namespace", "a"], "give the namespace once"],
    [["version", "--node", "a", "--cluster"], "cannot be used with option '--cluster'"],
    [["version", "--context", "a"], "--context says nothing without --node"],
    [["agent", "--node", "a"], "nothing says where the objects are"],
    [["agent", "--node", "a", "--config", ".", "--kubernetes"], "--config and --kubernetes exclude each other"],
    [["agent", "--node", "a", "--kubernetes", "--kubeconfig", "x"], "--kubernetes and --kubeconfig exclude each other"],
    [["agent", "--node", "a", "--config", ".", "--log-level", "loud"], "Allowed choices are debug, info, warn, error."],
    ...["9479", ":9479", "localhost:9479", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:9479", "[127.0.0.1]:9479", "[::1]"].map(
      (endpoint): [string[], string] => [
        ["agent", "--node", "a", "--config", ".", "--metrics-listen", endpoint],
        "Write an address of this node and a port, such as 127.0.0.1:9479",
      ],
    ),
    [
      ["agent", "--node", "a", "--config", ".", "--metrics-tls-cert", "a", "--metrics-tls-key", "b"],
      "the --metrics-tls options have no effect without --metrics-listen",
    ],
    ...[
      ["--metrics-tls-cert", "a"],
      ["--metrics-tls-key", "a"],
      ["--metrics-tls-client-ca", "a"],
    ].map((files): [string[], string] => [
      ["agent", "--node", "a", "--config", ".", "--metrics-listen", "[::]:9479", ...files],
      "TLS needs --metrics-tls-cert and --metrics-tls-key",
    ]),
    [[], "Usage: podlane"],
  ])("podlane %j is called wrongly", async (words, text) => {
    const { status, stdout, stderr } = await podlane(...words);
    expect(stderr).toContain(text);
    expect([status, stdout]).toEqual([2, ""]);
  });

  test("each command has help with examples", async () => {
    const { status, stdout } = await podlane("--help");
    expect(status).toBe(0);
    const commands = [...stdout.matchAll(/^ {2}(?!help)(\w+) (?:\[options\]|<| )/gm)].map(match => match[1]);
    expect(commands).toHaveLength(19);
    const helps = await Promise.all(commands.map(command => podlane(command, "--help")));
    for (const help of helps) {
      expect(help.status).toBe(0);
      expect(help.stdout).toMatch(/\nExamples:\n {2}podlane /);
    }
    expect(await Promise.all(commands.map(command => podlane("help", command)))).toEqual(helps);
    expect(await podlane("help")).toMatchObject({ status: 0, stdout });
    expect(stdout).not.toContain(" api ");
    expect(await podlane("help", "frobnicate")).toMatchObject({ status: 2, stdout: "" });
  });

  test("as a plugin of kubectl, help says what is to be typed", async () => {
    const printed: string[] = [];
    const terminal = { print: (text: string) => void printed.push(text), paint: plain, now: Date.now };
    for (const words of [["--help"], ["peers", "--help"], ["cni", "install", "--help"]])
      await run(words, terminal, () => {}, "kubectl podlane");
    const stdout = printed.join("");
    expect(stdout).toContain("Usage: kubectl podlane peers [options]");
    expect(stdout.match(/(?<!kubectl )podlane (peers|cni|COMMAND)/g)).toBeNull();
  });

  test("no command that asks an agent, and no help, loads Kubernetes' client", () => {
    const script = join(folder, "loaded.mjs");
    const program = JSON.stringify(join(import.meta.dirname, "program.ts"));
    writeFileSync(
      script,
      `import { registerHooks } from "node:module";
       const urls = [];
       registerHooks({ load: (url, context, next) => { urls.push(url); return next(url, context); } });
       const { run } = await import(${program});
       const terminal = { print() {}, paint: (_, text) => text, now: Date.now };
       for (const words of [["--help"], ["peers", "--socket", "/nowhere"], ["api", "--socket", "/nowhere"], ["validate", ${JSON.stringify(folder)}]])
         await run(words, terminal, () => {});
       console.log(JSON.stringify(urls.filter(url => /client-node|undici/.test(url)).concat(urls.length > 20 ? "enough" : "few")));
       process.exit();`,
    );
    const { stdout } = spawnSync(process.execPath, [script], { encoding: "utf8", env: { ...process.env, NODE_ENV: undefined } });
    expect(JSON.parse(stdout)).toEqual(["enough"]);
  });

  test("with --json errors are JSON, too: one object on standard error, nothing else anywhere", async () => {
    const socket = join(folder, "none.sock");
    const wrong: [words: string[], status: number, error: string, remedy: string][] = [
      [["peers", "--json", "--socket", socket], 1, `no agent runs here: ${socket} does not exist`, "start it with"],
      [["peers", "--json", "--colour"], 2, "unknown option '--colour'", "see podlane peers --help"],
      [["frobnicate", "--json"], 2, "unknown command 'frobnicate'", "see podlane --help"],
      [["explain", "node1", "--json"], 2, '"node1" is not a prefix', "write an address"],
    ];
    for (const [words, expected, error, remedy] of wrong) {
      const { status, stdout, stderr } = await podlane(...words);
      expect([words, status, stdout]).toEqual([words, expected, ""]);
      const view = JSON.parse(stderr);
      expect(Object.keys(view)).toEqual(["error", "remedy"]);
      expect([view.error, view.remedy]).toEqual([expect.stringContaining(error), expect.stringContaining(remedy)]);
    }
  });
});

describe("cni", () => {
  const where = () => ["--bin-dir", join(folder, "bin"), "--conf-dir", join(folder, "net.d")];
  const list = () => JSON.parse(readFileSync(join(folder, "net.d/10-podlane.conflist"), "utf8"));
  const capabilities = { bandwidth: true, ips: true, mac: true, portMappings: true };
  const changes = async (...words: string[]) => JSON.parse((await podlane("cni", ...words, ...where(), "--json")).stdout);

  test("install makes the executable and the list, again changes nothing, uninstall takes both away", async () => {
    expect(await changes("install", "--dry-run")).toMatchObject({ dryRun: true, files: [{ change: "made" }, { change: "made" }] });
    expect(readdirSync(folder)).toEqual([]);
    expect(await changes("install")).toEqual({
      dryRun: false,
      files: [
        { file: join(folder, "bin/podlane"), change: "made" },
        { file: join(folder, "net.d/10-podlane.conflist"), change: "made" },
      ],
      notes: [],
    });
    expect(list()).toEqual({ cniVersion: "1.0.0", name: "podlane", plugins: [{ type: "podlane", capabilities }] });
    const env = { CNI_COMMAND: "VERSION", PATH: "/nowhere" };
    const asked = spawnSync(join(folder, "bin/podlane"), { env, input: '{"cniVersion":"1.0.0"}', encoding: "utf8" });
    expect(JSON.parse(asked.stdout).supportedVersions).toContain("1.1.0");
    expect(await changes("install")).toMatchObject({ files: [{ change: "unchanged" }, { change: "unchanged" }] });
    write("bin/portmap", "");
    write("net.d/05-other.conf", "{}");
    expect(await changes("install", "--socket", "/run/x.sock")).toMatchObject({
      files: [{ change: "unchanged" }, { change: "replaced" }],
      notes: [expect.stringContaining("05-other.conf")],
    });
    const own = { type: "podlane", capabilities, socket: "/run/x.sock" };
    expect(list().plugins).toEqual([own]);
    // A former version left ports to portmap, which has to take its rules away with the pods of that time.
    const former = [{ type: "podlane" }, { type: "portmap", capabilities: { portMappings: true } }];
    write("net.d/10-podlane.conflist", JSON.stringify({ cniVersion: "1.0.0", name: "podlane", plugins: former }));
    for (const change of ["replaced", "unchanged"]) {
      expect((await changes("install")).files[1]).toMatchObject({ change });
      expect(list().plugins).toEqual([{ type: "podlane", capabilities }, { type: "portmap" }]);
    }
    expect((await changes("uninstall")).files.map((one: { change: string }) => one.change)).toEqual(["removed", "removed", "absent"]);
    expect([readdirSync(join(folder, "bin")), readdirSync(join(folder, "net.d"))]).toEqual([["portmap"], ["05-other.conf"]]);
  }, 30_000);

  test("what it cannot write is said with a remedy, and help has examples", async () => {
    write("file", "");
    const { status, stderr } = await podlane("cni", "install", "--bin-dir", join(folder, "file/bin"), "--conf-dir", folder);
    expect([status, stderr]).toEqual([1, expect.stringMatching(/ENOTDIR.*\n {2}run it as root/)]);
    expect((await podlane("cni", "install", "--help")).stdout).toMatch(/\nExamples:\n {2}podlane cni install /);
    expect((await podlane("cni", "install", "--colour")).stderr).toContain('Try "podlane cni install --help".');
    expect((await podlane("cni")).status).toBe(2);
  });
});

describe("without an agent", () => {
  test("each command that needs one says so", async () => {
    const socket = join(folder, "none.sock");
    for (const words of [
      ["status"],
      ["peers"],
      ["peer", "a"],
      ["routes"],
      ["explain", "::/0"],
      ["explain", "a -> shop/b:80"],
      ["policies"],
      ["problems"],
      ["plan"],
      ["reload"],
      ["events"],
    ]) {
      const { status, stdout, stderr } = await podlane(...words, "--socket", socket);
      expect([words, status, stdout]).toEqual([words, 1, ""]);
      expect(stderr).toBe(
        `podlane: no agent runs here: ${socket} does not exist\n  start it with "podlane agent", or name its socket with --socket\n`,
      );
    }
  });

  test("something else on the socket is recognised", async () => {
    const socket = join(folder, "other.sock");
    const other = createServer(connection => connection.end("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"));
    await new Promise<void>(resolve => other.listen(socket, resolve));
    const { status, stderr } = await podlane("status", "--socket", socket);
    other.close();
    expect([status, stderr]).toEqual([
      1,
      "podlane: what answers on the socket is not a podlane agent\n  name the agent's socket with --socket\n",
    ]);
  });

  test.each<[how: string, answer: string, stdout: RegExp, stderr: string]>([
    ["in order", '24\r\n{"at":"now","type":"end","text":""}\n\r\n0\r\n\r\n', /^now {2}end/, "the agent has ended, and its events with it"],
    ["killed", "", /^$/, "the connection to the agent broke off"],
  ])("events of an agent that ends %s end in words", async (_how, answer, stdout, stderr) => {
    const socket = join(folder, "agent.sock");
    const agent = createServer(connection => {
      connection.once("data", () => connection.end(`HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${answer}`));
    });
    await new Promise<void>(resolve => agent.listen(socket, resolve));
    const ended = await podlane("events", "--socket", socket);
    agent.close();
    expect(ended).toEqual({ status: 1, stdout: expect.stringMatching(stdout), stderr: expect.stringContaining(stderr) });
  });

  test("version", async () => {
    const { stdout } = await podlane("version");
    const [, own, crds] = /^podlane (\d+\.\d+\.\d+)\nAPI podlane\.io\/v1alpha1, CustomResourceDefinitions of version (\S+)\n$/.exec(
      stdout,
    )!;
    expect(crds).toBe(own);
    expect(readFileSync(join(import.meta.dirname, "../crds/podlane.io_peers.yaml"), "utf8")).toContain(`podlane.io/version: ${crds}\n`);
    for (const option of ["--version", "-V"]) expect(await podlane(option)).toEqual({ status: 0, stdout: `podlane ${own}\n`, stderr: "" });
    const view = { podlane: own, api: "podlane.io/v1alpha1", crds, node: process.versions.node };
    expect(JSON.parse((await podlane("version", "--json")).stdout)).toMatchObject(view);
  });
});

describe("offline", () => {
  test("validate: a good directory", async () => {
    write("nodes.yaml", [node("node1", 1), node("node2", 2)].join("---"));
    const { status, stdout } = await podlane("validate", folder);
    expect([status, stdout]).toEqual([0, "no problems\n\nvalid: 2 objects, checked for 2 nodes\n"]);
  });

  test("validate: an error is shown with its place and remedy, each once", async () => {
    write("nodes.yaml", [node("node1", 1), node("node2", 2)].join("---"));
    write("peers.yaml", "apiVersion: podlane.io/v1alpha1\nkind: Peer\nmetadata: { name: tor }\nspec: { address: 300.1.1.1, asn: 65001 }\n");
    const { status, stdout } = await podlane("validate", folder, "--json");
    const view = JSON.parse(stdout);
    expect([status, view.valid, view.nodes]).toEqual([1, false, ["node1", "node2"]]);
    const found = view.problems.filter((one: { object: string }) => one.object === "Peer/tor");
    expect(found).toContainEqual(
      expect.objectContaining({ severity: "error", field: "spec.address", place: expect.stringContaining("peers.yaml") }),
    );
    expect((await podlane("validate", folder)).stdout).toContain("not valid: 2 objects");
  });

  test("validate: what shows on many nodes is told once, names in the order of people", async () => {
    const nodes = Array.from({ length: 12 }, (_, i) => node(`node${i + 1}`, i + 1));
    write("nodes.yaml", nodes.join("---"));
    const fabric =
      "apiVersion: podlane.io/v1alpha1\nkind: Fabric\nmetadata: { name: racks }\nspec: { asn: 64512, nodeSelector: { matchLabels: { rack: a } } }\n";
    write("fabric.yaml", fabric);
    const { stdout } = await podlane("validate", folder);
    const lonely = [...stdout.matchAll(/no Fabric selects this node[^\n]*/g)].map(([line]) => line);
    expect(lonely).toEqual(["no Fabric selects this node: it takes no part in BGP (on all 12 nodes)"]);
    expect(stdout).toContain("selects no node (on all 12 nodes)");
    const json = JSON.parse((await podlane("validate", folder, "--json")).stdout);
    expect(json.nodes.slice(0, 3)).toEqual(["node1", "node2", "node3"]);
    expect(json.problems.find((one: { object: string }) => one.object === "Fabric/racks").nodes).toEqual(json.nodes);
  });

  test("validate: a directory without nodes is a warning, one that is missing an error", async () => {
    expect(await podlane("validate", folder)).toMatchObject({ status: 0, stdout: expect.stringContaining("there is no Node object") });
    const missing = await podlane("validate", join(folder, "missing"));
    expect([missing.status, missing.stdout]).toEqual([1, ""]);
    expect(missing.stderr).toContain("cannot read the configuration directory");
  });

  test("plan: what a node would do, with passwords hidden", async () => {
    write("nodes.yaml", [node("node1", 1), node("node2", 2)].join("---"));
    write(
      "peer.yaml",
      `apiVersion: podlane.io/v1alpha1
kind: Peer
metadata: { name: tor }
spec: { nodeSelector: {}, address: 10.0.0.9, asn: 65001, passwordSecretRef: { name: tor } }
---
apiVersion: v1
kind: Secret
metadata: { name: tor }
stringData: { password: opensesame }
`,
    );
    const json = await podlane("plan", "--config", folder, "--node", "node1", "--json");
    expect(json.stdout).not.toContain("opensesame");
    const { speaker } = JSON.parse(json.stdout);
    expect(speaker.neighbors).toContainEqual(expect.objectContaining({ address: "10.0.0.9", password: "(hidden)" }));
    const text = (await podlane("plan", "--config", folder, "--node", "node1")).stdout;
    expect(text).toMatch(/10\.0\.0\.9 .*MD5/);
  });

  test("plan: a node that is not in the list", async () => {
    write("nodes.yaml", node("node1", 1));
    const { status, stdout } = await podlane("plan", "--config", folder, "--node", "node9");
    expect([status, stdout]).toEqual([1, expect.stringContaining("there is no such Node object")]);
  });
});

describe("the program", () => {
  test("finds its way from another directory, through links", () => {
    symlinkSync(join(import.meta.dirname, "../scripts/podlane"), join(folder, "first"));
    symlinkSync("first", join(folder, "podlane"));
    const { status, stdout } = spawnSync(join(folder, "podlane"), ["--version"], { cwd: "/", encoding: "utf8" });
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^podlane \d+\.\d+\.\d+\n$/)]);
  });

  test("passes exit codes and standard error on, and does not mind a reader that leaves", () => {
    const script = join(import.meta.dirname, "../scripts/podlane");
    const wrong = spawnSync(script, ["frobnicate"], { encoding: "utf8" });
    expect([wrong.status, wrong.stdout, wrong.stderr]).toEqual([2, "", expect.stringContaining("unknown command")]);
    const piped = spawnSync("sh", ["-c", `"${script}" --help | true`], { encoding: "utf8" });
    expect([piped.status, piped.stderr]).toEqual([0, ""]);
  });
});
