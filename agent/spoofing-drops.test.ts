import { expect, test } from "vitest";
import { type PacketCounter, SpoofingDrops } from "./spoofing-drops.ts";

const counter = (family: string, name: string, packets: number): PacketCounter => ({ family, name, packets });

test("counters of all tables are added up by reason, and a table that came anew takes nothing from the sum", () => {
  const drops = new SpoofingDrops();
  drops.see([
    counter("bridge", "spoof-mac", 5),
    counter("inet", "spoof-mac", 2),
    counter("arp", "spoof-arp", 1),
    counter("inet", "np-x", 9),
  ]);
  expect(drops.sums).toEqual({ mac: 7, source: 0, arp: 1, neighbour: 0, router: 0, dhcp: 0, other: 0 });
  drops.see([counter("bridge", "spoof-mac", 6), counter("inet", "spoof-mac", 1)]);
  expect(drops.sums).toMatchObject({ mac: 9, arp: 1 });
  drops.see([]);
  drops.see([counter("bridge", "spoof-mac", 10), counter("arp", "spoof-arp", 1)]);
  expect(drops.sums).toMatchObject({ mac: 19, arp: 2 });
});
