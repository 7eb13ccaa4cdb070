/**
 * A node that dies without a word, and a router in graceful restart (RFC 4724) with it: how long FRR and BIRD keep its routes, in their kernels as well. They must not wait
 * for the restart time there, which is for agents. With BFD (RFC 5880) as well: podlane has none of its own, so another program on the node answers.
 */
import { describe, expect, it, type TestContext } from "vitest";
import { startBird } from "../neighbours.ts";
import { type DaemonPlan, daemons } from "./daemons.ts";
import { lacking, type Pairing, pair, US, until, up } from "./scene.ts";
import { network } from "./speaker.ts";

const { frr, bird } = daemons;
/** Seconds that no test waits for. */
const NEVER = 300;
const prefixes = ["203.0.113.7/32", "2001:db8:113::7/128"];
const bfdOfTheNode = `router id ${US}; protocol device {}
  protocol bfd { interface "eth0" { interval 100 ms; multiplier 3; }; neighbor 10.0.0.2 dev "eth0" local ${US}; }`;

for (const kind of [frr, bird]) {
  const why = lacking(kind);
  describe.skipIf(why)(`with ${kind.name}${why ? ` (skipped: ${why})` : ""}`, { concurrent: true, timeout: 60_000 }, () => {
    it("silent: our routes go with the hold time, whatever restart time we asked for", async context => {
      const { cut, kill, gone } = await serving(context, { restartTime: NEVER }, { holdTime: 3 });
      cut();
      await kill();
      await gone();
    });

    it("with BFD: our routes go with it, whatever the hold time and the restart time", async context => {
      const { cut, kill, gone } = await serving(context, { holdTime: NEVER, restartTime: NEVER }, { holdTime: NEVER, bfd: true });
      cut();
      await kill();
      await gone();
    });

    it("with BFD, dead while its agent is away: our routes stay for what is left of the restart time with FRR at the most", async context => {
      const times = { holdTime: NEVER, restartTime: kind === frr ? 8 : NEVER };
      const { cut, kill, away, held, gone } = await serving(context, times, { holdTime: NEVER, bfd: true });
      await kill();
      await away();
      expect(await held()).toEqual([true, true]);
      cut();
      await gone();
    });
  });

  /** Our routes are in the daemon's kernel, and BFD is up where it is wanted. */
  async function serving(context: TestContext, ours: Pairing["ours"], theirs: Partial<DaemonPlan>) {
    const config = { networks: prefixes.map(prefix => network(prefix)) };
    const { scene, speaker, daemon, them } = await pair(context, kind, { ours, theirs: { kernel: true, ...theirs }, config });
    const held = () => Promise.all(prefixes.map(async prefix => (await daemon.route(prefix)) !== undefined));
    const inKernel = () => [...scene.routes(them, kind === frr ? "bgp" : "bird").keys()].sort();
    if (theirs.bfd) {
      const responder = await startBird(scene.us, bfdOfTheNode);
      context.onTestFinished(() => responder.stop());
      await until(async () => expect(await responder.query("show bfd sessions")).toMatch(/ Up /));
    }
    await up(speaker);
    await until(async () =>
      expect([await held(), inKernel()]).toEqual([
        [true, true],
        ["2001:db8:113::7", "203.0.113.7"],
      ]),
    );
    return {
      held,
      /** Nothing of the node arrives any more, and the router's own link stays up, as behind a switch. */
      cut: () => void scene.network.exec(scene.us, "ip", "link", "set", "eth0", "down"),
      kill: () => speaker.kill(),
      away: () => until(async () => expect(await daemon.established(US)).toBe(false)),
      gone: () => until(async () => expect([await held(), inKernel()]).toEqual([[false, false], []])),
    };
  }
}
