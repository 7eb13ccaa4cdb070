import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished, vi } from "vitest";
import { FakeClock } from "../bgpd/testing/fake-clock.ts";
import { openRulesetGeneration, openRulesetSocket, type RulesetBatch } from "../kernel/index.ts";
import { describeKernel, type TestNetns, testNetns } from "../kernel/testnetns.ts";
import { quietLog } from "../platform/testing.ts";
import type { Command } from "./json.ts";
import { type Nft, NftError, nft } from "./nft.ts";
import { type Chain, type NamedMap, type NamedSet, objectKey, type RulesetObject } from "./ruleset.ts";
import type { RulesetChange } from "./types.ts";
import { Writer, type WriterParts } from "./writer.ts";

const named = (name: string) => ({ family: "inet" as const, table: "podlane", name });
const all = { type: "filter", hook: "forward", priority: 10 } as const;

function set(name: string, ...elements: string[]): NamedSet {
  return { kind: "set", ...named(name), type: "ipv4_addr", elements: new Map(elements.map(one => [one, one])) };
}

function chain(name: string, ...sets: string[]): Chain {
  const left = { payload: { protocol: "ip", field: "saddr" } };
  const rules = sets.map(one => ({ expressions: [{ match: { op: "==", left, right: `@${one}` } }, { drop: null }] }));
  return { kind: "chain", ...named(name), base: all, rules };
}

/** As pods have them. */
function chains(...links: number[]): Chain[] {
  return links.map(link => ({ kind: "chain", ...named(`spoof-pl${link}`), rules: [{ expressions: [{ return: null }] }] }));
}

function verdicts(...chains: Chain[]): NamedMap {
  const entries = chains.map(({ name }) => [name.slice(6), { key: name.slice(6), value: { goto: { target: name } } }] as const);
  return { kind: "map", ...named("spoof-ports"), type: "ifname", map: "verdict", elements: new Map(entries) };
}

const wish = (...objects: RulesetObject[]): RulesetChange[] => objects.map(object => ({ key: objectKey(object), object }));
const unwish = (...objects: RulesetObject[]): RulesetChange[] => objects.map(object => ({ key: objectKey(object), object: undefined }));

interface TestWriter {
  writer: Writer;
  /** Transactions by netlink. */
  batches: RulesetBatch[];
  netns: TestNetns;
  clock: FakeClock;
  /** Commands of each run, without lists. */
  runs: (readonly Command[])[];
  mended: string[];
  text(): string;
}

/** In a namespace of its own, or that of a former one. */
function testWriter({
  netns = testNetns(),
  run,
  commit,
  clock = new FakeClock(),
}: {
  netns?: TestNetns;
  run?: Nft;
  commit?: WriterParts["commit"];
  clock?: FakeClock;
} = {}): TestWriter {
  const generation = openRulesetGeneration(netns.path);
  const socket = openRulesetSocket(netns.path);
  const batches: RulesetBatch[] = [];
  const runs: (readonly Command[])[] = [];
  const mended: string[] = [];
  const real = run ?? nft(["ip", "netns", "exec", netns.name, "nft"]);
  const counted: Nft = commands => {
    if (!commands.some(command => "list" in command)) runs.push(commands);
    return real(commands);
  };
  const writer = new Writer({
    nft: counted,
    commit: batch => {
      batches.push(batch);
      return commit ? commit(batch) : socket.commit(batch);
    },
    clock,
    log: quietLog,
    generation: () => generation.read(),
    mended: text => void mended.push(text),
  });
  onTestFinished(async () => {
    await writer.close();
    generation.close();
    socket.close();
  });
  const text = () => netns.run("nft", ["list", "ruleset"]);
  return { writer, netns, clock, runs, batches, mended, text };
}

