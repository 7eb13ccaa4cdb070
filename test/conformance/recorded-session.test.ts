/**
 * One real session of 89,679 UPDATEs replayed into the whole speaker over TCP, inside its AS and from outside: what is left is what was
 * announced, and a receiver behind us holds for every prefix what a receiver behind BIRD holds.
 */
import { describe, expect, it } from "vitest";
import type { NeighborConfig } from "../../bgpd/config.ts";
import { neighbor, openFamily, SpeakerProcess, speakerConfig } from "../interop/speaker.ts";
import { mrtMessages, readMrtFile, recordedSession } from "../mrt.ts";
import { missing, startBird } from "../neighbours.ts";
import { TestNetwork } from "../network.ts";
import { KEEPALIVE, open, Type } from "./octets.ts";
import { Holdings, RawPeer } from "./raw-peer.ts";
import { lacking } from "./scene.ts";

const { path, exists } = recordedSession();
const reason =
  lacking ?? (exists ? undefined : `the recorded session is not at ${path}; PODLANE_SHARED names the folder that holds vectors/`);
const RECORDED_ASN = 3856;
const FEEDER = "10.0.0.2";
const RECEIVER = "10.0.0.3";

interface Feed {
  octets: Uint8Array;
  /** What is left of it to a neighbour outside the AS. */
  routes: Holdings["routes"];
}

function recorded(): Uint8Array[] {
  const messages = [...mrtMessages(readMrtFile(path))].map(({ message }) => message);
  return messages.filter(message => message[18] === Type.Update);
}

/** A router at 10.0.0.1, and raw peers at 10.0.0.2 and 10.0.0.3 of another namespace. */
function wire() {
  const network = new TestNetwork();
  const us = network.namespace("us");
  const them = network.namespace("them");
  const device = "eth0";
  network.link(
    { namespace: us, device, addresses: ["10.0.0.1/24"] },
    { namespace: them, device, addresses: [`${FEEDER}/24`, `${RECEIVER}/24`] },
  );
  // The recorded next hops are somewhere: without a way to them no route could be used.
  network.exec(us, "ip", "route", "add", "default", "via", FEEDER);
  return { network, us, them: network.path(them) };
}

async function connect(netns: string, from: string, asn: number): Promise<RawPeer> {
  const peer = await RawPeer.connect(netns, from, "10.0.0.1");
  await peer.establish(open({ asn, id: from, holdTime: 0 }));
  return peer;
}

async function speaker(us: string, asn: number, change: Partial<NeighborConfig> = {}) {
  // Recorded inside an AS, some years ago: there are AS_SETs in it, and other ASes in front than the recorder's.
  const common = {
    passive: true,
    holdTime: 90,
    allowAsSets: true,
    enforceFirstAs: false,
    ...change,
    families: { "ipv4-unicast": openFamily },
  };
  const process = new SpeakerProcess(
    us,
    speakerConfig({
      asn,
      routerId: "10.0.0.1",
      fib: { enabled: false, table: 254, protocol: 201, metric: 0 },
      startupWait: 300,
      neighbors: [
        neighbor({ ...common, name: "feeder", address: FEEDER, remoteAsn: RECORDED_ASN, multihop: 2 }),
        neighbor({ ...common, name: "receiver", address: RECEIVER, remoteAsn: 65010, multihop: 2 }),
      ],
    }),
  );
  await process.started;
  return process;
}

/**
 * Feeds a router of AS 65000 that holds 10.0.0.1; returns what its receiver in AS 65010 has, and refuses, when all `whole` prefixes are there
 * as the feed left them.
 */
async function throughRouter(them: string, feed: Feed, whole: number): Promise<Holdings> {
  const receiver = await connect(them, RECEIVER, 65010);
  const feeder = await connect(them, FEEDER, RECORDED_ASN);
  const held = new Holdings({ tolerant: true });
  try {
    await feeder.pour(feed.octets);
    feeder.send(KEEPALIVE);
    const count = () => held.read(receiver).routes.size + held.refused.size;
    await receiver.until(() => count() === whole, `${whole} routes at the receiver`, 25_000);
    const right = (prefix: string) => held.routes.get(prefix)?.asPath === `65000 ${feed.routes.get(prefix)?.asPath}`.trim();
    const late = [...held.routes.keys()].filter(prefix => !right(prefix));
    await receiver.until(() => count() === whole && late.every(right), `the paths of the feed for ${late.slice(0, 5)}`);
    return held;
  } finally {
    feeder.close();
    receiver.close();
  }
}

