/** Route reflection (RFC 4456) with FRR and BIRD: as the reflector, and as a client of each. */
import { describe, expect, it } from "vitest";
import { daemons } from "./daemons.ts";
import { lacking, Scene, US, until } from "./scene.ts";
import { neighbor, network, speakerConfig } from "./speaker.ts";

const { frr, bird, gobgp } = daemons;
const ASN = 65001;
const why = lacking(frr, bird, gobgp);
const toUs = [{ address: US, asn: ASN }];

describe.skipIf(why)(`AS ${ASN}${why ? ` (skipped: ${why})` : ""}`, { concurrent: true, timeout: 60_000 }, () => {
  it("we reflect between FRR and BIRD as clients and GoBGP as none", async context => {
    const scene = new Scene(context);
    const announce = (n: number) => ({
      announces: [
        { prefix: `198.51.10${n}.0/24`, communities: [`65001:${n}`], med: 5 },
        { prefix: `2001:db8:10${n}::/48`, communities: [`65001:${n}`] },
      ],
    });
    const [two, three, four] = await Promise.all([
      scene.daemon(frr, 2, { asn: ASN, peers: toUs, ...announce(2) }),
      scene.daemon(bird, 3, { asn: ASN, peers: toUs, ...announce(3) }),
      scene.daemon(gobgp, 4, { asn: ASN, peers: toUs, ...announce(4) }),
      scene.speaker(
        speakerConfig({
          asn: ASN,
          routerId: US,
          clusterId: "9.9.9.9",
          neighbors: [2, 3, 4].map(n =>
            neighbor({ name: `host${n}`, address: `10.0.0.${n}`, remoteAsn: "internal", routeReflectorClient: n !== 4 }),
          ),
        }),
      ),
    ]);
    const reflected = (n: number, family: 4 | 6) => ({
      asPath: "",
      nextHop: family === 4 ? `10.0.0.${n}` : `2001:db8::${n}`,
      localPref: 100,
      communities: [`65001:${n}`],
    });
    const path = (n: number) => ({ originatorId: `10.0.0.${n}`, clusterList: ["9.9.9.9"] });
    await until(async () => {
      // Client to client.
      expect(await two.daemon.route("198.51.103.0/24")).toMatchObject({ ...reflected(3, 4), ...path(3), med: 5 });
      expect(await two.daemon.route("2001:db8:103::/48")).toMatchObject({ ...reflected(3, 6), ...path(3) });
      expect(await three.daemon.route("198.51.102.0/24")).toMatchObject({ ...reflected(2, 4), ...path(2), med: 5 });
      expect(await three.daemon.route("2001:db8:102::/48")).toMatchObject({ ...reflected(2, 6), ...path(2) });
      // Non-client to client, and back.
      expect(await two.daemon.route("198.51.104.0/24")).toMatchObject({ ...reflected(4, 4), ...path(4) });
      expect(await three.daemon.route("2001:db8:104::/48")).toMatchObject({ ...reflected(4, 6), ...path(4) });
      expect(await four.daemon.route("198.51.102.0/24")).toMatchObject({ nextHop: "10.0.0.2", communities: ["65001:2"] });
      expect(await four.daemon.route("2001:db8:103::/48")).toMatchObject({ nextHop: "2001:db8::3", communities: ["65001:3"] });
    });
  });

  for (const kind of [frr, bird]) {
    const client = kind === frr ? bird : frr;
    it(`${kind.name} reflects between us and ${client.name}`, async context => {
      const scene = new Scene(context);
      const clients = [US, "10.0.0.3"].map(address => ({ address, asn: ASN, client: true }));
      const [, other, speaker] = await Promise.all([
        scene.daemon(kind, 2, { asn: ASN, peers: clients, clusterId: "8.8.8.8" }),
        scene.daemon(client, 3, {
          asn: ASN,
          peers: [{ address: "10.0.0.2", asn: ASN }],
          announces: [{ prefix: "198.51.103.0/24", communities: ["65001:3"] }, { prefix: "2001:db8:103::/48" }],
        }),
        scene.speaker(
          speakerConfig({
            asn: ASN,
            routerId: US,
            neighbors: [neighbor({ address: "10.0.0.2", remoteAsn: "internal" })],
            networks: [network("203.0.113.0/24", { communities: ["65001:1"], localPref: 150 })],
          }),
        ),
      ]);
      await until(async () => {
        const route = await speaker.route("198.51.103.0/24");
        expect(route).toMatchObject({ best: true, attributes: { nextHop: "10.0.0.3", localPref: 100, communities: ["65001:3"] } });
        expect(route?.attributes).toMatchObject({ originatorId: "10.0.0.3", clusterList: ["8.8.8.8"], asPath: "" });
        expect((await speaker.route("2001:db8:103::/48"))?.attributes).toMatchObject({ nextHop: "2001:db8::3", originatorId: "10.0.0.3" });
        expect(await other.daemon.route("203.0.113.0/24")).toMatchObject({
          nextHop: US,
          localPref: 150,
          communities: ["65001:1"],
          originatorId: US,
          clusterList: ["8.8.8.8"],
        });
      });
      await until(() => expect(scene.routes().get("198.51.103.0/24")).toMatchObject({ gateway: "10.0.0.3" }));
      // Forwarding goes to the client itself, not through the reflector.
      expect(scene.routes().get("2001:db8:103::/48")).toMatchObject({ gateway: "2001:db8::3" });
    });
  }
});
