/** A neighbour that falls silent without closing its connection (RFC 4271 section 6.5), from both sides: its routes go, and come back. */
import { describe, expect, it } from "vitest";
import { daemons } from "./daemons.ts";
import { lacking, pair, US, until, up } from "./scene.ts";
import { network } from "./speaker.ts";

for (const kind of Object.values(daemons)) {
  const why = lacking(kind);
  describe.skipIf(why)(`with ${kind.name}${why ? ` (skipped: ${why})` : ""}`, { concurrent: true, timeout: 60_000 }, () => {
    it("it falls silent: 4/0 after the hold time, its routes leave the kernel, and come back with it", async context => {
      const theirs = { announces: [{ prefix: "198.51.100.0/24" }, { prefix: "2001:db8:51::/48" }], holdTime: 3 };
      const { scene, speaker, daemon } = await pair(context, kind, { ours: { holdTime: 3 }, theirs });
      const prefixes = () => [...scene.routes().keys()].sort();
      await until(() => expect(prefixes()).toEqual(["198.51.100.0/24", "2001:db8:51::/48"]));
      daemon.process.freeze();
      await until(async () => {
        expect(prefixes()).toEqual([]);
        for (const { lastDown } of (await speaker.snapshot()).neighbors) {
          expect(lastDown).toMatchObject({ text: "hold timer expired: nothing received for 3 s", code: 4, subcode: 0, direction: "sent" });
        }
        expect((await speaker.routes()).total).toBe(0);
      });
      daemon.process.thaw();
      await until(() => expect(prefixes()).toEqual(["198.51.100.0/24", "2001:db8:51::/48"]), 40_000);
    });

    it("we fall silent: it drops our routes after the hold time, and has them again when we wake", async context => {
      const networks = [network("203.0.113.0/24"), network("2001:db8:113::/48")];
      const { speaker, daemon } = await pair(context, kind, { ours: { holdTime: 3 }, theirs: { holdTime: 3 }, config: { networks } });
      const has = () => Promise.all(networks.map(async ({ prefix }) => (await daemon.route(prefix)) !== undefined));
      await up(speaker);
      await until(async () => expect(await has()).toEqual([true, true]));
      speaker.freeze();
      await until(async () => {
        expect(await daemon.established(US)).toBe(false);
        expect(await has()).toEqual([false, false]);
      });
      speaker.thaw();
      await until(async () => expect(await has()).toEqual([true, true]), 40_000);
      expect((await speaker.neighbor("them")).counters.establishedCount).toBeGreaterThan(1);
    });
  });
}
