/** Sessions over their life, seen from the wire: timers, segments of any size, collisions, strangers, half-open connections (RFC 4271 sections 4.4, 6.5, 6.8). */
import type { Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, it, type TestContext } from "vitest";
import { listenSocket } from "../../kernel/index.ts";
import { parseAddress } from "../../net/address.ts";
import { asPath, KEEPALIVE, nextHop, nlri, notification, octets, origin, Type, update } from "./octets.ts";
import { RawPeer } from "./raw-peer.ts";
import { lacking, type Party, type Scene, US, useScene } from "./scene.ts";

const route = (prefix: string) => update({ attributes: [origin(), asPath(65002), nextHop("10.0.0.2")], nlri: nlri(prefix) });

/** Where the speaker connects to: connections in the order in which they come. */
function listen(scene: Scene, party: Party, context: TestContext) {
  const peers: RawPeer[] = [];
  const waiting: (() => void)[] = [];
  const { server } = listenSocket({ netns: scene.them, address: parseAddress(party.address), port: 179 }, (socket: Socket) => {
    peers.push(new RawPeer(socket));
    for (const wake of waiting.splice(0)) wake();
  });
  context.onTestFinished(() => {
    server.close();
    for (const peer of peers) peer.close();
  });
  return async (index: number) => {
    while (peers.length <= index) await new Promise<void>(resolve => waiting.push(resolve));
    return peers[index];
  };
}

