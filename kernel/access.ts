/** The kernel of one network namespace as a program uses it: questions and changes by one socket, events by another. */
import { type EventTopic, watchKernel } from "./monitor.ts";
import { openRtnetlink } from "./rtnetlink.ts";
import type { KernelEvent, Rtnetlink } from "./types.ts";

export interface KernelAccess {
  netlink: Rtnetlink;
  /** Events of this namespace; returns how to stop. */
  watch(listener: (events: KernelEvent[]) => void): () => void;
}

export interface KernelOptions {
  /** Path of the namespace; absent: that of the calling thread. */
  netns?: string;
  /** Absent: link, address, route. */
  topics?: readonly EventTopic[];
  /** Tell what our own writes cause as well. */
  ownEvents?: boolean;
}

/** close() ends all watching, too. */
export function openKernel({ netns, topics, ownEvents = false }: KernelOptions = {}): KernelAccess & { close(): void } {
  const netlink = openRtnetlink({ netns });
  const stops = new Set<() => void>();
  return {
    netlink,
    watch(listener) {
      const stop = watchKernel({ netns, topics, ignore: ownEvents ? [] : [netlink.port] }, listener);
      stops.add(stop);
      return () => {
        stops.delete(stop);
        stop();
      };
    },
    close() {
      for (const stop of stops) stop();
      stops.clear();
      netlink.close();
    },
  };
}
