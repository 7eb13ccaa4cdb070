import { expect, it, onTestFinished } from "vitest";
import { openRulesetGeneration } from "./ruleset-generation.ts";
import { describeKernel, testNetns } from "./testnetns.ts";

describeKernel("the generation of the ruleset", () => {
  it("grows by one with each transaction, and not by a list", () => {
    const netns = testNetns();
    const generation = openRulesetGeneration(netns.path);
    onTestFinished(() => generation.close());
    const first = generation.read();
    expect(generation.read()).toBe(first);
    netns.run("nft", ["add table inet a; add set inet a b { type ipv4_addr; }; add element inet a b { 10.0.0.1 }"]);
    expect(generation.read()).toBe(first + 1);
    netns.run("nft", ["list ruleset"]);
    expect(() => netns.run("nft", ["delete table inet absent"])).toThrow("No such file");
    expect(generation.read()).toBe(first + 1);
    netns.run("nft", ["flush ruleset"]);
    expect(generation.read()).toBe(first + 2);
  });
});
