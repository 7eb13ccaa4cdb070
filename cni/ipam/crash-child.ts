/**
 * A victim for crash.test.ts: takes and gives back addresses as fast as it can, and says on standard output what was
 * promised ("A", after durable) and what was begun to be given back ("R", before release).
 *
 *     node cni/ipam/crash-child.ts DIRECTORY SEED
 */
import fs from "node:fs";
import { parsePrefix } from "../../net/address.ts";
import { Ledger } from "./ledger.ts";

const [directory, seed] = process.argv.slice(2);
const ledger = new Ledger(directory, { now: () => Date.now(), quarantine: 0 });
ledger.setRanges([parsePrefix("10.9.0.0/24"), parsePrefix("fd09::/64")]);
let state = Number(seed);
const random = (below: number) => {
  state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
  return (state >> 8) % below;
};
const say = (line: string) => fs.writeSync(1, `${line}\n`);

const busy = new Set<string>();
say("ready");
for (;;) {
  await Promise.all(
    Array.from({ length: 1 + random(8) }, async () => {
      const key = { network: "pods", containerId: `c${random(120)}`, ifname: "eth0" };
      // Calls for one attachment follow one another, as in the handler.
      if (busy.has(key.containerId)) return;
      if (ledger.get(key)) {
        say(`R ${key.containerId}`);
        ledger.release(key);
      } else {
        const { addresses } = ledger.reserve({ ...key, netns: "/n", netnsInode: "1", hostInterface: "h", requested: [] });
        ledger.confirm(key);
        busy.add(key.containerId);
        await ledger.durable();
        busy.delete(key.containerId);
        say(`A ${key.containerId} ${addresses.join(",")}`);
      }
    }),
  );
}
