import { describe, expect, test } from "vitest";
import { importsOf, wrongImports } from "./imports.ts";

const project = (files: Record<string, string>) => wrongImports(new Map(Object.entries(files)));

describe("importsOf", () => {
  test("sees every form of import, with its line", () => {
    const source = [
      'import "./side.ts";',
      'import { a, b } from "./named.ts";',
      'import type { T } from "./type.ts";',
      'import whole, { type U } from "./mixed.ts";',
      "import {",
      "  c,",
      '} from "./long.ts";',
      'export * from "./again.ts";',
      'export type { V } from "./type2.ts";',
      'const later = await import("./later.ts");',
    ].join("\n");
    expect(importsOf(source)).toEqual([
      { specifier: "./side.ts", typeOnly: false, line: 1 },
      { specifier: "./named.ts", typeOnly: false, line: 2 },
      { specifier: "./type.ts", typeOnly: true, line: 3 },
      { specifier: "./mixed.ts", typeOnly: false, line: 4 },
      { specifier: "./long.ts", typeOnly: false, line: 5 },
      { specifier: "./again.ts", typeOnly: false, line: 8 },
      { specifier: "./type2.ts", typeOnly: true, line: 9 },
      { specifier: "./later.ts", typeOnly: false, line: 10 },
    ]);
  });

  test("does not see imports in comments, nor strings after export", () => {
    const source = '/*\nimport "./no.ts";\n*/\n// import "./no.ts";\nexport const from = "./no.ts";\nexport type A = "b";\n';
    expect(importsOf(source)).toEqual([]);
  });
});

describe("wrongImports", () => {
  test("lets imports go down", () => {
    const files = {
      "cli/main.ts": 'import "../agent/main.ts";',
      "agent/main.ts": 'import "../bgpd/speaker.ts";\nimport "../config/compile.ts";\nimport "../cni/attach/handler.ts";',
      "bgpd/speaker.ts": 'import "../kernel/index.ts";\nimport "node:net";',
      "config/compile.ts": 'import type { SpeakerConfig } from "../bgpd/config.ts";',
      "kernel/rtnetlink.ts": 'import "../net/address.ts";',
      "config/resources/names.test.ts": 'import "../../bgpd/config.ts";\nimport "node:fs";',
      "test/all.test.ts": 'import "../cli/main.ts";\nimport "../net/address.ts";',
    };
    expect(project(files)).toEqual([]);
  });

  test("holds the doors: others come in by them, tests and benches anywhere", () => {
    const files = {
      "agent/main.ts": 'import "../bgpd/rib/rib.ts";',
      "cni/attach/pod.ts": 'import "../../kernel/rtnetlink.ts";',
      "bgpd/fib/testing.ts": 'import "../../kernel/rtnetlink.ts";',
      "bench/fib.ts": 'import "../bgpd/rib/rib.ts";',
      "config/compile/examples.ts": 'import "../../bgpd/message/text.ts";',
    };
    expect(project(files)).toEqual([
      expect.stringMatching(/^agent\/main.ts:1: imports bgpd\/rib\/rib.ts; others come into bgpd\/ by bgpd\/config.ts/),
      "cni/attach/pod.ts:1: imports kernel/rtnetlink.ts; others come into kernel/ by kernel/index.ts, kernel/types.ts, kernel/constants.ts",
    ]);
  });

  test.each([
    ["bgpd/speaker.ts", "../config/compile.ts", "bgpd/ may import only kernel/, net/, platform/"],
    ["bgpd/speaker.ts", "../cni/handler.ts", "bgpd/ may import only kernel/, net/, platform/"],
    ["kernel/rtnetlink.ts", "../bgpd/platform.ts", "kernel/ may import only net/, platform/"],
    ["net/address.ts", "../kernel/types.ts", "net/ may import nothing of podlane"],
    ["config/sources/directory.ts", "../../bgpd/config.ts", "config/ may import only kubernetes/, net/, platform/"],
    [
      "agent/main.ts",
      "../cli/main.ts",
      "agent/ may import only kubernetes/, controller/, config/, cni/, netfilter/, overlay/, bgpd/, kernel/, net/, platform/",
    ],
  ])("%s may not import %s, not even a type", (file, specifier, rule) => {
    const target = specifier.replaceAll("../", "");
    expect(project({ [file]: `import type { T } from "${specifier}";` })).toEqual([`${file}:1: imports ${target}; ${rule}`]);
  });

  test.each(["bgpd/message/update.ts", "bgpd/session/fsm-open.ts", "bgpd/policy/x.ts", "bgpd/rib/x.ts", "config/compile.ts", "net/x.ts"])(
    "%s is pure",
    file => {
      expect(project({ [file]: 'import { readFileSync } from "node:fs";' })).toEqual([
        `${file}:1: imports node:fs; this code is pure: take what it needs as an argument`,
      ]);
      expect(project({ [file.replace(".ts", ".test.ts")]: 'import { readFileSync } from "node:fs";' })).toEqual([]);
    },
  );

  test("finds circles, each once, also those that types close", () => {
    const circle = {
      "net/a.ts": 'import "./b.ts";',
      "net/b.ts": 'import "./c.ts";',
      "net/c.ts": 'import "./a.ts";',
      "net/d.ts": 'import "./b.ts";',
    };
    expect(project(circle)).toEqual(["net/a.ts: imports itself in a circle: net/a.ts -> net/b.ts -> net/c.ts -> net/a.ts"]);
    expect(project({ ...circle, "net/c.ts": 'import type { A } from "./a.ts";' })).toHaveLength(1);
    expect(project({ ...circle, "net/c.test.ts": circle["net/c.ts"], "net/c.ts": "" })).toEqual([]);
  });

  test.each([
    ["bgpd/message/open.ts", "../session/types.ts", "of bgpd/ bgpd/message/ may import only bgpd/family.ts"],
    ["bgpd/fib/fib.ts", "../rib/rib.ts", "of bgpd/ bgpd/fib/ may import only bgpd/faults.ts, bgpd/table"],
    ["bgpd/policy/index.ts", "../rib/table.ts", "of bgpd/ bgpd/policy/ may import only bgpd/family.ts, bgpd/config.ts, bgpd/message"],
  ])("inside a folder: %s may not import %s", (file, specifier, text) => {
    expect(project({ [file]: `import type { A } from "${specifier}";` })).toEqual([expect.stringContaining(text)]);
    expect(project({ [file]: 'import { A } from "./other.ts";' })).toEqual([]);
  });

  test("the foreign function interface is kernel's alone", () => {
    expect(project({ "agent/lock.ts": 'import koffi from "koffi";' })).toEqual(["agent/lock.ts:1: imports koffi, which only kernel/ may"]);
    expect(project({ "kernel/libc.ts": 'import koffi from "koffi";' })).toEqual([]);
  });
});
