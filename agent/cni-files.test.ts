/** The files for the container runtime as the agent keeps them, in directories of the test; at the end by real agents. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import type { ProblemsView, StatusView } from "./api/views.ts";
import { CniFiles } from "./cni-files.ts";
import { Pair } from "./testing/agents.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-cni-files-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const bin = () => join(folder, "bin/podlane");
const list = () => join(folder, "net.d/10-podlane.conflist");
const plugins = () => JSON.parse(readFileSync(list(), "utf8")).plugins;
const quiet = { info() {}, warn() {}, error() {} };

function keeper(ready = true) {
  const clock = new FakeClock();
  const mended: string[] = [];
  const state = { ready };
  const options = { binDir: join(folder, "bin"), confDir: join(folder, "net.d"), socket: "/run/x.sock" };
  const files = new CniFiles(options, { clock, log: quiet, ready: () => state.ready, mended: text => mended.push(text) });
  const reasons = () => files.problems().map(({ reason }) => reason);
  return { clock, mended, state, files, reasons };
}

test("nothing is there before the node can serve; then both are, and they outlive the agent", () => {
  const { files, state, mended, reasons } = keeper(false);
  files.look();
  expect(readdirSync(folder)).toEqual([]);
  state.ready = true;
  files.look();
  expect([statSync(bin()).mode & 0o777, statSync(list()).mode & 0o777]).toEqual([0o755, 0o644]);
  const capabilities = { bandwidth: true, ips: true, mac: true, portMappings: true };
  expect(plugins()).toEqual([{ type: "podlane", capabilities, socket: "/run/x.sock" }]);
  files.close();
  expect([existsSync(bin()), existsSync(list()), mended, reasons()]).toEqual([true, true, [], []]);
}, 30_000);

test("a node that cannot serve any more keeps what is there, and puts nothing back", () => {
  const { files, state } = keeper();
  files.look();
  state.ready = false;
  rmSync(bin());
  files.look();
  expect([existsSync(bin()), existsSync(list())]).toEqual([false, true]);
  files.close();
}, 30_000);

test("what somebody removed or changed is put back, and told for ten minutes", () => {
  const { files, mended, reasons, clock } = keeper();
  files.look();
  rmSync(list());
  files.look();
  expect(mended).toEqual([`${list()} was removed: put back`]);
  writeFileSync(list(), "{}");
  chmodSync(bin(), 0o644);
  files.look();
  expect(mended.slice(1)).toEqual([`${bin()} was changed: put back`, `${list()} was changed: put back`]);
  expect(plugins()[0].type).toBe("podlane");
  expect(reasons()).toEqual(["CNIFilesChanged"]);
  clock.advance(600_000);
  expect(reasons()).toEqual([]);
  files.close();
}, 30_000);

test("an executable of another version is replaced without a word", () => {
  mkdirSync(join(folder, "bin"));
  writeFileSync(bin(), "former");
  const { files, mended, reasons } = keeper();
  files.look();
  expect(readFileSync(bin(), "latin1")).not.toBe("former");
  expect([mended, reasons()]).toEqual([[], []]);
  files.close();
}, 30_000);

describe("networks of others", () => {
  const write = (name: string, text: string) => {
    mkdirSync(join(folder, "net.d"), { recursive: true });
    writeFileSync(join(folder, "net.d", name), text);
  };
  const cilium = JSON.stringify({ name: "cilium", plugins: [{ type: "cilium-cni" }] });

  test.each<[string, string, RegExp]>([
    ["05-cilium.conflist", cilium, /05-cilium\.conflist, the network "cilium", sorts before/],
    ["10-flannel.conf", JSON.stringify({ name: "cbr0", type: "flannel" }), /10-flannel\.conf, the network "cbr0"/],
    ["00-broken.conflist", "{", /no network that can be read: .*no network at all/],
    ["00-empty.conflist", '{"name":"x","plugins":[]}', /no network that can be read/],
  ])("%s is a problem while it is there, and stays as it is", (name, text, message) => {
    write(name, text);
    const { files } = keeper(false);
    files.look();
    const [problem] = files.problems();
    expect(problem).toMatchObject({ reason: "ForeignNetworkFirst", severity: "error", field: join(folder, "net.d", name) });
    expect(problem.message).toMatch(message);
    expect(readFileSync(join(folder, "net.d", name), "utf8")).toBe(text);
    rmSync(join(folder, "net.d", name));
    files.look();
    expect(files.problems()).toEqual([]);
    files.close();
  });

  test.each(["10-podlane2.conflist", "99-loopback.conf", "05-cilium.conflist.bak", ".05-hidden.conf.new"])("%s is none", name => {
    write(name, cilium);
    mkdirSync(join(folder, "net.d/00-folder.conf"));
    const { files, reasons } = keeper(false);
    files.look();
    expect(reasons()).toEqual([]);
    files.close();
  });
});

test("directories that cannot be written are a problem with a remedy, until they can be", () => {
  writeFileSync(join(folder, "bin"), "");
  const { files, reasons } = keeper();
  files.look();
  expect(files.problems()).toMatchObject([{ reason: "CNIInstallFailed", severity: "error", message: expect.stringContaining("/bin") }]);
  expect(existsSync(list())).toBe(false);
  rmSync(join(folder, "bin"));
  files.look();
  expect([reasons(), existsSync(list())]).toEqual([[], true]);
  files.close();
}, 30_000);

test("a real agent installs itself when its routes are in, puts back at once what goes, and leaves it at SIGTERM", async ctx => {
  if (process.getuid?.() !== 0) ctx.skip("network namespaces need root on Linux");
  const within = { timeout: 30_000, interval: 100 };
  const pair = new Pair();
  try {
    const words = ["--install-cni", "--cni-bin-dir", join(folder, "bin"), "--cni-conf-dir", join(folder, "net.d")];
    const agent = pair.start(0, words);
    const serving = async () => (await pair.ask<StatusView>(0, "status"))?.serving;
    await expect.poll(serving, within).toMatchObject({ ready: false, reason: expect.stringContaining("sessions") });
    expect(existsSync(join(folder, "net.d"))).toBe(false);
    pair.start(1);
    await expect.poll(() => existsSync(list()), within).toBe(true);
    expect(plugins()[0]).toMatchObject({ type: "podlane", socket: pair.socket(0), queue: join(pair.state(0), "del-queue") });
    rmSync(list());
    await expect.poll(() => existsSync(list()), within).toBe(true);
    rmSync(join(folder, "bin"), { recursive: true });
    await expect.poll(() => existsSync(bin()), within).toBe(true);
    rmSync(bin());
    await expect.poll(() => existsSync(bin()), within).toBe(true);
    const { problems } = (await pair.ask<ProblemsView>(0, "problems"))!;
    expect(problems.map(({ reason }) => reason)).toContain("CNIFilesChanged");
    agent.process.kill("SIGTERM");
    expect(await agent.ended).toBe(0);
    expect([existsSync(bin()), existsSync(list())]).toEqual([true, true]);
  } finally {
    await pair.close();
  }
}, 60_000);