describe.skipIf(reason)(`the recorded session${reason ? ` (${reason})` : ""}`, () => {
  it.each([
    // 177 have an AS_SET in their path.
    { where: "inside its AS", asn: RECORDED_ASN, change: { allowAsSets: false }, accepted: 577_526, refused: 177, withdrawn: 0 },
    // 83 have AS 65000 in their path, 2 have no AS there, and RFC 7607 takes 4 prefixes of one UPDATE with AS 0 in its path.
    { where: "from outside", asn: 65_000, change: {}, accepted: 577_614, refused: 85, withdrawn: 1 },
  ])("leaves $accepted prefixes $where", async ({ asn, change, accepted, refused, withdrawn }) => {
    const { network, us, them } = wire();
    const process = await speaker(us, asn, change);
    try {
      const feeder = await connect(them, FEEDER, RECORDED_ASN);
      await feeder.pour(Buffer.concat(recorded()));
      await expect
        .poll(async () => (await process.neighbor("feeder")).families["ipv4-unicast"]?.endOfRib, { timeout: 25_000, interval: 100 })
        .toBe(true);
      const { families, malformed, state } = await process.neighbor("feeder");
      expect(families["ipv4-unicast"]).toMatchObject({ received: accepted + refused, accepted, rejected: refused });
      expect(state).toBe("Established");
      expect(malformed).toMatchObject({ withdrawn, last: { text: expect.stringContaining("RFC 7607") } });
      const { tables } = await process.snapshot();
      expect(tables["ipv4-unicast"].paths).toBe(accepted + refused);
    } finally {
      await process.kill();
      network.dispose();
    }
  });

  it.skipIf(missing("bird"))("reaches a receiver behind us as it reaches one behind BIRD", { timeout: 90_000 }, async () => {
    const final = new Holdings({ tolerant: true });
    const messages = recorded();
    for (const message of messages) final.take(message);
    const feed = { octets: Buffer.concat(messages), routes: final.routes };
    const ours = await inWire(async (us, them) => {
      const process = await speaker(us, 65_000);
      try {
        return (await throughRouter(them, feed, 577_614)).routes;
      } finally {
        await process.kill();
      }
    });
    const theirs = await inWire(async (us, them) => {
      const bird = await startBird(
        us,
        `router id 10.0.0.1;
         protocol device {}
         ipv4 table ways;
         protocol static { ipv4 { table ways; }; route 0.0.0.0/0 via ${FEEDER}; }
         protocol bgp feeder { local as 65000; neighbor ${FEEDER} as ${RECORDED_ASN}; passive; multihop; ipv4 { igp table ways; import all; export none; }; }
         protocol bgp receiver { local as 65000; neighbor ${RECEIVER} as 65010; passive; multihop; ipv4 { import none; export all; }; }`,
      );
      try {
        return (await throughRouter(them, feed, 577_620)).routes;
      } finally {
        await bird.kill();
      }
    });
    const differences: Record<string, number> = {};
    for (const prefix of new Set([...ours.keys(), ...theirs.keys()])) {
      const [a, b] = [ours.get(prefix), theirs.get(prefix)];
      const what = !a
        ? "only BIRD"
        : !b
          ? "only we"
          : Object.keys({ ...a, ...b }).filter(key => String(a[key as "med"]) !== String(b[key as "med"]));
      const key = String(what);
      if (key !== "") differences[key] = (differences[key] ?? 0) + 1;
    }
    // BIRD passes on the 4 prefixes with AS 0 in their path, and AS 0 in 3 AGGREGATORs: the receiver refuses and discards those.
    // And it takes the 2 with no AS in their path, which come from outside.
    expect([ours.size, theirs.size, differences]).toEqual([577_614, 577_616, { "only BIRD": 2 }]);
  });
});

async function inWire<T>(work: (us: string, them: string) => Promise<T>): Promise<T> {
  const { network, us, them } = wire();
  try {
    return await work(us, them);
  } finally {
    network.dispose();
  }
}
