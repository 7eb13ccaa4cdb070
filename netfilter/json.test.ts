import { expect, it } from "vitest";
import { describeKernel, testNetns } from "../kernel/testnetns.ts";
import { canonical, type Difference, disjoint, isRemade, parseListing, sameObject, transaction } from "./json.ts";
import { type Nft, nft } from "./nft.ts";
import { type Chain, type NamedMap, type NamedSet, objectKey, type Rule, type RulesetObject } from "./ruleset.ts";

const named = (name: string) => ({ family: "inet" as const, table: "podlane", name });

function chain(name: string, rules: Rule[], base?: Chain["base"]): Chain {
  return { kind: "chain", ...named(name), ...(base && { base }), rules };
}

function verdicts(entries: Record<string, string>): NamedMap {
  const elements = new Map(Object.entries(entries).map(([key, target]) => [key, { key, value: { goto: { target } } }]));
  return { kind: "map", ...named("np-in4"), type: "ipv4_addr", map: "verdict", elements };
}

function addresses(name: string, elements: unknown[], type: NamedSet["type"] = "ipv4_addr", flags?: NamedSet["flags"]): NamedSet {
  return { kind: "set", ...named(name), type, ...(flags && { flags }), elements: new Map(elements.map(one => [JSON.stringify(one), one])) };
}

const drop = (comment?: string): Rule => ({ expressions: [{ counter: null }, { drop: null }], comment });
const look = (map: string): Rule => ({
  expressions: [{ vmap: { key: { payload: { protocol: "ip", field: "daddr" } }, data: `@${map}` } }],
});
const forward = { type: "filter", hook: "forward", priority: 10 } as const;

/** A ruleset in a namespace, brought from one state to the next by transaction(). */
class Kernel {
  readonly #netns = testNetns();
  readonly #nft: Nft = nft(["ip", "netns", "exec", this.#netns.name, "nft"]);
  #state: RulesetObject[] = [];

  async become(...objects: RulesetObject[]): Promise<string[]> {
    const commands = transaction(differences(this.#state, objects));
    await this.#nft(commands);
    this.#state = objects;
    return commands.map(command => Object.entries(command).map(([verb, what]) => `${verb} ${Object.keys(what as object)[0]}`)[0]);
  }

  listing(): Map<string, RulesetObject> {
    return parseListing(this.#netns.run("nft", ["-j", "list", "table", "inet", "podlane"]));
  }

  text(): string {
    return this.#netns.run("nft", ["list", "table", "inet", "podlane"]);
  }
}

function differences(before: RulesetObject[], after: RulesetObject[]): Difference[] {
  const was = new Map(before.map(one => [objectKey(one), one]));
  const is = new Map(after.map(one => [objectKey(one), one]));
  return [...new Set([...was.keys(), ...is.keys()])].map(key => ({ before: was.get(key), after: is.get(key) }));
}

describeKernel("rulesets as transactions", () => {
  it("makes objects that refer to one another, changes them and takes them away, each in one transaction", async () => {
    const kernel = new Kernel();
    const base = chain("np-forward", [look("np-in4")], forward);
    const counter: RulesetObject = { kind: "counter", ...named("np-dropped") };
    await kernel.become(
      base,
      verdicts({ "10.0.0.1": "np-a", "10.0.0.2": "np-b" }),
      chain("np-a", [drop("pod a")]),
      chain("np-b", [drop()]),
      counter,
    );
    expect(kernel.text()).toContain("10.0.0.1 : goto np-a");
    // The chain goes with the element that leads to it; another changes where it leads.
    expect(await kernel.become(base, verdicts({ "10.0.0.2": "np-c" }), chain("np-c", [drop(), drop("last")]), counter)).toEqual([
      ...["add table", "flush chain", "flush chain", "add chain", "delete element", "add element", "add rule", "add rule"],
      ...["delete chain", "delete chain"],
    ]);
    expect(kernel.text()).toContain("10.0.0.2 : goto np-c");
    expect(kernel.text()).not.toContain("np-a");
    await kernel.become();
    expect(kernel.text()).not.toContain("chain");
  });

  it("changes sets by their differences alone", async () => {
    const kernel = new Kernel();
    const many = Array.from({ length: 2000 }, (_, at) => `10.1.${at >> 8}.${at & 255}`);
    await kernel.become(addresses("np-many", many));
    expect(await kernel.become(addresses("np-many", [...many.slice(1), "10.9.9.9"]))).toEqual([
      "add table",
      "delete element",
      "add element",
    ]);
    const blocks = (...texts: string[]) =>
      addresses(
        "masq",
        texts.map(text => ({ prefix: { addr: text.split("/")[0], len: Number(text.split("/")[1]) } })),
        "ipv4_addr",
        ["interval"],
      );
    await kernel.become(addresses("np-many", many), blocks("10.0.0.0/24", "10.0.1.0/24", "10.0.3.7/32"));
    // A larger block takes the place of what lies in it, and gives it back.
    await kernel.become(addresses("np-many", many), blocks("10.0.0.0/22"));
    await kernel.become(addresses("np-many", many), blocks("10.0.1.0/24", "10.0.2.0/24"));
    expect(kernel.text()).toContain("elements = { 10.0.1.0/24, 10.0.2.0/24 }");
  });

  it("knows again what is listed", async () => {
    const kernel = new Kernel();
    const objects: RulesetObject[] = [
      chain("np-forward", [look("np-in4"), drop("the rest")], forward),
      chain("np-a", [drop()]),
      verdicts({ "10.0.0.1": "np-a" }),
      addresses(
        "blocks",
        [{ prefix: { addr: "10.0.0.0", len: 8 } }, { prefix: { addr: "11.0.0.1", len: 32 } }, { range: ["9.0.0.0", "9.0.0.5"] }],
        "ipv4_addr",
        ["interval"],
      ),
      addresses("blocks6", [{ prefix: { addr: "2001:DB8::", len: 33 } }, "::ffff:0:1"], "ipv6_addr", ["interval"]),
      addresses("ports", [{ concat: ["tcp", 80] }, { concat: [17, 53] }, { concat: ["sctp", 9] }], ["inet_proto", "inet_service"]),
      addresses("ends", [{ concat: ["eth0", "02:00:00:00:00:0A", "fd00:0::1"] }], ["ifname", "ether_addr", "ipv6_addr"]),
      { kind: "counter", ...named("np-dropped") },
    ];
    await kernel.become(...objects);
    const listed = kernel.listing();
    expect([...listed.keys()].sort()).toEqual(objects.map(objectKey).sort());
    for (const object of objects) {
      const found = listed.get(objectKey(object))!;
      expect(sameObject(found, canonical(object)), `${objectKey(object)} is the same`).toBe(true);
      expect(transaction([{ before: found, after: canonical(object) }]).slice(1)).toEqual([]);
    }
    const [base] = objects as [Chain];
    expect(sameObject(listed.get(objectKey(base))!, { ...base, rules: [...base.rules].reverse() })).toBe(false);
    expect(isRemade({ before: listed.get(objectKey(base)), after: { ...base, base: { ...forward, priority: 11 } } })).toBe(true);
    expect(isRemade({ before: listed.get(objectKey(base)), after: { ...base, rules: [] } })).toBe(false);
  });
});

it("leaves out what lies in another block", () => {
  expect(disjoint(["10.1.0.0/16", "10.0.0.0/8", "fd00::/8", "11.0.0.0/32", "10.0.0.0/8", "fd00:1::/64", "11.0.0.1/32"])).toEqual([
    ...["10.0.0.0/8", "11.0.0.0/32", "11.0.0.1/32", "fd00::/8"],
  ]);
});
