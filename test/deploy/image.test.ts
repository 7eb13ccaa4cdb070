/** The image that `npm run image` and the Containerfile make: what is in it, that it runs, and that the same files give the same archive. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { version } from "../../agent/version.ts";
import { writeImage } from "../../deploy/image/archive.ts";
import { entrypoint, environment, makeRoot } from "../../deploy/image/root.ts";

// A copy of Node and a build, beside others.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });
const containerfile = readFileSync(join(import.meta.dirname, "../../deploy/Containerfile"), "utf8");
const missing =
  process.getuid?.() !== 0
    ? "changing the root directory needs root"
    : ["/usr/sbin/nft", "/usr/sbin/xtables-nft-multi"].some(file => !existsSync(file))
      ? "the image takes nft and iptables from this machine: install nftables and iptables"
      : undefined;
let folder: string;
let root: string;

beforeAll(async () => {
  if (missing) return;
  folder = mkdtempSync(join(tmpdir(), "podlane-image-"));
  root = join(folder, "root");
  await makeRoot(root);
});
afterAll(() => folder && rmSync(folder, { recursive: true, force: true }));

const inside = (...words: string[]) => execFileSync("unshare", ["--net", "chroot", root, ...words], { encoding: "utf8" });

test("the Containerfile copies the same files and runs them alike", () => {
  expect(containerfile).toContain("RUN npm run --silent image -- --root /image\n");
  expect(containerfile).toContain("\nFROM scratch\nCOPY --from=build /image/ /\n");
  expect(containerfile).toContain(`\nENTRYPOINT ${JSON.stringify(entrypoint)}\n`);
  for (const one of environment) expect(containerfile).toContain(`\nENV ${one}\n`);
});

test("runs podlane and the tools that kernel/netfilter.ts asks, with the machine's libraries out of reach", context => {
  context.skip(missing !== undefined, missing);
  expect(inside(...entrypoint, "--version")).toContain(version);
  expect(JSON.parse(inside("nft", "-j", "list", "chains"))).toHaveProperty("nftables");
  for (const command of ["iptables", "iptables-nft", "ip6tables", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"])
    expect(inside(command, "--version")).toContain(command.includes("legacy") ? "legacy" : "nf_tables");
  const rule = ["FORWARD", "-i", "podlane0", "-m", "comment", "--comment", "podlane pods", "-j", "ACCEPT"];
  expect(inside("iptables", "-A", ...rule)).toBe("");
});

test("has no shell, compiler, package manager or program with the rights of its owner", context => {
  context.skip(missing !== undefined, missing);
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile());
  const programs = files.filter(({ parentPath }) => /\/usr\/s?bin$/.test(parentPath)).map(({ name }) => name);
  expect(programs.sort()).toEqual(["nft", "node", "podlane", "xtables-legacy-multi", "xtables-nft-multi"]);
  expect(files.filter(({ parentPath, name }) => (statSync(join(parentPath, name)).mode & 0o7000) !== 0)).toEqual([]);
  expect(readdirSync(join(root, "usr/lib/podlane/node_modules")).sort()).toEqual(["@koromix", "koffi"]);
  expect(existsSync(join(root, "usr/lib/podlane/cni/podlane"))).toBe(true);
});

test("is packed to the same octets whenever it is packed", context => {
  context.skip(missing !== undefined, missing);
  const options = { name: "podlane:1", entrypoint, environment, compression: "none" } as const;
  const part = join(root, "usr/lib/podlane");
  const [a, b] = ["a.tar", "b.tar"].map(name => {
    const archive = join(folder, name);
    writeImage(part, archive, options);
    execFileSync("touch", [join(part, "main.js"), part]);
    return readFileSync(archive);
  });
  expect(a.equals(b)).toBe(true);
  expect(execFileSync("tar", ["-xOf", join(folder, "a.tar"), "index.json"], { encoding: "utf8" })).toContain("/podlane:1");
});
