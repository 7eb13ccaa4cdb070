/** AS paths that are refused unless we are told otherwise, from routers that make them: FRR aggregates, BIRD is a route server (RFC 9774, 4271, 7947). */
import { describe, expect, it } from "vitest";
import { daemons } from "./daemons.ts";
import { lacking, pair, Scene, US, until, up } from "./scene.ts";
import { neighbor, speakerConfig } from "./speaker.ts";

const { frr, bird } = daemons;
const noFrr = lacking(frr);
const noBird = lacking(bird);

describe.skipIf(noFrr)(`an aggregate of FRR${noFrr ? ` (skipped: ${noFrr})` : ""}`, { concurrent: true, timeout: 60_000 }, () => {
  it("with an AS_SET is refused with its reason, and passed on only to those who want it; the routes in it are used", async context => {
    const scene = new Scene(context);
    const parts = [
      { prefix: "198.51.100.0/25", path: [64998] },
      { prefix: "198.51.100.128/25", path: [64999] },
      { prefix: "2001:db8:51::/48", path: [64998] },
      { prefix: "2001:db8:52::/48", path: [64999] },
    ];
    const aggregates = ["198.51.100.0/24", "2001:db8:50::/44"];
    const make = (n: number, plan: object) => scene.daemon(frr, n, { asn: 65000 + n, peers: [{ address: US, asn: 65001 }], ...plan });
    const them = (n: number, change = {}) => neighbor({ name: `n${n}`, address: `10.0.0.${n}`, remoteAsn: 65000 + n, ...change });
    const config = speakerConfig({ asn: 65001, routerId: US, neighbors: [them(2), them(3), them(4, { allowAsSets: true })] });
    const [, strict, liberal, speaker] = await Promise.all([
      make(2, { announces: parts, aggregates }),
      make(3, {}),
      make(4, {}),
      scene.speaker(config),
    ]);
    await up(speaker);
    const routes = async () => new Map((await speaker.routes({ neighbor: "n2", limit: 100 })).routes.map(route => [route.prefix, route]));
    await until(async () => {
      const all = await routes();
      expect([...all.keys()].sort()).toEqual([...aggregates, ...parts.map(({ prefix }) => prefix)].sort());
      for (const prefix of aggregates) {
        expect(all.get(prefix)?.attributes.asPath).toMatch(/^65002 \{6499[89] 6499[89]\}$/);
        expect(all.get(prefix)).toMatchObject({ best: false, eligible: false, reason: expect.stringContaining("AS_SET") });
      }
      for (const { prefix } of parts) expect(all.get(prefix)?.best).toBe(true);
      expect([...scene.routes().keys()].sort()).toEqual(parts.map(({ prefix }) => prefix).sort());
      for (const { prefix } of parts) expect(await strict.daemon.route(prefix)).toBeDefined();
      const { families } = await speaker.neighbor("n2");
      expect(families["ipv4-unicast"]?.rejectedBecause).toEqual({ AsSet: 1 });
      expect(await speaker.problems()).toContainEqual(
        expect.objectContaining({ severity: "warning", message: expect.stringMatching(/^1 routes of n2 .*AS_SET/) }),
      );
    });
    await speaker.apply({
      ...config,
      neighbors: config.neighbors.map(each => (each.name === "n2" ? { ...each, allowAsSets: true } : each)),
    });
    await until(async () => {
      for (const prefix of aggregates) {
        expect((await routes()).get(prefix)).toMatchObject({ best: true });
        expect((await liberal.daemon.route(prefix))?.asPath).toMatch(/^65001 65002 \{/);
        expect(await strict.daemon.route(prefix)).toBeUndefined();
      }
      expect([...scene.routes().keys()].sort()).toEqual([...aggregates, ...parts.map(({ prefix }) => prefix)].sort());
    });
    const explained = await speaker.explain(aggregates[0]);
    expect(explained?.sent.find(each => each.neighbor === "n3")).toMatchObject({
      advertised: false,
      reason: expect.stringContaining("AS_SET"),
    });
    const { neighbors } = await speaker.snapshot();
    expect(neighbors.map(each => each.counters.establishedCount)).toEqual([1, 1, 1]);
  });
});

describe.skipIf(noBird)(`BIRD as a route server${noBird ? ` (skipped: ${noBird})` : ""}`, { concurrent: true, timeout: 60_000 }, () => {
  it("gives routes without its own AS: refused until enforceFirstAS is off, and those without any AS for ever", async context => {
    const announces = [
      { prefix: "198.51.100.0/24", path: [64999, 64998] },
      { prefix: "2001:db8:51::/48", path: [64999] },
      { prefix: "203.0.113.0/24" },
    ];
    const { scene, speaker, config } = await pair(context, bird, { theirs: { announces }, theirPeer: { routeServerClient: true } });
    await up(speaker);
    const reasons = async () => {
      const { routes } = await speaker.routes({ neighbor: "them", limit: 100 });
      return Object.fromEntries(routes.map(route => [route.prefix, route.best ? "best" : route.reason]));
    };
    await until(async () =>
      expect(await reasons()).toEqual({
        "198.51.100.0/24": expect.stringMatching(/does not begin with 65002.*enforceFirstAS: false/),
        "2001:db8:51::/48": expect.stringMatching(/does not begin with 65002/),
        "203.0.113.0/24": expect.stringContaining("empty AS path"),
      }),
    );
    expect([...scene.routes().keys()]).toEqual([]);
    await speaker.apply({ ...config, neighbors: config.neighbors.map(each => ({ ...each, enforceFirstAs: false })) });
    await until(async () => {
      expect(await reasons()).toEqual({
        "198.51.100.0/24": "best",
        "2001:db8:51::/48": "best",
        "203.0.113.0/24": expect.stringContaining("empty AS path"),
      });
      expect([...scene.routes().keys()].sort()).toEqual(["198.51.100.0/24", "2001:db8:51::/48"]);
    });
    expect((await speaker.neighbor("them")).counters.establishedCount).toBe(1);
  });
});
