/** What is written by netlink is what nft would have written: the same transactions both ways, and what nft lists then. */
import { expect, it, onTestFinished } from "vitest";
import { openRulesetSocket } from "../../kernel/index.ts";
import { describeKernel, type TestNetns, testNetns } from "../../kernel/testnetns.ts";
import { type Command, type Difference, transaction } from "../json.ts";
import { nft } from "../nft.ts";
import { type NamedMap, type NamedSet, objectKey, type RulesetObject } from "../ruleset.ts";
import { Spoofing } from "../spoofing.ts";
import { encodeTransaction } from "./transaction.ts";

const named = (name: string) => ({ family: "inet" as const, table: "podlane", name });
const set = (name: string, type: string | string[], ...elements: unknown[]): NamedSet => ({
  kind: "set",
  ...named(name),
  type,
  elements: new Map(elements.map(one => [JSON.stringify(one), one])),
});
const map = (name: string, type: string | string[], to: string, ...elements: [unknown, unknown][]): NamedMap => ({
  kind: "map",
  ...named(name),
  type,
  map: to,
  elements: new Map(elements.map(([key, value]) => [JSON.stringify(key), { key, value }])),
});

/** Both ways from the same beginning, in two namespaces. */
class Twins {
  readonly #byNft = testNetns();
  readonly #byNetlink = testNetns();
  readonly #socket = openRulesetSocket(this.#byNetlink.path);
  #present = new Map<string, RulesetObject>();

