/**
 * A reflector without kernel routes is killed and comes back (RFC 4724): nothing forwards through it, so its clients, FRR and BIRD, have no
 * reason to let go of what it told them.
 */
import { describe, expect, it } from "vitest";
import { type Daemon, daemons } from "./daemons.ts";
import { lacking, Scene, US, until, up } from "./scene.ts";
import { neighbor, speakerConfig } from "./speaker.ts";

const { frr, bird } = daemons;
const ASN = 65001;
const why = lacking(frr, bird);

describe.skipIf(why)(`a reflector without kernel routes${why ? ` (skipped: ${why})` : ""}`, { timeout: 60_000 }, () => {
  it("is killed and back: no client loses a route, nor does a client's kernel", async context => {
    const scene = new Scene(context);
    const client = { asn: ASN, peers: [{ address: US, asn: ASN }], holdTime: 30 };
    const config = speakerConfig({
      asn: ASN,
      routerId: US,
      neighbors: [2, 3].map(n =>
        neighbor({ name: `host${n}`, address: `10.0.0.${n}`, remoteAsn: "internal", routeReflectorClient: true, holdTime: 30 }),
      ),
      fib: { enabled: false, table: 254, protocol: 201, metric: 0 },
      startupWait: 30,
    });
    const [two, three, speaker] = await Promise.all([
      scene.daemon(frr, 2, { ...client, announces: [{ prefix: "198.51.102.0/24" }, { prefix: "2001:db8:102::/48" }] }),
      scene.daemon(bird, 3, { ...client, announces: [{ prefix: "198.51.103.0/24" }, { prefix: "2001:db8:103::/48" }], kernel: true }),
      scene.speaker(config),
    ]);
    await up(speaker);
    const atFrr = () => held(two.daemon, "198.51.103.0/24", "2001:db8:103::/48");
    const atBird = () => held(three.daemon, "198.51.102.0/24", "2001:db8:102::/48");
    await until(async () => {
      expect([...(await atFrr()), ...(await atBird())]).toEqual([true, true, true, true]);
      expect([...scene.routes(three.namespace, "bird").keys()].sort()).toEqual(["198.51.102.0/24", "2001:db8:102::/48"]);
      expect((await speaker.snapshot()).converged).toBe(true);
    });
    const kernel = await scene.watchRoutes(three.namespace);
    const watched = watch(async () => [...(await atFrr()), ...(await atBird())]);
    await speaker.kill();
    await until(async () => expect([await two.daemon.established(US), await three.daemon.established(US)]).toEqual([false, false]));
    const again = await scene.speaker(config);
    await up(again);
    await until(async () => {
      const { converged, neighbors } = await again.snapshot();
      // What a client found stale after our End-of-RIB would be gone by its second KEEPALIVE.
      expect([converged, ...neighbors.map(({ counters }) => counters.messagesIn.keepalive > 2)]).toEqual([true, true, true]);
    }, 40_000);
    const { polls, missed } = await watched.stop();
    expect(polls).toBeGreaterThan(5);
    expect(missed, `${again.log()}${two.daemon.process.log()}`).toEqual([]);
    expect(kernel().filter(line => line.startsWith("Deleted"))).toEqual([]);
    // They are the new reflector's routes, not the remains of the former one.
    await two.daemon.withdraw("198.51.102.0/24");
    await until(async () => expect(await atBird()).toEqual([false, true]));
  });
});

function held(daemon: Daemon, ...prefixes: string[]): Promise<boolean[]> {
  return Promise.all(prefixes.map(async prefix => (await daemon.route(prefix)) !== undefined));
}

/** Looks again and again, as fast as the daemons answer. */
function watch(look: () => Promise<boolean[]>): { stop(): Promise<{ polls: number; missed: string[] }> } {
  const missed: string[] = [];
  let polls = 0;
  let running = true;
  const done = (async () => {
    for (; running; polls++) {
      const at = new Date().toISOString();
      const seen = await look();
      if (seen.includes(false)) missed.push(`${at}: ${seen}`);
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