describe.skipIf(lacking)(`a session${lacking ? ` (${lacking})` : ""}`, () => {
  const holder = useScene();

  describe.concurrent("keeps time", () => {
    it("hold time 3: a KEEPALIVE every second, 4/0 when nothing comes for 3 s", async ({ onTestFinished }) => {
      const party = await holder.scene.party();
      onTestFinished(() => party.close());
      const peer = await party.establish({ holdTime: 3 });
      const heard = performance.now();
      expect(await peer.dismissal()).toBe("4/0");
      const lasted = performance.now() - heard;
      expect(lasted).toBeGreaterThan(2800);
      expect(lasted).toBeLessThan(4500);
      const keepalives = peer.times.filter((_, i) => peer.messages[i][18] === Type.Keepalive);
      // The first answers the OPEN.
      const gaps = keepalives.slice(1).map((time, i) => time - keepalives[i]);
      expect(gaps.length).toBeGreaterThanOrEqual(2);
      expect(Math.max(...gaps)).toBeLessThan(1400);
      expect(Math.min(...gaps)).toBeGreaterThan(900);
    });

    it("UPDATEs hold the session as KEEPALIVEs do", async ({ onTestFinished }) => {
      const party = await holder.scene.party();
      onTestFinished(() => party.close());
      const peer = await party.establish({ holdTime: 3 });
      const until = performance.now() + 4500;
      for (let n = 0; performance.now() < until; n++) {
        peer.send(route(`198.18.${n}.0/24`));
        await pause(500);
      }
      expect(peer.ended).toBeUndefined();
      expect((await party.snapshot()).state).toBe("Established");
    });

    it("hold time 0: no KEEPALIVE but the first, and no end", async ({ onTestFinished }) => {
      const party = await holder.scene.party();
      onTestFinished(() => party.close());
      const peer = await party.establish({ holdTime: 0 });
      await pause(4500);
      expect(peer.ended).toBeUndefined();
      expect(peer.messages.filter(octets => octets[18] === Type.Keepalive)).toHaveLength(1);
    });

    it("nobody but the neighbour waits for one that connects and says nothing", async ({ onTestFinished }) => {
      const [mute, other] = await holder.scene.parties(2);
      onTestFinished(() => {
        mute.close();
        other.close();
      });
      const silent = await mute.connect();
      await silent.take(Type.Open);
      await other.establish();
      const newer = await mute.connect();
      expect(await silent.dismissal()).toBe("6/7");
      await newer.establish(mute.open());
      await mute.until(({ state }) => expect(state).toBe("Established"));
    });
  });

  it("is made of octets that come one by one", async ({ onTestFinished }) => {
    const party = await holder.scene.party();
    onTestFinished(() => party.close());
    const peer = await party.connect();
    for (const octet of octets(party.open(), KEEPALIVE, route("203.0.113.0/24"), KEEPALIVE)) await peer.pour(octets(octet));
    await party.until(({ families }) => expect(families["ipv4-unicast"]?.accepted).toBe(1));
    expect((await party.snapshot()).counters.messagesIn).toMatchObject({ open: 1, keepalive: 2, update: 1 });
  });

  it("is made of one segment with OPEN, KEEPALIVE and 500 UPDATEs, and of pieces of any size", async ({ onTestFinished }) => {
    const parties = await holder.scene.parties(5);
    onTestFinished(() => parties.forEach(party => void party.close()));
    const updates = Array.from({ length: 500 }, (_, n) => route(`100.64.${n >> 8}.${n & 255}/32`));
    for (const [i, party] of parties.entries()) {
      const peer = await party.connect();
      const all = octets(party.open(), KEEPALIVE, ...updates);
      const size = [all.length, 7, 19, 1448, 4095][i];
      for (let at = 0; at < all.length; at += size) await peer.pour(all.subarray(at, at + size));
    }
    for (const party of parties) await party.until(({ families }) => expect(families["ipv4-unicast"]?.accepted).toBe(500));
  });

  it("stays when a second connection comes, which hears 6/7; the first hears a KEEPALIVE", async ({ onTestFinished }) => {
    const party = await holder.scene.party();
    onTestFinished(() => party.close());
    const peer = await party.establish();
    const before = peer.messages.filter(octets => octets[18] === Type.Keepalive).length;
    const second = await party.connect();
    expect(await second.dismissal()).toBe("6/7");
    await peer.until(() => peer.messages.filter(octets => octets[18] === Type.Keepalive).length > before, "a KEEPALIVE");
    expect((await party.snapshot()).state).toBe("Established");
  });

  it("can be made again at once after the neighbour closed, reset or ended it", async ({ onTestFinished }) => {
    const party = await holder.scene.party();
    onTestFinished(() => party.close());
    for (const end of ["close", "cease", "close", "cease"]) {
      const peer = await party.establish();
      if (end === "cease") peer.send(notification(6, 4));
      else peer.close();
      await party.until(({ state }) => expect(state).not.toBe("Established"));
    }
  });

  it("is not disturbed by 100 strangers at once", async ({ onTestFinished }) => {
    const [known, next] = await holder.scene.parties(2);
    onTestFinished(() => {
      known.close();
      next.close();
    });
    const peer = await known.establish();
    const strangers = await Promise.all(Array.from({ length: 100 }, (_, n) => RawPeer.connect(holder.scene.them, `10.0.11.${n + 1}`, US)));
    onTestFinished(() => strangers.forEach(each => void each.close()));
    await next.establish();
    const answers = await Promise.all(strangers.map(each => each.dismissal()));
    expect(answers).toContain("6/5");
    expect(answers.filter(each => each !== "6/5" && !/^(closed|reset) after $/.test(each))).toEqual([]);
    expect(peer.ended).toBeUndefined();
  });

  describe.each([
    { name: "higher", id: "200.0.0.1", kept: "theirs" },
    { name: "lower", id: "1.0.0.1", kept: "ours" },
  ])("after a collision with a $name identifier on the other side", ({ id, kept }) => {
    it.each(["the OPEN on theirs comes first", "the OPEN on ours comes first"])(`$kept is kept when %s`, async order => {
      const context = { ends: [] as (() => void)[] };
      const party = await holder.scene.party({ passive: false, connectRetryTime: 1 });
      const accepted = listen(holder.scene, party, { onTestFinished: (end: () => void) => context.ends.push(end) } as never);
      try {
        const ours = await accepted(0);
        const theirs = await party.connect();
        await ours.take(Type.Open);
        await theirs.take(Type.Open);
        const [first, second] = order.includes("theirs comes") ? [theirs, ours] : [ours, theirs];
        first.send(party.open({ id }));
        await first.take(Type.Keepalive);
        second.send(party.open({ id }));
        const [winner, loser] = kept === "theirs" ? [theirs, ours] : [ours, theirs];
        expect(await loser.dismissal()).toBe("6/7");
        if (winner === second) await winner.take(Type.Keepalive);
        winner.send(KEEPALIVE);
        await party.until(({ state, routerId }) => expect([state, routerId]).toEqual(["Established", id]));
        expect(winner.ended).toBeUndefined();
      } finally {
        party.close();
        for (const end of context.ends) end();
      }
    });
  });

  it("of an established neighbour is not lost to a connection of ours that is answered late", async context => {
    const party = await holder.scene.party({ passive: false, connectRetryTime: 1 });
    context.onTestFinished(() => party.close());
    const accepted = listen(holder.scene, party, context);
    const ours = await accepted(0);
    await ours.take(Type.Open);
    const theirs = await party.establish({ id: "1.0.0.1" });
    ours.send(party.open({ id: "1.0.0.1" }));
    expect(await ours.dismissal()).toBe("6/7");
    expect(theirs.ended).toBeUndefined();
    expect((await party.snapshot()).state).toBe("Established");
  });
});