  constructor() {
    onTestFinished(() => this.#socket.close());
  }

  /** By nft in both. */
  async begin(...objects: RulesetObject[]): Promise<void> {
    const commands = this.#towards(objects);
    for (const netns of [this.#byNft, this.#byNetlink]) await run(netns, commands);
  }

  /** By netlink in one of them. Resolves with what nft lists there, when it lists the same in the other. */
  async become(...objects: RulesetObject[]): Promise<string> {
    const former = this.#present;
    const commands = this.#towards(objects);
    const find = (family: string, name: string) =>
      [...this.#present.values(), ...former.values()].find(
        (one): one is NamedSet | NamedMap => one.family === family && one.name === name && (one.kind === "set" || one.kind === "map"),
      );
    const batch = encodeTransaction(commands, find);
    if (!batch) throw new Error(`left to nft: ${JSON.stringify(commands)}`);
    await this.#socket.commit(batch);
    await run(this.#byNft, commands);
    const [one, other] = [this.#byNetlink, this.#byNft].map(listing);
    expect(one).toEqual(other);
    return this.#byNetlink.run("nft", ["list", "ruleset"]);
  }

  #towards(objects: readonly RulesetObject[]): Command[] {
    const wanted = new Map(objects.map(one => [objectKey(one), one]));
    const keys = new Set([...this.#present.keys(), ...wanted.keys()]);
    const differences = [...keys]
      .map((key): Difference => ({ before: this.#present.get(key), after: wanted.get(key) }))
      .filter(({ before, after }) => before !== after);
    this.#present = wanted;
    return transaction(differences);
  }
}

async function run({ name }: TestNetns, commands: readonly Command[]): Promise<void> {
  await nft(["ip", "netns", "exec", name, "nft"])(commands);
}

/** As nft lists it, without handles, which follow the order of what was made; and the kernel's own expressions, of which nft leaves some out. */
function listing(netns: TestNetns): unknown {
  const plain = (key: string, value: unknown) => {
    if (key === "handle") return undefined;
    return key === "elem" && Array.isArray(value) ? value.map(one => JSON.stringify(one)).sort() : value;
  };
  const expressions = netns.run("nft", ["--debug=netlink", "list", "ruleset"]).match(/^ {2}\[.*$/gm);
  return [JSON.parse(netns.run("nft", ["-j", "list", "ruleset"]), plain), expressions];
}

/** What stands in the tables with these pods. */
function guardOf(...pods: { link: number; bridged: boolean; addresses: string[] }[]): RulesetObject[] {
  const spoofing = new Spoofing();
  const objects = new Map<string, RulesetObject>();
  for (const { link, bridged, addresses } of pods) {
    const pod = { hostInterface: `pl${link}`, mac: `02:00:00:00:0a:${link}`, addresses, bridged };
    for (const { key, object } of spoofing.set(pod)) if (object) objects.set(key, object);
  }
  return [...objects.values()];
}

describeKernel("transactions by netlink", () => {
  it.each([true, false])("guard a pod as nft does, and let it go (on a bridge: %s)", async bridged => {
    const twins = new Twins();
    const first = { link: 10, bridged, addresses: ["10.0.0.1", "fd00::1"] };
    await twins.begin(...guardOf(first));
    const more = ["10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3"];
    for (const addresses of [more, ["10.0.0.9"], ["fd00::9"]]) {
      const text = await twins.become(...guardOf(first, { link: 11, bridged, addresses }));
      expect(text.match(/goto spoof-pl11/g)).toHaveLength(bridged ? 1 : 2);
      expect(text).toContain(addresses[0]);
      // More than a socket holds by default.
      const many = Array.from({ length: 60 }, (_, at) => at + 20).map(link => ({
        link,
        bridged,
        addresses: [`10.0.1.${link}`, `fd00::1:${link}`],
      }));
      await twins.become(...guardOf(first, ...many));
      expect(await twins.become(...guardOf(first))).not.toMatch(/pl11|pl2/);
    }
  });

  it("add and delete elements of each kind that pods have", async () => {
    const twins = new Twins();
    const chain: RulesetObject = { kind: "chain", ...named("np-one"), rules: [] };
    const kinds: ((...at: number[]) => RulesetObject)[] = [
      (...at) => set("links", "ifname", ...at.map(one => `pl${one}abcdef01234`.slice(0, 15))),
      (...at) => set("four", "ipv4_addr", ...at.map(one => `10.0.0.${one}`)),
      (...at) => set("six", "ipv6_addr", ...at.map(one => `fd00::${one}`)),
      (...at) => set("self4", ["ipv4_addr", "ipv4_addr"], ...at.map(one => ({ concat: [`10.0.0.${one}`, `10.0.1.${one}`] }))),
      (...at) => set("self6", ["ipv6_addr", "ipv6_addr"], ...at.map(one => ({ concat: [`fd00::${one}`, `fd01::${one}`] }))),
      (...at) => set("port4", ["ipv4_addr", "inet_service"], ...at.map(one => ({ concat: [`10.0.0.${one}`, 256 + one] }))),
      (...at) => set("port6", ["ipv6_addr", "inet_service"], ...at.map(one => ({ concat: [`fd00::${one}`, 65535 - one] }))),
      (...at) =>
        map("verdict4", "ipv4_addr", "verdict", ...at.map((one): [unknown, unknown] => [`10.0.0.${one}`, { goto: { target: "np-one" } }])),
      (...at) =>
        map(
          "address",
          ["inet_proto", "inet_service"],
          "ipv4_addr",
          ...at.map((one): [unknown, unknown] => [{ concat: ["tcp", one] }, `10.0.0.${one}`]),
        ),
      (...at) =>
        map(
          "target",
          ["ipv6_addr", "inet_proto", "inet_service"],
          "inet_service",
          ...at.map((one): [unknown, unknown] => [{ concat: ["fd00::1", "udp", one] }, 8000 + one]),
        ),
    ];
    const all = (...at: number[]) => [chain, ...kinds.map(kind => kind(...at))];
    await twins.begin(...all(1));
    const text = await twins.become(...all(1, 2, 3));
    expect(text).toContain("tcp . 3 : 10.0.0.3");
    expect(text).toContain("fd00::1 . udp . 3 : 8003");
    expect(text).toContain("10.0.0.3 . 259");
    await twins.become(...all(3, 4));
    await twins.become(...all());
    await twins.become(...all(...Array.from({ length: 250 }, (_, at) => at + 1)));
  });

  it("make and remove counters and chains that others lead to, sets go", async () => {
    const twins = new Twins();
    const counter: RulesetObject = { kind: "counter", ...named("np-drop") };
    const target: RulesetObject = { kind: "chain", ...named("np-target"), rules: [{ expressions: [{ accept: null }], comment: "all" }] };
    const jump: RulesetObject = {
      kind: "chain",
      ...named("np-from"),
      rules: [
        { expressions: [{ jump: { target: "np-target" } }] },
        { expressions: [{ counter: "np-drop" }, { drop: null }], comment: "rest" },
      ],
    };
    const former = set("np-former", "ipv4_addr", "10.0.0.1");
    await twins.begin(former);
    expect(await twins.become(former, counter, target, jump)).toContain('counter name "np-drop" drop comment "rest #');
    await twins.become(former, counter, target, { ...jump, rules: jump.rules.slice(1) });
    expect(await twins.become(target)).not.toMatch(/np-from|np-drop|np-former/);
  });

  it("happen wholly or not at all, and name what the kernel refused", async () => {
    const netns = testNetns();
    const socket = openRulesetSocket(netns.path);
    onTestFinished(() => socket.close());
    const four = set("four", "ipv4_addr");
    await run(netns, transaction([{ before: undefined, after: four }]));
    const add = (name: string) => ({ add: { element: { ...named(name), elem: ["10.0.0.1"] } } });
    const wrong = encodeTransaction([add("four"), add("absent"), add("four")], () => four)!;
    await expect(socket.commit(wrong)).rejects.toMatchObject({ code: "ENOENT", request: "add element inet podlane absent" });
    expect(netns.run("nft", ["list", "ruleset"])).not.toContain("10.0.0.1");
    await socket.commit(encodeTransaction([add("four")], () => four)!);
    expect(netns.run("nft", ["list", "ruleset"])).toContain("10.0.0.1");
    netns.run("nft", ["flush", "ruleset"]);
    const chain: RulesetObject = { kind: "chain", ...named("np-a"), rules: [] };
    const alone = encodeTransaction(transaction([{ before: undefined, after: chain }]), () => undefined)!;
    await expect(socket.commit(alone)).rejects.toMatchObject({ code: "ENOENT" });
    expect(netns.run("nft", ["list", "ruleset"])).toBe("");
  });
});

it.each([
  ["an address that is a range", "ipv4_addr", { prefix: { addr: "10.0.0.0", len: 8 } }],
  ["an address of the other family", "ipv4_addr", "fd00::1"],
  ["a number for an address", "ipv4_addr", 5],
  ["many links", "ifname", "pl*"],
  ["a name that is too long", "ifname", "abcdefghijklmnop"],
  ["a port that is none", "inet_service", 65536],
  ["a port by name", "inet_service", "http"],
  ["another type", "mark", 1],
  ["an element with more to it", "ipv4_addr", { elem: { val: "10.0.0.1", timeout: 5 } }],
  ["too few of a concatenation", ["ipv4_addr", "inet_service"], { concat: ["10.0.0.1"] }],
])("leave to nft: %s", (_, type, element) => {
  const commands = [{ add: { element: { ...named("one"), elem: [element] } } }];
  expect(encodeTransaction(commands, () => set("one", type))).toBeUndefined();
});

it("leave to nft what is not of a pod", () => {
  const expr = (...expressions: unknown[]) => [{ add: { rule: { ...named("x"), chain: "np-a", expr: expressions, comment: "" } } }];
  const match = (left: unknown, right: unknown) => expr({ match: { op: "==", left, right } });
  const saddr = { payload: { protocol: "ip", field: "saddr" } };
  const left = [
    ...[match(saddr, "@set"), match(saddr, { set: ["10.0.0.1"] }), match(saddr, "::1"), match({ ct: { key: "state" } }, "new")],
    ...[expr({ log: null }), expr({ limit: { rate: 1, per: "second" } }), expr({ counter: null }), expr({ goto: {} })],
    transaction([{ before: undefined, after: set("new", "ipv4_addr") }]),
    transaction([
      { before: undefined, after: { kind: "chain", ...named("base"), base: { type: "filter", hook: "forward", priority: 0 }, rules: [] } },
    ]),
    [{ delete: { table: { family: "inet", name: "podlane" } } }],
  ];
  for (const commands of left) expect(encodeTransaction(commands, () => undefined)).toBeUndefined();
  const interval = { ...set("i", "ipv4_addr"), flags: ["interval" as const] };
  expect(encodeTransaction([{ add: { element: { ...named("i"), elem: ["10.0.0.1"] } } }], () => interval)).toBeUndefined();
});
