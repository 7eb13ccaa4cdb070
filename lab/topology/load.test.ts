/** What a topology file gets for each kind of mistake, and what the shipped ones are planned as. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe, expect, test } from "vitest";
import { shippedTopologies } from "../names.ts";
import { loadTopology, parseTopology, podNames, TopologyError } from "./load.ts";

const good = `
name: two
title: Two routers
routers:
  a: { kind: frr, asn: 65001, neighbors: [{ name: b, asn: 65002 }] }
  b: { kind: bird, asn: 65002, neighbors: [{ name: a, asn: 65001 }] }
links:
  - { name: cable, subnets: [192.0.2.0/31], members: { a: 0, b: 1 } }
`;

function problemsOf(text: string): string[] {
  try {
    parseTopology(text, "file.yaml");
    return [];
  } catch (error) {
    if (!(error instanceof TopologyError)) throw error;
    return error.message.split("\n");
  }
}

describe("topology files", () => {
  test("a good one has no problems", () => {
    expect(problemsOf(good)).toEqual([]);
  });

  test.each(shippedTopologies())("$name is good and is named like its file", ({ name, file }) => {
    expect(loadTopology(file).name).toBe(name);
  });

  test("the example of docs/lab.md is good", () => {
    const page = readFileSync(new URL("../../docs/lab.md", import.meta.url), "utf8");
    const example = /```yaml\n(name: [\s\S]*?)```/.exec(page)?.[1] ?? "";
    expect(problemsOf(example)).toEqual([]);
    expect(parseTopology(example).name).toBe("small");
  });

  const mistakes: [what: string, change: (text: string) => string, expected: RegExp][] = [
    ["broken YAML", () => "name: [", /not YAML: .*; mend the syntax/],
    ["a list", () => "- 1", /file.yaml: must be object/],
    ["an unknown field", text => `${text}nonsense: 1\n`, /unknown field "nonsense"; remove it/],
    ["a field missing", text => text.replace("title: Two routers\n", ""), /"title" is missing; add it/],
    ["a bad lab name", text => text.replace("name: two", "name: Two_1"), /name: must match pattern.*; use lower-case/],
    ["a wrong type", text => text.replace("title: Two routers", "title: [1]"), /title: must be string; write a value of type string/],
    ["an unknown router kind", text => text.replace("kind: frr", "kind: cisco"), /routers\.a\.kind/],
    [
      "a member that does not exist",
      text => text.replace("b: 1 }", "c: 1 }"),
      /links\[0\]\.members\.c: there is no machine "c"; use one of a, b/,
    ],
    ["two members with one number", text => text.replace("b: 1 }", "b: 0 }"), /links\[0\]\.members\.b: has the host number of a/],
    ["a host number outside its subnet", text => text.replace("b: 1 }", "b: 2 }"), /192\.0\.2\.0\/31 has no host number 2 \(b\)/],
    ["a subnet with host bits", text => text.replace("192.0.2.0/31", "192.0.2.1/31"), /did you mean 192\.0\.2\.0\/31/],
    ["both configurations", text => text.replace("kind: frr,", "kind: frr, config: x,"), /routers\.a: has both `config` and a short form/],
    [
      "no configuration",
      text => text.replace(", asn: 65001, neighbors: [{ name: b, asn: 65002 }]", ""),
      /routers\.a: has no configuration/,
    ],
    [
      "an unknown neighbour",
      text => text.replace("name: b, asn", "name: x, asn"),
      /neighbors\[0\]\.name: there is no machine "x"; use one of a, b/,
    ],
    ["a node without its document", text => `${text}nodes: { n: {} }\n`, /objects: there is no Node document for n; add one/],
    ["a check of nobody", text => `${text}checks: { sessions: { z: 1 } }\n`, /checks\.sessions\.z: there is no machine "z"/],
    ["a check with a bad prefix", text => `${text}checks: { routes: { a: [x] } }\n`, /checks\.routes\.a\[0\]: "x" is not a prefix/],
    ["a step with two actions", text => `${text}scenarios: [{ name: s, steps: [{ kill: a, stop: b }] }]\n`, /steps\[0\]: has 2 actions/],
    [
      "an await without a bound",
      text => `${text}scenarios: [{ name: s, steps: [{ await: {} }] }]\n`,
      /awaits without a bound; add `within/,
    ],
    [
      "packets counted that do not run",
      text => `${text}scenarios: [{ name: s, steps: [{ kill: a }], expect: { lost: 0 } }]\n`,
      /no packets run/,
    ],
  ];

  test.each(mistakes)("%s", (_what, change, expected) => {
    const problems = problemsOf(change(good));
    expect(problems.join("\n")).toMatch(expected);
    for (const problem of problems) expect(problem).toMatch(/^file\.yaml: /);
  });

  test("a file that is absent or far too large", () => {
    expect(() => loadTopology("/nonexistent/lab.yaml")).toThrow(/cannot be read: .*; give a topology file/);
    const folder = mkdtempSync(`${tmpdir()}/lab-`);
    try {
      writeFileSync(`${folder}/large.yaml`, "#".repeat((1 << 20) + 1));
      expect(() => loadTopology(`${folder}/large.yaml`)).toThrow(/larger than 1048576 octets/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test("pods are named after their node", () => {
  expect(podNames("node1", 2)).toEqual(["node1-1", "node1-2"]);
});
