import { expect, test } from "vitest";
import { wrongNames } from "./names.ts";

test("single values are in capitals; tables, functions, what is inside them, and tests are not looked at", () => {
  const bad = [
    "const readTurn = 128 * 1024;",
    'export const mainTable: string = "main";',
    "const half = 1 / (2 * WHOLE);",
    "const on = true;",
  ];
  const good = [
    "const READ_TURN = 128;",
    "const words = { a: 1 };",
    "const f = () => 1;",
    "  const inside = 1;",
    'const list = ["a"];',
    "const x = y.z;",
  ];
  const files = new Map([
    ["a.ts", bad.join("\n")],
    ["b.ts", good.join("\n")],
    ["c.test.ts", bad.join("\n")],
  ]);
  expect(wrongNames(files)).toEqual([
    "a.ts:1: call the constant readTurn READ_TURN",
    "a.ts:2: call the constant mainTable MAIN_TABLE",
    "a.ts:3: call the constant half HALF",
    "a.ts:4: call the constant on ON",
  ]);
});
