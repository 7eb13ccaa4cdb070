/** Graceful restart (RFC 4724): our process dies or is stopped with --on-stop keep, FRR and BIRD keep our routes, and nothing is withdrawn when we come back in time. */
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { type Daemon, daemons } from "./daemons.ts";
import { lacking, pair, until, up } from "./scene.ts";
import { network, type SpeakerProcess } from "./speaker.ts";

const { frr, bird } = daemons;

for (const kind of [frr, bird]) {
  const why = lacking(kind);
  describe.skipIf(why)(`with ${kind.name}${why ? ` (skipped: ${why})` : ""}`, { concurrent: true, timeout: 60_000 }, () => {
    const pairing = (restartTime: number) => ({
      // Our hold time is the restart time that we announce; the lower one, theirs, holds for the session.
      ours: { holdTime: restartTime },
      theirs: {
        holdTime: 6,
        announces: [{ prefix: "198.51.100.0/24" }, { prefix: "2001:db8:51::/48" }],
        kernel: true,
      },
      config: { networks: [network("203.0.113.0/24", { med: 7 }), network("2001:db8:113::/48")] },
    });

    it.for([
      ["kill -9", (speaker: SpeakerProcess) => speaker.kill()],
      ["--on-stop keep", (speaker: SpeakerProcess) => speaker.leave()],
    ] as const)("%s and back within the restart time: no route ever leaves it, nor its kernel, nor ours", async ([, end], context) => {
      const { scene, speaker, daemon, config, them } = await pair(context, kind, pairing(40));
      await up(speaker);
      await until(async () => {
        expect(await held(daemon)).toEqual([true, true]);
        expect(scene.routes().size).toBe(2);
        expect((await speaker.snapshot()).converged).toBe(true);
        if (kind === bird) expect([...scene.routes(them, "bird").keys()].sort()).toEqual(["2001:db8:113::/48", "203.0.113.0/24"]);
      });
      const [theirKernel, ourKernel] = [await scene.watchRoutes(them), await scene.watchRoutes(scene.us)];
      const watched = watch(daemon);
      const killed = new Date().toISOString();
      await end(speaker);
      await until(async () => expect(await daemon.established("10.0.0.1")).toBe(false));
      expect(await held(daemon)).toEqual([true, true]);
      const again = await scene.speaker(config);
      await up(again);
      await until(async () => expect((await again.snapshot()).converged).toBe(true));
      // What the neighbour found stale after our End-of-RIB would be gone by its second KEEPALIVE.
      const { keepalive } = (await again.neighbor("them")).counters.messagesIn;
      await until(async () => expect((await again.neighbor("them")).counters.messagesIn.keepalive).toBeGreaterThan(keepalive + 1));
      const { polls, missed } = await watched.stop();
      expect(polls).toBeGreaterThan(5);
      expect(missed, `killed ${killed}\n${again.log()}${daemon.process.log()}`).toEqual([]);
      expect(theirKernel().filter(line => line.startsWith("Deleted"))).toEqual([]);
      expect(ourKernel().filter(line => line.startsWith("Deleted"))).toEqual([]);
      expect([...scene.routes().keys()].sort()).toEqual(["198.51.100.0/24", "2001:db8:51::/48"]);
      expect(await daemon.route("203.0.113.0/24")).toMatchObject({ asPath: "65001", med: 7 });
    });

    it("kill -9 for good: our routes stay for the restart time, which is our hold time, then they go", async context => {
      const { speaker, daemon } = await pair(context, kind, pairing(8));
      await up(speaker);
      await until(async () => expect(await held(daemon)).toEqual([true, true]));
      const died = Date.now();
      await speaker.kill();
      await until(async () => expect(await daemon.established("10.0.0.1")).toBe(false));
      expect(await held(daemon)).toEqual([true, true]);
      await until(async () => expect(await held(daemon)).toEqual([false, false]));
      expect(Date.now() - died).toBeGreaterThan(7_000);
    });
  });
}

function held(daemon: Daemon): Promise<boolean[]> {
  return Promise.all(["203.0.113.0/24", "2001:db8:113::/48"].map(async prefix => (await daemon.route(prefix)) !== undefined));
}

/** Looks again and again whether the daemon holds our routes. */
function watch(daemon: Daemon): { stop(): Promise<{ polls: number; missed: string[] }> } {
  const missed: string[] = [];
  let polls = 0;
  let running = true;
  const done = (async () => {
    for (; running; polls++) {
      const at = Date.now();
      const now = await held(daemon);
      if (now.includes(false)) missed.push(`${new Date(at).toISOString()}: ${now}`);
      await pause(30);
    }
  })();
  return {
    async stop() {
      running = false;
      await done;
      return { polls, missed };
    },
  };
}
