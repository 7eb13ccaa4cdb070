/** Plays what came in, in a recording, to a new speaker, on a fake clock; gives what this one does. */
import type { KernelAccess } from "../../kernel/index.ts";
import type { KernelEvent, Rtnetlink } from "../../kernel/types.ts";
import { hexOf } from "../../net/octets.ts";
import { MemoryLog } from "../session/testing.ts";
import type { Endpoint, Wire, WireHandler } from "../session/wire.ts";
import { Speaker } from "../speaker.ts";
import { FakeClock } from "./fake-clock.ts";
import { type Entry, fromPlain, type Output, octetsOf, type PlainEndpoint } from "./recording.ts";

const nowhere: Endpoint = { address: new Uint8Array(4), port: 0 };

/** The speaker stays, for questions. Throws where it asks the kernel for what was not asked, or connects to whom it did not. */
export async function replay(entries: readonly Entry[]): Promise<{ outputs: ({ at: number } & Output)[]; speaker: Speaker }> {
  const clock = new FakeClock();
  const outputs: ({ at: number } & Output)[] = [];
  const note = (output: Output) => outputs.push({ at: clock.monotonic(), ...output });
  const handlers = new Map<number, WireHandler>();
  const randoms = entries.flatMap(entry => (entry.type === "random" ? [entry.value] : []));
  const connects = entries.flatMap(entry => (entry.type === "connect" ? [entry] : []));
  const answers = entries.flatMap(entry => (entry.type === "answer" ? [entry] : []));
  const rooms = new Map<number, boolean[]>();
  for (const entry of entries) if (entry.type === "written") rooms.set(entry.id, [...(rooms.get(entry.id) ?? []), entry.room]);
  const ends = new Map<number, { local: Endpoint; remote: Endpoint }>();

  const wire = (id: number): Wire => ({
    get local() {
      return ends.get(id)?.local ?? nowhere;
    },
    get remote() {
      return ends.get(id)?.remote ?? nowhere;
    },
    write: octets => {
      const room = rooms.get(id)?.shift() ?? true;
      note({ type: "written", id, octets: hexOf(octets), room });
      return room;
    },
    close: async last => {
      handlers.delete(id);
      note({ type: "close", id, ...(last && { octets: hexOf(last) }) });
    },
  });
  const sessions = new Map<string, { accept(incoming: Parameters<Accept>[0]): void }>();
  const watchers = new Set<(events: KernelEvent[]) => void>();
  const kernel: KernelAccess = {
    watch: listener => {
      watchers.add(listener);
      return () => watchers.delete(listener);
    },
    netlink: new Proxy({} as Rtnetlink, {
      get: (_, name) => () => {
        const next = answers.shift();
        if (next?.question !== name)
          throw new Error(`the kernel is asked for ${String(name)}, and ${next?.question ?? "nothing"} was asked`);
        return fromPlain(next.answer);
      },
    }),
  };
  const speaker = new Speaker(
    {
      clock,
      log: new MemoryLog(),
      random: () => randoms.shift() ?? 0.5,
      ...(answers.length > 0 && { kernel }),
    },
    {
      transport: ({ config }) => ({
        connect: handler => {
          const next = connects.shift();
          if (next?.neighbor !== config.name) throw new Error(`it connects to ${config.name}, and not to ${next?.neighbor ?? "anybody"}`);
          handlers.set(next.id, handler);
          note({ type: "connect", id: next.id, neighbor: config.name });
          return wire(next.id);
        },
      }),
      listener: () => ({
        listening: [],
        problems: () => [],
        setNeighbors: list => {
          for (const { config, session } of list) sessions.set(config.name, session);
        },
        start: () => {},
        close: async () => {},
      }),
    },
  );

  for (const entry of entries) {
    await advanceTo(clock, entry.at);
    play(entry);
  }
  await advanceTo(clock, clock.monotonic() + 1);
  return { outputs, speaker };

  function play(entry: Entry): void {
    switch (entry.type) {
      case "apply":
        speaker.apply(structuredClone(entry.config));
        return;
      case "networks":
        speaker.changeNetworks(new Map(entry.changes.map(([prefix, network]) => [prefix, network ?? undefined])));
        return;
      case "accept": {
        const { id } = entry;
        const [local, remote] = [endOf(entry.local), endOf(entry.remote)];
        ends.set(id, { local, remote });
        sessions.get(entry.neighbor)?.accept({
          local,
          remote,
          attach: handler => {
            handlers.set(id, handler);
            return wire(id);
          },
          refuse: async last => void note({ type: "close", id, octets: hexOf(last) }),
        });
        return;
      }
      case "opened":
        ends.set(entry.id, { local: endOf(entry.local), remote: endOf(entry.remote) });
        handlers.get(entry.id)?.opened();
        return;
      case "received":
        handlers.get(entry.id)?.received(octetsOf(entry.octets));
        return;
      case "closed":
        handlers.get(entry.id)?.closed(entry.reason);
        return;
      case "writable":
        handlers.get(entry.id)?.writable();
        return;
      case "progressed":
        handlers.get(entry.id)?.progressed();
        return;
      case "kernel":
        for (const listener of watchers) listener(fromPlain(entry.events) as KernelEvent[]);
    }
  }
}

type Accept = import("../session/session.ts").AcceptingSession["accept"];

function endOf({ address, port }: PlainEndpoint): Endpoint {
  return { address: octetsOf(address), port };
}

/** Timers run at their times, and the turns of the event loop in which tables are worked on. */
async function advanceTo(clock: FakeClock, time: number): Promise<void> {
  for (;;) {
    if (clock.monotonic() >= time) return;
    for (let n = 0; n < 3; n++) await new Promise(resolve => setImmediate(resolve));
    clock.advance(Math.min(clock.next ?? Number.POSITIVE_INFINITY, time - clock.monotonic()));
  }
}