describeKernel("the writer", () => {
  it("puts together what is asked while nft runs", async () => {
    const { writer, runs, text } = testWriter();
    const first = writer.change(wish(set("np-a", "10.0.0.1")));
    await vi.waitFor(() => expect(runs).toHaveLength(1));
    await Promise.all([first, ...Array.from({ length: 50 }, (_, at) => writer.change(wish(set(`np-${at}`, "10.0.0.2"))))]);
    expect(runs).toHaveLength(2);
    expect(text().match(/set np-/g)).toHaveLength(51);
  });

  it("sends what was asked for as it was then, and what came meanwhile with all that it refers to", async () => {
    const netns = testNetns();
    const real = nft(["ip", "netns", "exec", netns.name, "nft"]);
    let second: Promise<void> | undefined;
    const run: Nft = commands => {
      // While the first is still looking at what is there.
      second ??= writer.change(wish(chain("np-a", "np-new"), set("np-new", "10.0.0.1")));
      return real(commands);
    };
    const { writer, runs, text } = testWriter({ netns, run });
    await writer.change(wish(chain("np-a")));
    await second;
    expect(runs).toHaveLength(2);
    expect(text()).toContain("@np-new");
  });

  it("sends one element where one element changes, and nothing where nothing does", async () => {
    const { writer, runs, batches } = testWriter();
    const many = Array.from({ length: 5000 }, (_, at) => `10.1.${at >> 8}.${at & 255}`);
    await writer.change(wish(set("np-many", ...many)));
    await writer.change(wish(set("np-many", ...many, "10.9.9.9")));
    await writer.change(wish(set("np-many", ...many, "10.9.9.9")));
    expect(runs).toHaveLength(1);
    expect(batches).toHaveLength(1);
    expect(batches[0].length).toBeLessThan(200);
  });

  it("does not let one caller's mistake spoil another's change, and tries again what was refused", async () => {
    const { writer, text, clock, runs } = testWriter();
    const bad = writer.change(wish(chain("np-bad", "np-absent")));
    const good = writer.change(wish(set("masq-good", "10.0.0.1")));
    await expect(bad).rejects.toThrow("nft");
    await good;
    expect(text()).toContain("masq-good");
    expect(writer.failure()).toMatchObject({ reason: "refused", objects: ["inet podlane chain np-bad"] });
    await writer.change(wish(set("masq-more")));
    // What it lacked comes, and the next try takes it.
    await writer.change(wish(set("np-absent")));
    clock.advance(31_000);
    await vi.waitFor(() => expect(text()).toContain("np-bad"));
    await vi.waitFor(() => expect(writer.failure()).toBeUndefined());
    expect(runs.length).toBeLessThan(10);
  });

  it("puts its tables back soon after somebody flushed the whole ruleset, also when it has just looked", async () => {
    const { writer, netns, clock, text, mended } = testWriter();
    await writer.change(wish(set("np-a", "10.0.0.1"), chain("np-forward", "np-a")));
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    netns.run("nft", ["flush", "ruleset"]);
    clock.advance(2000);
    await vi.waitFor(() => expect(text()).toContain("np-forward"));
    await vi.waitFor(() => expect(mended).toHaveLength(1));
  });

  it("does not let what takes too long hold up the others", async () => {
    const netns = testNetns();
    const real = nft(["ip", "netns", "exec", netns.name, "nft"]);
    const run: Nft = async commands => {
      if (JSON.stringify(commands).includes("np-slow")) throw new NftError("late", "its limit is 30 s");
      return real(commands);
    };
    const { writer, text } = testWriter({ netns, run });
    const slow = writer.change(wish(set("np-slow")));
    const other = writer.change(wish(set("masq-other")));
    await expect(slow).rejects.toThrow("limit");
    await other;
    await writer.change(wish(set("masq-later")));
    expect(text().match(/masq-\w+/g)).toEqual(["masq-other", "masq-later"]);
  });

  it("takes over what a former one left, and takes away what nobody wants when its part has said all", async () => {
    const before = testWriter();
    const bridged: RulesetObject = { kind: "counter", family: "bridge", table: "podlane", name: "np-bridged" };
    const objects = [
      bridged,
      set("np-a", "10.0.0.1", "10.0.0.2"),
      chain("np-forward", "np-a"),
      set("np-old"),
      chain("np-gone", "np-old"),
      set("masq-x"),
    ];
    await before.writer.change(wish(...objects));
    const { writer, runs, batches, text } = testWriter({ netns: before.netns });
    await writer.change(wish(...objects.slice(0, 3)));
    expect(runs).toEqual([]);
    expect(text()).toContain("np-gone");
    await writer.complete("np-");
    expect(text()).not.toMatch(/np-gone|np-old/);
    expect(text()).toContain("masq-x");
    await writer.change(wish(set("np-a", "10.0.0.2", "10.0.0.3")));
    expect(batches).toHaveLength(2);
    expect(text()).toContain("elements = { 10.0.0.2, 10.0.0.3 }");
    await writer.complete("masq-");
    await writer.change(unwish(...objects.slice(0, 3)));
    expect(text()).toBe("");
  });

  it("puts back what somebody changed or flushed, and looks only where somebody did something", async () => {
    const { writer, netns, clock, text, mended, runs } = testWriter();
    await writer.change(wish(set("np-a", "10.0.0.1"), chain("np-forward", "np-a")));
    const pass = async (milliseconds: number) => {
      await vi.waitFor(() => expect(clock.pending).toBe(1));
      clock.advance(milliseconds);
    };
    await pass(60_000);
    expect(runs).toHaveLength(1);
    for (const harm of ["flush ruleset", "flush chain inet podlane np-forward", "add element inet podlane np-a { 10.0.0.9 }"]) {
      netns.run("nft", [harm]);
      await pass(2000);
      await vi.waitFor(() => expect(text()).toContain("elements = { 10.0.0.1 }"));
      await vi.waitFor(() => expect(text()).toContain("ip saddr @np-a drop"));
      await vi.waitFor(() => expect(mended.splice(0)).toEqual([expect.stringContaining("changed by somebody else")]));
    }
    // What we do not know of, it finds as it comes.
    netns.run("nft", ["flush ruleset"]);
    await writer.change(wish(set("np-a", "10.0.0.1", "10.0.0.2")));
    expect(text()).toContain("10.0.0.1, 10.0.0.2");
    // Others' tables are theirs.
    netns.run("nft", ["add table inet other"]);
    await pass(22_000);
    await vi.waitFor(() => expect(text()).toContain("ip saddr @np-a drop"));
    expect(text()).toContain("other");
  });

  it("looks again where the tables could not be listed, and not at once", async () => {
    const netns = testNetns();
    const real = nft(["ip", "netns", "exec", netns.name, "nft"]);
    let lists = 0;
    let isFailing = false;
    const run: Nft = async commands => {
      if (!JSON.stringify(commands).includes('{"list":{"table":')) return real(commands);
      lists++;
      if (isFailing) throw new NftError("late", "its limit is 30 s");
      return real(commands);
    };
    const { writer, clock, text } = testWriter({ netns, run });
    await writer.change(wish(set("np-a", "10.0.0.1"), chain("np-forward", "np-a")));
    const pass = async (milliseconds: number) => {
      await vi.waitFor(() => expect(clock.pending).toBe(1));
      clock.advance(milliseconds);
    };
    isFailing = true;
    lists = 0;
    for (const harm of ["flush chain inet podlane np-forward", "add table inet other", "add table inet another"]) {
      netns.run("nft", [harm]);
      await pass(2000);
    }
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    expect(lists).toBe(1);
    isFailing = false;
    await pass(20_000);
    await vi.waitFor(() => expect(text()).toContain("ip saddr @np-a drop"));
  });

  it("has carried out when it closes what was asked for while it looked", async () => {
    const netns = testNetns();
    const real = nft(["ip", "netns", "exec", netns.name, "nft"]);
    const looked = Promise.withResolvers<void>();
    const clock = new FakeClock();
    let isHeld = false;
    const run: Nft = async commands => {
      if (isHeld) await looked.promise;
      // A list takes a second, so that it first looks for tables alone.
      if (commands.some(command => "list" in command)) clock.advance(1000);
      return real(commands);
    };
    const { writer, text } = testWriter({ netns, run, clock });
    await writer.change(wish(set("np-a")));
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    netns.run("nft", ["add table inet other"]);
    isHeld = true;
    clock.advance(2000);
    const order: string[] = [];
    const settled = [writer.change(wish(set("np-b"))).then(() => order.push("changed")), writer.close().then(() => order.push("closed"))];
    looked.resolve();
    await Promise.all(settled);
    expect(order).toEqual(["changed", "closed"]);
    expect(text()).toContain("np-b");
  });

  it("runs no nft for what comes with a pod, and does not take that for the doing of somebody else", async () => {
    const netns = testNetns();
    const real = nft(["ip", "netns", "exec", netns.name, "nft"]);
    let runs = 0;
    const run: Nft = commands => {
      runs++;
      return real(commands);
    };
    const { writer, clock, batches, text, mended } = testWriter({ netns, run });
    const pods = chains(1, 2, 3);
    await writer.change(wish(pods[0], verdicts(pods[0])));
    const first = runs;
    await writer.change(wish(...pods, verdicts(...pods)));
    expect(text()).toContain('"pl3" : goto spoof-pl3');
    await writer.change([...wish(verdicts(pods[1])), ...unwish(pods[0], pods[2])]);
    expect(text()).not.toMatch(/spoof-pl[13]/);
    expect(batches).toHaveLength(2);
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    clock.advance(60_000);
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    expect(runs).toBe(first);
    expect(mended).toEqual([]);
  });

  it("asks nft where the kernel refuses what comes by netlink, and says in nft's words what it refuses to both", async () => {
    const { writer, netns, batches, runs, text } = testWriter();
    const [one, two] = chains(1, 2);
    await writer.change(wish(one, verdicts(one)));
    netns.run("nft", ["add element inet podlane spoof-ports { pl2 : drop }"]);
    // EEXIST.
    await writer.change(wish(two, verdicts(one, two)));
    expect([batches.length, runs.length]).toEqual([1, 2]);
    expect(text()).toContain('"pl2" : goto spoof-pl2');
    netns.run("nft", ["add chain inet podlane others; add rule inet podlane others goto spoof-pl2"]);
    // EBUSY, also from nft.
    await expect(writer.change([...wish(verdicts(one)), ...unwish(two)])).rejects.toMatchObject({
      reason: "refused",
      message: /^nft: .*busy/,
    });
    expect(writer.failure()?.objects).toContain("inet podlane chain spoof-pl2");
    expect(text()).toContain('"pl2" : goto spoof-pl2');
    netns.run("nft", ["flush chain inet podlane others"]);
    await writer.change([...wish(verdicts(one)), ...unwish(two)]);
    expect(text()).not.toContain("pl2");
    expect(writer.failure()).toBeUndefined();
  });

  it("writes all by nft where netlink does nothing", async () => {
    const commit = () => Promise.reject(new Error("no answer"));
    const { writer, text, runs } = testWriter({ commit });
    await writer.change(wish(set("np-a", "10.0.0.1")));
    await writer.change(wish(set("np-a", "10.0.0.2")));
    expect(runs).toHaveLength(2);
    expect(text()).toContain("elements = { 10.0.0.2 }");
  });

  it("sends nothing again before it has looked where the kernel's answer was lost", async () => {
    const netns = testNetns();
    const real = nft(["ip", "netns", "exec", netns.name, "nft"]);
    const socket = openRulesetSocket(netns.path);
    onTestFinished(() => socket.close());
    let failing = false;
    const run: Nft = async commands => {
      if (failing) throw new NftError("refused", "nft cannot be run: no memory");
      return real(commands);
    };
    const commit = async (batch: RulesetBatch) => {
      await socket.commit(batch);
      if (failing) throw new Error("no answer");
    };
    const { writer, text } = testWriter({ netns, run, commit });
    const [one, two] = chains(1, 2);
    await writer.change(wish(one, verdicts(one)));
    failing = true;
    const change = wish(two, verdicts(one, two));
    await expect(writer.change(change)).rejects.toThrow("no memory");
    failing = false;
    await writer.change(change);
    expect(text().match(/return comment/g)).toHaveLength(2);
  });

  it("makes anew what cannot be changed, with the rules that refer to it", async () => {
    const { writer, text } = testWriter();
    await writer.change(wish(set("np-a", "10.0.0.1"), chain("np-forward", "np-a")));
    const other: NamedSet = { ...set("np-a"), flags: ["interval"], elements: new Map([["x", { prefix: { addr: "10.0.0.0", len: 8 } }]]) };
    await writer.change(wish(other));
    expect(text()).toContain("10.0.0.0/8");
    expect(text()).toContain("ip saddr @np-a drop");
    await writer.change(wish({ ...chain("np-forward", "np-a"), base: { ...all, priority: 20 } }));
    expect(text()).toContain("priority 20");
    expect(text()).toContain("ip saddr @np-a drop");
  });

  it("says that nft is absent, or does not end", async () => {
    const absent = testWriter({ run: nft(["/nonexistent/nft"]) });
    await expect(absent.writer.change(wish(set("np-a")))).rejects.toMatchObject({ reason: "absent" });
    expect(absent.writer.failure()?.reason).toBe("absent");
    const directory = mkdtempSync(join(tmpdir(), "podlane-nft-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const program = join(directory, "nft");
    writeFileSync(program, "#!/bin/sh\nexec tail -f /dev/null\n", { mode: 0o755 });
    const late = testWriter({ run: nft([program], 100) });
    await expect(late.writer.change(wish(set("np-a")))).rejects.toMatchObject({ reason: "late" });
  });
});
