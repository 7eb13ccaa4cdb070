import { expect, test } from "vitest";
import { TextReader } from "./reading.ts";

const node = (n: number) =>
  `apiVersion: v1\nkind: Node\nmetadata: {name: node${n}}\nspec: {podCIDRs: ["10.${n >> 8}.${n & 255}.0/24"]}\n---\n`;
const many = (count: number) => Array.from({ length: count }, (_, n) => node(n)).join("");

test("a large text leaves the event loop its turns, and reads like a small one", async () => {
  const reader = new TextReader();
  let turns = 0;
  let reading = true;
  const spin = () => {
    turns++;
    if (reading) setImmediate(spin);
  };
  setImmediate(spin);
  const { objects, problems, broken } = await reader.read(`${many(3000)}kind: Nod\n`, "nodes.yaml");
  reading = false;
  expect(turns).toBeGreaterThan(100);
  expect([objects.length, objects[2999].place, broken]).toEqual([3000, expect.stringMatching(/^nodes.yaml/), false]);
  expect(problems).toMatchObject([{ object: "nodes.yaml", message: expect.stringContaining('kind "Nod"') }]);
  expect(await reader.read(node(1), "one.yaml")).toMatchObject({ objects: [{ object: { kind: "Node" } }], problems: [] });
});

test.each([
  [{ time: 1, memory: 1024 }, "cannot be read within 0.001 s"],
  [{ time: 60_000, memory: 8 }, "cannot be read: "],
])("one that takes more than %o is a problem, and the next is read", async (limits, message) => {
  const reader = new TextReader(limits);
  const read = await reader.read(many(4000), "nodes.yaml");
  expect(read).toMatchObject({
    objects: [],
    broken: true,
    problems: [{ object: "nodes.yaml", message: expect.stringContaining(message) }],
  });
  expect((await reader.read(node(1), "one.yaml")).objects).toHaveLength(1);
});

test("close() ends what is being read", async () => {
  const reader = new TextReader();
  const read = reader.read(many(4000), "nodes.yaml");
  await reader.close();
  expect(await read).toMatchObject({ objects: [], broken: true });
});
