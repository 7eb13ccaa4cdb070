import fc from "fast-check";
import { expect, it } from "vitest";
import { Growth } from "./growth.ts";

/** Ids for which an array was too small, or for which more than one array grew although there was time to spread them. */
function faults(arrays: number, capacity: number, entries: number): number[] {
  const rooms = new Array<number>(arrays).fill(capacity);
  let steps = 0;
  const growth = new Growth(capacity, larger =>
    rooms.map((_, at) => () => {
      rooms[at] = larger;
      steps++;
    }),
  );
  const found: number[] = [];
  for (let id = 1; id <= entries; id++) {
    steps = 0;
    growth.reserve(id);
    const small = growth.capacity <= id || rooms.some(room => room <= id);
    if (small || (growth.capacity / 2 >= arrays * 8 && steps > 1)) found.push(id);
  }
  return found;
}

it("has room for every entry in time, one array after the other", () => {
  const arrays = fc.integer({ min: 0, max: 60 });
  const capacity = fc.integer({ min: 0, max: 10 }).map(power => 2 ** power);
  fc.assert(
    fc.property(arrays, capacity, fc.integer({ min: 1, max: 3000 }), (count, start, entries) => {
      expect(faults(count, start, entries)).toEqual([]);
    }),
  );
});

it("an array made while others grow has room enough", () => {
  const growth = new Growth(64, () => [() => {}, () => {}]);
  for (let id = 1; id <= 48; id++) growth.reserve(id);
  expect(growth.capacity).toBe(128);
});
