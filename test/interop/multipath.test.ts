/** One prefix from two real daemons: one multipath route in the kernel, which shrinks and grows with them (RFC 4271 section 9.1, ECMP). */
import { describe, expect, it } from "vitest";
import { daemons } from "./daemons.ts";
import { lacking, Scene, US, until } from "./scene.ts";
import { neighbor, speakerConfig } from "./speaker.ts";

const { frr, bird } = daemons;
const why = lacking(frr, bird);

describe.skipIf(why)(`FRR and BIRD announce the same${why ? ` (skipped: ${why})` : ""}`, { timeout: 60_000 }, () => {
  it("the kernel shares the load, keeps the one that stays, and takes the other back", async context => {
    const scene = new Scene(context);
    const plan = {
      asn: 65002,
      peers: [{ address: US, asn: 65001 }],
      announces: [{ prefix: "198.51.100.0/24" }, { prefix: "2001:db8:51::/48" }],
    };
    const [, two, speaker] = await Promise.all([
      scene.daemon(frr, 2, { ...plan, announces: plan.announces.map(each => ({ ...each, med: 0 })) }),
      scene.daemon(bird, 3, plan),
      scene.speaker(
        speakerConfig({
          asn: 65001,
          routerId: US,
          neighbors: [2, 3].map(n => neighbor({ name: `host${n}`, address: `10.0.0.${n}`, remoteAsn: 65002 })),
        }),
      ),
    ]);
    const hops = (prefix: string) => {
      const route = scene.routes().get(prefix);
      return route?.nexthops?.map(hop => hop.gateway).sort() ?? (route?.gateway ? [route.gateway] : []);
    };
    const both = () => {
      expect(hops("198.51.100.0/24")).toEqual(["10.0.0.2", "10.0.0.3"]);
      expect(hops("2001:db8:51::/48")).toEqual(["2001:db8::2", "2001:db8::3"]);
    };
    await until(both);
    expect((await speaker.routes({ prefix: "198.51.100.0/24" })).routes.map(route => route.multipath)).toEqual([true, true]);
    await two.daemon.process.query("disable peer0");
    await until(() => {
      expect(hops("198.51.100.0/24")).toEqual(["10.0.0.2"]);
      expect(hops("2001:db8:51::/48")).toEqual(["2001:db8::2"]);
    });
    await two.daemon.process.query("enable peer0");
    await until(both);
  });
});
