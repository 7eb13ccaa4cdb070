/** The kernel of one network namespace as a program uses it: questions and changes by one socket, events by another. */
import { type EventTopic, type Watch, watchKernel } from "./monitor.ts";
import { openRtnetlink } from "./rtnetlink.ts";
import type { KernelEvent, Rtnetlink } from "./types.ts";

type Listener = (events: KernelEvent[]) => void;

export interface KernelAccess {
  netlink: Rtnetlink;
  /** Events of this namespace from now on, of these topics or of all that are watched, and every overrun; returns how to stop. */
  watch(listener: Listener, topics?: readonly EventTopic[]): () => void;
}

export interface KernelOptions {
  /** Path of the namespace; absent: that of the calling thread. */
  netns?: string;
  /** What anybody will watch. Absent: link, address, route. */
  topics?: readonly EventTopic[];
  /** Tell what our own writes cause as well. */
  ownEvents?: boolean;
}

/** However many watch, the kernel tells each event once. close() ends all watching, too. */
export function openKernel({ netns, topics, ownEvents = false }: KernelOptions = {}): KernelAccess & { close(): void } {
  const netlink = openRtnetlink({ netns });
  const watch = new SharedWatch(tell => watchKernel({ netns, topics, ignore: ownEvents ? [] : [netlink.port] }, tell));
  return {
    netlink,
    watch: (listener, only) => watch.add(listener, only),
    close() {
      watch.close();
      netlink.close();
    },
  };
}

interface Watcher {
  listener: Listener;
  topics: ReadonlySet<string> | undefined;
}

/** One watch of the kernel for many listeners. */
class SharedWatch {
  readonly #open: (tell: Listener) => Watch;
  readonly #watchers = new Set<Watcher>();
  #watch: Watch | undefined;
  /** What has come, and who was there then. */
  #untold: { events: KernelEvent[]; watchers: readonly Watcher[] }[] = [];

  constructor(open: (tell: Listener) => Watch) {
    this.#open = open;
  }

  add(listener: Listener, topics?: readonly EventTopic[]): () => void {
    const watcher: Watcher = { listener, topics: topics && new Set<string>([...topics, "overrun"]) };
    // It reads the kernel after this: what came before would be old news to it, and undo what it read.
    const events = this.#watch?.read() ?? [];
    if (events.length > 0) {
      this.#untold.push({ events, watchers: [...this.#watchers] });
      setImmediate(() => this.#tellAll());
    }
    this.#watch ??= this.#open(events => {
      // Before anybody is told, who may begin another watch.
      this.#untold.push({ events, watchers: [...this.#watchers] });
      this.#tellAll();
    });
    this.#watchers.add(watcher);
    return () => {
      if (this.#watchers.delete(watcher) && this.#watchers.size === 0) this.close();
    };
  }

  close(): void {
    this.#watchers.clear();
    this.#watch?.close();
    this.#watch = undefined;
  }

  /** In order; an exception of one listener keeps nothing from the others. */
  #tellAll(): void {
    const failures: unknown[] = [];
    for (let batch = this.#untold.shift(); batch; batch = this.#untold.shift())
      for (const watcher of batch.watchers) this.#tell(watcher, batch.events, failures);
    if (failures.length > 0) throw failures[0];
  }

  #tell(watcher: Watcher, events: KernelEvent[], failures: unknown[]): void {
    const { listener, topics } = watcher;
    const concerned = topics ? events.filter(({ type }) => topics.has(type)) : events;
    // One before it may have ended this one.
    if (concerned.length === 0 || !this.#watchers.has(watcher)) return;
    try {
      listener(concerned);
    } catch (error) {
      failures.push(error);
    }
  }
}
