/** The command line of the lab as a person meets it: help, mistakes, one round, Ctrl-C. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { afterAll, describe, expect, test } from "vitest";
import { down, leftovers } from "../../lab/engine/lab.ts";
import { labFolder } from "../../lab/engine/state.ts";

const main = new URL("../../lab/main.ts", import.meta.url).pathname;
const routers = new URL("./fixtures/routers.yaml", import.meta.url).pathname;

function lab(...args: string[]) {
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, NO_COLOR: "1" } });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const ended = once(child, "close").then(([code]) => ({ code: code as number | null, output }));
  return { child, ended, soFar: () => output };
}

test("help shows examples", async () => {
  const { code, output } = await lab("--help").ended;
  expect(code).toBe(0);
  expect(output).toContain("npm run lab -- rack --chaos --once");
});

test.each([
  [["nonsense"], /there is no topology "nonsense": name a YAML file, or one of kubernetes, loopbacks, loopbacksrr, mesh, rack, reflector/],
  [["rack", "--nonsense"], /unknown option '--nonsense'/],
  [["rack", "--instance", "Not Allowed"], /cannot name a lab/],
  [["down", "nonsense"], /no lab "nonsense" is there/],
  [["exec"], /missing required argument 'machine'/],
  [["status", "../../etc"], /no lab "\.\.\/\.\.\/etc" is there/],
])("%j is refused in a sentence, without a stack", async (args, expected) => {
  const { code, output } = await lab(...args).ended;
  expect(code).toBe(1);
  expect(output).toMatch(expected);
  expect(output).not.toMatch(/^\s+at /m);
});

describe("with a lab", () => {
  const once_ = `o${process.pid}`;
  const stays = `s${process.pid}`;
  const cut = `k${process.pid}`;

  afterAll(async () => {
    for (const instance of [once_, stays, cut]) await down(`routers_${instance}`);
  });

  test("--once --json: the result alone on standard output, and nothing stays", async () => {
    const { code, output } = await lab(routers, "--once", "--json", "--instance", once_).ended;
    expect(code).toBe(0);
    const result = JSON.parse(output) as { lab: string; sessions: { state: string }[]; scenarios: unknown[] };
    expect(result.lab).toBe(`routers_${once_}`);
    expect(result.sessions.map(session => session.state)).toEqual(Array(8).fill("Established"));
    expect(leftovers(`routers_${once_}`)).toEqual([]);
  });

  test("it stays up; exec reaches each router's own tools; down removes it", async () => {
    const built = await lab(routers, "--instance", stays).ended;
    expect(built.code).toBe(0);
    expect(built.output).toContain(`down routers_${stays}`);
    const frr = await lab("exec", "--lab", `routers_${stays}`, "west", "vtysh", "-c", "show bgp summary").ended;
    expect(frr.output).toContain("local AS number 65001");
    const bird = await lab("exec", "--lab", `routers_${stays}`, "east", "birdc", "show", "protocols").ended;
    expect(bird.output).toContain("west_4");
    expect((await lab("exec", "--lab", `routers_${stays}`, "east", "sh", "-c", "exit 7").ended).code).toBe(7);
    expect((await lab("list").ended).output).toContain(`routers_${stays}`);
    expect((await lab("down", `routers_${stays}`).ended).output).toMatch(/removed: 4 namespaces/);
    expect(leftovers(`routers_${stays}`)).toEqual([]);
  });

  test("Ctrl-C while it is being built removes everything and exits like a shell says", async () => {
    const run = lab(routers, "--instance", cut);
    await expect.poll(run.soFar, { timeout: 20_000, interval: 5 }).toContain("network namespaces");
    run.child.kill("SIGINT");
    const { code, output } = await run.ended;
    expect(output).toContain("SIGINT: removing the lab");
    expect(code).toBe(130);
    expect([leftovers(`routers_${cut}`), existsSync(labFolder(`routers_${cut}`))]).toEqual([[], false]);
  });
});
