import { expect, test } from "vitest";
import { findTwins } from "./twins.ts";

const node = (name: string, ...addresses: string[]) => ({ name, addresses });

test("two ends with one hardware address are named, also where one is the node's own", () => {
  const [one, twin] = ["fd00::8:1818", "fd00::8:214b"];
  const problem = (a: string, b: string) => [
    expect.objectContaining({ reason: "OverlayConflict", message: expect.stringContaining(`${a} and ${b} have the same`) }),
  ];
  expect(findTwins({ local: ["10.0.0.1"], nodes: [node("a", "10.0.0.2", one), node("b", twin)] })).toEqual(
    problem(`${one} (node a)`, `${twin} (node b)`),
  );
  expect(findTwins({ local: [twin], nodes: [node("a", one)] })).toEqual(problem(`${twin} (this node)`, `${one} (node a)`));
});

test("others are not, nor two nodes with one address", () => {
  const nodes = [node("a", "10.0.0.2", "fd00::2"), node("b", "10.0.0.3", "fd00::3"), node("c", "fd00::0:3")];
  expect(findTwins({ local: ["10.0.0.1", "fd00::1"], nodes })).toEqual([]);
});
