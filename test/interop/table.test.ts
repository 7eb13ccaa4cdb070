/** 20,000 routes in each direction with FRR and BIRD: all of them, with the right attributes, in our table, our kernel and theirs. */
import { describe, expect, it } from "vitest";
import { daemons, manyPrefix } from "./daemons.ts";
import { lacking, pair, until } from "./scene.ts";
import { network } from "./speaker.ts";

const COUNT = 20_000;
const { frr, bird } = daemons;

for (const kind of [frr, bird]) {
  const why = lacking(kind);
  describe.skipIf(why)(`with ${kind.name}${why ? ` (skipped: ${why})` : ""}`, () => {
    it(`${COUNT} routes each way arrive whole, and leave again`, async context => {
      const ours = Array.from({ length: COUNT }, (_, i) => `172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32`);
      const networks = ours.map((prefix, i) => network(prefix, { med: i % 7, communities: [`65001:${i % 7}`] }));
      const { scene, speaker, daemon, config } = await pair(context, kind, { theirs: { many: COUNT }, config: { networks } });
      await until(async () => {
        const { neighbors } = await speaker.snapshot();
        expect(neighbors[0].families["ipv4-unicast"]).toMatchObject({ accepted: COUNT, sent: COUNT });
        expect(await daemon.count(4)).toBeGreaterThanOrEqual(2 * COUNT);
      }, 60_000);
      await speaker.settled();
      const kernel = scene.routes();
      expect(kernel.size).toBe(COUNT);
      const { routes } = await speaker.routes({ neighbor: "them", limit: 4 * COUNT });
      const byPrefix = new Map(routes.map(route => [route.prefix, route]));
      for (let i = 0; i < COUNT; i++) {
        const prefix = manyPrefix(i);
        const { attributes } = byPrefix.get(prefix) ?? {};
        if (attributes?.med !== i % 5 || attributes.communities?.join() !== `65000:${i % 5}` || attributes.asPath !== "65002") {
          expect.fail(`${prefix}: ${JSON.stringify(attributes)}`);
        }
        if (kernel.get(prefix.slice(0, -3))?.gateway !== "10.0.0.2") expect.fail(`${prefix} is not in the kernel`);
      }
      for (const i of [0, 1, 6, 255, 256, 9999, COUNT - 1]) {
        const seen = await daemon.route(ours[i]);
        expect(seen).toMatchObject({ asPath: "65001", nextHop: "10.0.0.1", med: i % 7, communities: [`65001:${i % 7}`] });
      }
      await speaker.apply({ ...config, networks: networks.slice(0, 1) });
      await until(async () => expect(await daemon.count(4)).toBeLessThan(COUNT + 10), 60_000);
      expect(await daemon.route(ours[0])).toBeDefined();
    }, 150_000);
  });
}
