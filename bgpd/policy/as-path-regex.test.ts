import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { compileAsPathRegex } from "./as-path-regex.ts";

describe("AS path pattern", () => {
  it.each<[string, string, boolean]>([
    ["^$", "", true],
    ["^$", "65001", false],
    ["", "65001", true],
    ["_65001_", "65001", true],
    ["_65001_", "65000 65001 65002", true],
    ["_65001_", "165001 650010", false],
    ["_65001_", "65000 {65001 65002}", true],
    ["^65001_", "65001 65002", true],
    ["^65001_", "65002 65001", false],
    ["_65001$", "65002 65001", true],
    ["_1_2_", "1 2", true],
    ["^65001( 65002)*$", "65001 65002 65002", true],
    ["^65001( 65002)*$", "65001 65002 65003", false],
    ["^(1|22|3) 4$", "22 4", true],
    ["^(1|22|3) 4$", "2 4", false],
    ["^[0-9]+$", "4200000000", true],
    ["^[0-9]+$", "1 2", false],
    ["^[^ ]+ [^ ]+$", "10 20", true],
    ["^\\d{1,5}$", "65535", true],
    ["^\\d{1,5}$", "100000", false],
    ["^(_?1){3}$", "1 1 1", true],
    ["^(_?1){3}$", "1 1", false],
    ["^(_?1){2,}$", "1 1 1 1", true],
    ["_6451[2-9]_", "1 64513", true],
    ["_6451[2-9]_", "1 64511", false],
    ["{1 2}", "5 {1 2}", true],
    ["_{1}", "5 {1}", true],
    ["\\(65001", "(65001) 5", true],
    ["^1_?$", "1", true],
    [".", "", false],
    ["1?2", "2", true],
    ["(|1)2$", "12", true],
    ["$^", "", true],
  ])("%s on %j: %s", (pattern, text, expected) => {
    expect(compileAsPathRegex(pattern)(text)).toBe(expected);
  });

  it.each<[string, string]>([
    ["abc", '"a" never occurs in an AS path'],
    ["(1", 'character 1: "(" is not closed'],
    ["1)", '")" without "("'],
    ["[1", '"[" is not closed'],
    ["[]", "an empty set"],
    ["*1", 'nothing before "*" to repeat'],
    ["(?:1)", 'nothing before "?" to repeat'],
    ["1**", "a repetition of a repetition"],
    ["1+{2}", "a repetition of a repetition"],
    ["^*", "cannot be repeated"],
    ["1{5,2}", "must rise"],
    ["1{65}", "at most 64"],
    ["[9-1]", "a range in a set"],
    ["[ -9]", "a range in a set"],
    ["1\\", '"\\" at the end'],
    ["(((1{60}){60}){60})", "too large"],
    ["1".repeat(257), "at most 256 are allowed"],
  ])("refuses %s", (pattern, message) => {
    expect(() => compileAsPathRegex(pattern)).toThrow(message);
  });

  it("takes time linear in the path, also where a backtracking engine would not end", () => {
    const test = compileAsPathRegex("^((1|1 1| )*)*2$");
    const path = "1 ".repeat(50_000);
    const start = performance.now();
    expect(test(`${path}1`)).toBe(false);
    expect(test(`${path}2`)).toBe(true);
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it("stays right when the pattern needs more deterministic states than are kept", () => {
    // "a 1, then exactly 12 more characters": 2^13 states made deterministic.
    const test = compileAsPathRegex("1.{12}$");
    let random = 1;
    for (let i = 0; i < 200; i++) {
      const text = Array.from({ length: 100 }, () => {
        random = (random * 1103515245 + 12345) % 2147483648;
        return (random >> 16) & 1 ? "1" : "2";
      }).join("");
      expect(test(text)).toBe(text[text.length - 13] === "1");
    }
  });

  it("agrees with the JavaScript engine where the two languages are the same", () => {
    const atom = fc.oneof(fc.constantFrom("1", "2", "12", " ", ".", "[12]", "[^1]"), fc.constantFrom("^", "$"));
    const { pattern } = fc.letrec<{ pattern: string; group: string }>(tie => ({
      group: fc.oneof(
        { depthSize: "small" },
        atom,
        fc.tuple(tie("pattern"), fc.constantFrom("", "*", "+", "?", "{2}", "{0,2}")).map(([inner, repeat]) => `(${inner})${repeat}`),
      ),
      pattern: fc.array(fc.oneof(tie("group"), fc.constant("|")), { maxLength: 5 }).map(parts => parts.join("")),
    }));
    const text = fc.array(fc.constantFrom("1", "2", " "), { maxLength: 12 }).map(chars => chars.join(""));
    fc.assert(
      fc.property(pattern, fc.array(text, { minLength: 1, maxLength: 8 }), (source, texts) => {
        fc.pre(source.length < 80 && !/[*+?}]\)[*+?{]/.test(source));
        const ours = compileAsPathRegex(source);
        const theirs = new RegExp(source, "s");
        // Repetitions within repetitions cost the JavaScript engine a power of the text's length; ours takes the whole text.
        const nests = (source.match(/[*+?}]/g)?.length ?? 0) > 2;
        for (const one of texts.map(text => (nests ? text.slice(0, 5) : text)))
          expect([source, one, ours(one)]).toEqual([source, one, theirs.test(one)]);
      }),
      { numRuns: 1000 },
    );
  });
});
