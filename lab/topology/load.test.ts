/** What a topology file gets for each kind of mistake, and what the shipped ones are planned as. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe, expect, test } from "vitest";
import { shippedTopologies } from "../names.ts";
import { loadTopology, parseTopology, TopologyError } from "./load.ts";
import { podNames } from "./plan.ts";

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
    // The name of a lab has no hyphens.
    expect(loadTopology(file).name).toBe(name.replaceAll("-", ""));
  });

  test("the example of docs/lab.md is good", () => {
    const page = readFileSync(new URL("../../docs/lab.md", import.meta.url), "utf8");
    const example = /```yaml\n(name: [\s\S]*?)```/.exec(page)?.[1] ?? "";
    expect(problemsOf(example)).toEqual([]);
    expect(parseTopology(example).name).toBe("small");
  });

  const mistakes: [what: string, change: (text: string) => string, expected: RegExp][] = [
    ["broken YAML", () => "name: [", /not valid YAML: .* at line 1, column 8; mend it/],
    ["a list", () => "- 1", /file.yaml: must be a mapping, not a list/],
    ["an unknown field", text => `${text}nonsense: 1\n`, /unknown field "nonsense"; known fields: name, title/],
    ["a field missing", text => text.replace("title: Two routers\n", ""), /field "title" is missing; add title/],
    [
      "a bad lab name",
      text => text.replace("name: two", "name: Two_1"),
      /name: "Two_1" does not have the right form; wanted: at most 12 lower-case letters/,
    ],
    ["a wrong type", text => text.replace("title: Two routers", "title: [1]"), /title: must be text, not a list; write text here/],
    [
      "an unknown router kind",
      text => text.replace("kind: frr", "kind: cisco"),
      /routers\.a\.kind: "cisco" is not one of frr, bird, kubernetes/,
    ],
    [
      "a control plane that speaks BGP",
      text => text.replace("b: { kind: bird,", "b: { kind: kubernetes,"),
      /routers\.b\.asn: is of routers; a control plane has none; remove it/,
    ],
    [
      "a host that speaks BGP",
      text => text.replace("b: { kind: bird,", "b: { kind: host,"),
      /routers\.b\.asn: is of routers; a host has none; remove it/,
    ],
    [
      "an address to be reached from nowhere",
      text => `${text}checks: { reach: [{ from: [z], to: [192.0.2.1], by: [a], sees: own }] }\n`,
      /checks\.reach\[0\]\.from\[0\]: there is no machine or pod "z"; use one of a, b[\s\S]*by\[0\]: there is no pod "a"; use one of \(none\)/,
    ],
    [
      "packets to no address that end nowhere",
      text => `${text}checks: { dies: [{ from: [a], to: [x], at: [z], hops: 1 }] }\n`,
      /checks\.dies\[0\]\.to\[0\]: "x" is no address; write[\s\S]*checks\.dies\[0\]\.at\[0\]: there is no machine "z"/,
    ],
    [
      "a member that does not exist",
      text => text.replace("b: 1 }", "c: 1 }"),
      /links\[0\]\.members\.c: there is no machine "c"; use one of a, b/,
    ],
    ["two members with one number", text => text.replace("b: 1 }", "b: 0 }"), /links\[0\]\.members\.b: has the host number of a/],
    ["a host number outside its subnet", text => text.replace("b: 1 }", "b: 2 }"), /192\.0\.2\.0\/31 has no host number 2 \(b\)/],
    ["a subnet with host bits", text => text.replace("192.0.2.0/31", "192.0.2.1/31"), /did you mean 192\.0\.2\.0\/31/],
    [
      "the subnet's own address for a member",
      text => text.replace("192.0.2.0/31", "192.0.2.0/24"),
      /subnets\[0\]: host number 0 \(a\) is the address of 192\.0\.2\.0\/24 itself; count from 1/,
    ],
    [
      "the broadcast address for a member",
      text => text.replace("192.0.2.0/31", "192.0.2.0/30").replace("{ a: 0, b: 1 }", "{ a: 1, b: 3 }"),
      /host number 3 \(b\) is the broadcast address/,
    ],
    [
      "two links with one subnet",
      text => `${text}  - { name: second, subnets: [192.0.2.0/24], members: { a: 1, b: 2 } }\n`,
      /links\[1\]\.subnets\[0\]: 192\.0\.2\.0\/24 overlaps 192\.0\.2\.0\/31 of cable \(links\[0\]\.subnets\[0\]\); give each link/,
    ],
    [
      "two switches of a router whose interfaces would have one name",
      text =>
        `${text}  - { name: switch-number-one, inside: a, subnets: [192.0.3.0/24], members: { a: 1, b: 2 } }\n  - { name: switch-number-onf, inside: a, subnets: [192.0.4.0/24], members: { a: 1, b: 2 } }\n`,
      /links\[2\]\.name: would be the interface of switch-number-one of a too; give it a name that differs in its first 15/,
    ],
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

  test("all mistakes of form are told at once", () => {
    const nodes = Array.from({ length: 12 }, (_, at) => `n${at}: { pods: ${100 + at} }`).join(", ");
    expect(problemsOf(`${good}nodes: { ${nodes} }\n`)).toEqual(
      Array.from({ length: 12 }, (_, at) => `file.yaml: nodes.n${at}.pods: ${100 + at} is out of range; give a number from 0 to 50`),
    );
  });

  const node = `
name: node
title: One node
nodes: { node1: { pods: 1 }, node2: {} }
links:
  - { name: lan, subnets: [192.0.2.0/24], members: { node1: 1, node2: 2 } }
objects:
  - { apiVersion: v1, kind: Node, metadata: { name: node1 }, spec: { podCIDRs: [10.244.1.0/24] }, status: { addresses: [{ type: InternalIP, address: 192.0.2.1 }] } }
  - { apiVersion: v1, kind: Node, metadata: { name: node2 }, spec: { podCIDRs: [10.244.2.0/24] }, status: { addresses: [{ type: InternalIP, address: 192.0.2.2 }] } }
`;

  const objectMistakes: [what: string, change: (text: string) => string, expected: RegExp][] = [
    [
      "an object with a field that does not exist",
      text =>
        `${text}  - { apiVersion: podlane.io/v1alpha1, kind: Fabric, metadata: { name: f }, spec: { nodeSelector: {}, asn: 65001, mesch: {} } }\n`,
      /^file\.yaml: objects\[2\] \(Fabric\/f\)\.spec\.mesch: unknown field "mesch"; did you mean "mesh"\?$/,
    ],
    [
      "an object of an unknown kind",
      text => `${text}  - { apiVersion: v2, kind: Pear, metadata: { name: p } }\n`,
      /objects\[2\].*"Pear".*; /,
    ],
    [
      "an object twice",
      text => `${text}${text.split("\n").find(line => line.includes("kind: Node"))}\n`,
      /objects\[2\] \(Node\/node1\): is objects\[0\] \(Node\/node1\) again; /,
    ],
    [
      "a loopback address that is none",
      text => text.replace("node1: { pods: 1 }", "node1: { loopback: [10.255.0] }"),
      /nodes\.node1\.loopback\[0\]: "10\.255\.0" is no address; /,
    ],
    [
      "a loopback address of two nodes",
      text => text.replace("node1: { pods: 1 }, node2: {}", "node1: { loopback: [10.255.0.1] }, node2: { loopback: [10.255.0.1] }"),
      /nodes\.node2\.loopback\[0\]: 10\.255\.0\.1 is on the loopback of node1 already; /,
    ],
    [
      "a node with the address of nobody",
      text => text.replace("address: 192.0.2.2", "address: 192.0.2.9"),
      /objects\[1\] \(Node\/node2\)\.status\.addresses: 192\.0\.2\.9 is on no link of node2, nor on its loopback; use one of 192\.0\.2\.2/,
    ],
    [
      "a peer whose policy does not exist",
      text =>
        `${text}  - { apiVersion: podlane.io/v1alpha1, kind: Peer, metadata: { name: p }, spec: { nodeSelector: {}, asn: 65000, address: 192.0.2.7, import: { policies: [nosuch] } } }\n`,
      /objects\[2\] \(Peer\/p\)\.spec\.import.*nosuch/,
    ],
  ];

  test.each(objectMistakes)("objects: %s", (_what, change, expected) => {
    expect(problemsOf(node)).toEqual([]);
    const problems = problemsOf(change(node));
    expect(problems.join("\n")).toMatch(expected);
    expect(problems.length).toBe(1);
  });

  test("objects that podlane does not read are for a control plane alone", () => {
    const service = "  - { apiVersion: apps/v1, kind: Deployment, metadata: { name: d }, spec: { replicas: 1 } }\n";
    expect(problemsOf(node + service).join()).toMatch(/objects\[2\].*"Deployment"/);
    const cluster = node
      .replace("links:", "routers: { control: { kind: kubernetes } }\nlinks:")
      .replace("node2: 2 }", "node2: 2, control: 3 }");
    expect(problemsOf(cluster + service)).toEqual([]);
    expect(problemsOf(cluster + service + service).join()).toMatch(
      /objects\[3\] \(Deployment\/d\): is objects\[2\] \(Deployment\/d\) again/,
    );
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
