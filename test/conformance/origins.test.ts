/** A reflector checks of its clients, octet by octet, that what they send is theirs (RFC 4456 section 8); what it passes on, others can check. */
import { afterEach, describe, expect, it, vi } from "vitest";
import type { OriginConfig } from "../../bgpd/config.ts";
import { asPath, attribute, localPref, nextHop, nlri, origin, update } from "./octets.ts";
import { Holdings } from "./raw-peer.ts";
import { ASN, lacking, type Party, useScene } from "./scene.ts";

describe.skipIf(lacking)(`a reflector and its clients${lacking ? ` (${lacking})` : ""}`, () => {
  const holder = useScene();
  const used: Party[] = [];
  afterEach(async () => {
    for (const each of used.splice(0)) each.close();
    await holder.scene.apply({ neighbors: [], origins: undefined });
  });
  const until = (check: () => void) => vi.waitFor(check, { timeout: 10_000, interval: 10 });
  const node = ({ name, address }: Party, at: number): OriginConfig => {
    return { name, routerId: address, asn: ASN, ranges: [`10.244.${at}.0/24`], prefixes: [], lists: [] };
  };
  const routes = (prefixes: string[], originator?: Party) =>
    update({
      attributes: [
        origin(),
        asPath(),
        nextHop("10.0.0.2"),
        localPref(100),
        ...(originator
          ? [attribute(0x80, 9, Uint8Array.from(originator.address.split("."), Number)), attribute(0x80, 10, "01010101")]
          : []),
      ],
      nlri: nlri(...prefixes),
    });

  it("hears others' routes from neither of them, and tells whose the rest is", async () => {
    const { scene } = holder;
    const parties = await scene.parties(3, { remoteAsn: "internal", routeReflectorClient: true });
    used.push(...parties);
    const [hostile, victim, listener] = parties;
    const neighbors = scene.config.neighbors.map(one => ({ ...one, origin: { node: one.name, reflects: false } }));
    await scene.apply({ neighbors, origins: { nodes: parties.map(node), lists: {} } });
    const sink = await listener.establish();
    const [evil, good] = [await hostile.establish(), await victim.establish()];
    evil.send(
      routes(["10.244.0.0/24", "10.244.1.0/25", "10.244.1.7/32", "0.0.0.0/1"]),
      routes(["10.244.1.8/32", "10.244.0.8/32"], victim),
      routes(["10.244.0.9/32"], hostile),
    );
    good.send(routes(["10.244.1.0/24"]));
    const heard = new Holdings({ internal: true });
    await until(() => expect([...heard.read(sink).routes.keys()].sort()).toEqual(["10.244.0.0/24", "10.244.0.9/32", "10.244.1.0/24"]));
    expect(heard.routes.get("10.244.1.0/24")?.originatorId).toBe(victim.address);
    expect(heard.routes.get("10.244.0.0/24")?.originatorId).toBe(hostile.address);

    const reasons = [...(await hostile.routes())].map(([prefix, { eligible, reason }]) => [prefix, eligible ? "" : reason]);
    const refused = "not the neighbour's to announce: ";
    const forged = `${refused}ORIGINATOR_ID ${victim.address} is not that of node ${hostile.name}, ${hostile.address}, and it reflects no routes`;
    expect(Object.fromEntries(reasons)).toMatchObject({
      "10.244.0.0/24": "",
      "10.244.0.9/32": "",
      "10.244.1.0/25": `${refused}10.244.1.0/24 is a pod subnet of node ${victim.name}, not of node ${hostile.name}`,
      "10.244.1.7/32": `${refused}10.244.1.0/24 is a pod subnet of node ${victim.name}, not of node ${hostile.name}`,
      "10.244.1.8/32": forged,
      "10.244.0.8/32": forged,
    });
    const { families } = await hostile.snapshot();
    expect(families["ipv4-unicast"]?.rejectedBecause).toEqual({ Origin: 3, Originator: 2 });

    // What was believed before the change is told again, and taken back with it.
    await scene.apply({ origins: undefined });
    await until(() => expect(heard.read(sink).routes.has("0.0.0.0/1")).toBe(true));
    await scene.apply({ origins: { nodes: parties.map(node), lists: {} } });
    await until(() => expect([...heard.read(sink).routes.keys()].sort()).toEqual(["10.244.0.0/24", "10.244.0.9/32", "10.244.1.0/24"]));
  });
});
