/** rtnetlink notifications (rtnetlink(7)): links, addresses, routes and neighbours of one namespace, burst by burst. */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { decodeAddress } from "./address.ts";
import * as C from "./constants.ts";
import { SystemCallError } from "./error.ts";
import { routesNotOf } from "./filter.ts";
import * as libc from "./libc.ts";
import { decodeLink } from "./link.ts";
import { type Message, toBytes } from "./message.ts";
import { decodeNeighbour } from "./neighbour.ts";
import { forEachMessage, holdNetns, openNetlinkDescriptor } from "./netlinksocket.ts";
import { pollDescriptor } from "./poll.ts";
import { decodeRoute } from "./route.ts";
import type { KernelEvent, Route, RouteOrder } from "./types.ts";

export type EventTopic = "link" | "address" | "route" | "neighbour" | "configuration";

export interface WatchOptions {
  /** Path of the namespace; absent: that of the calling thread. */
  netns?: string;
  /** Absent: link, address, route. Neighbours come by the thousand where a pod makes them up: only for who uses them. */
  topics?: readonly EventTopic[];
  /** Leaves out the route events that these netlink ports caused themselves (RtnetlinkSocket.port): the kernel does not even queue them. At most 200. */
  ignore?: readonly number[];
  /** Octets that the kernel keeps for us while we are busy, about 400 for each event; default 8 MiB (the kernel doubles it). */
  bufferSize?: number;
}

const groups: Record<EventTopic, number> = {
  link: C.RTMGRP_LINK,
  address: C.RTMGRP_IPV4_IFADDR | C.RTMGRP_IPV6_IFADDR,
  route: C.RTMGRP_IPV4_ROUTE | C.RTMGRP_IPV6_ROUTE,
  neighbour: C.RTMGRP_NEIGH,
  configuration: C.RTMGRP_IPV4_NETCONF | C.RTMGRP_IPV6_NETCONF,
};
const usual: readonly EventTopic[] = ["link", "address", "route"];

/** Datagrams read before the event loop gets its turn: about 2 ms of work. */
const BURST = 1000;
const { EAGAIN, EINTR, ENOBUFS } = constants.errno;

// One buffer serves all sockets of the thread: what it receives is decoded at once.
const buffer = toBytes(new Uint8Array(1 << 17));

export interface Watch {
  /** All events that have come and not been told, for whoever shall hear of them before something new is begun. */
  read(): KernelEvent[];
  close(): void;
}

/**
 * Calls `listener` with the events since the last call, in order, until it is closed. What happens after watchKernel()
 * returned is reported; what was there before is not, so dump after watching. A single event may report less than the whole of a route: the
 * kernel announces the loss of one IPv6 multipath member by itself. IPv4 routes that vanish with their link are not announced at all.
 */
export function watchKernel(options: WatchOptions, listener: (events: KernelEvent[]) => void): Watch {
  const netns = holdNetns(options.netns);
  const { ignore = [] } = options;
  let fd: number;
  try {
    const topics = options.topics ?? usual;
    fd = openNetlinkDescriptor(
      netns,
      topics.reduce((mask, topic) => mask | groups[topic], 0),
      { bufferSize: options.bufferSize, filter: ignore.length > 0 ? routesNotOf(ignore) : undefined },
    );
  } finally {
    netns.close();
  }
  const poll = pollDescriptor(fd, { readable: true }, () => {
    const events = drain(fd, BURST);
    if (events.length > 0) listener(events);
  });
  let open = true;
  return {
    read: () => (open ? drain(fd, Number.POSITIVE_INFINITY) : []),
    close() {
      if (!open) return;
      open = false;
      poll.close();
      closeSync(fd);
    },
  };
}

function drain(fd: number, limit: number): KernelEvent[] {
  const events: KernelEvent[] = [];
  for (let datagrams = 0; datagrams < limit; datagrams++) {
    const received = libc.recv(fd, buffer.u8, C.MSG_DONTWAIT | C.MSG_TRUNC);
    if (received === -EAGAIN) break;
    if (received === -EINTR) continue;
    if (received === -ENOBUFS || received > buffer.u8.length) {
      if (events.at(-1)?.type !== "overrun") events.push({ type: "overrun" });
      continue;
    }
    if (received < 0) throw new SystemCallError("recv", -received, "read kernel events");
    forEachMessage(buffer, received, message => {
      const event = decodeEvent(message);
      if (event !== undefined) events.push(event);
    });
  }
  return events;
}

/** undefined for what is no notification of these kinds. */
export function decodeEvent(message: Message): KernelEvent | undefined {
  switch (message.type) {
    case C.RTM_NEWLINK:
    case C.RTM_DELLINK: {
      const link = decodeLink(message);
      return link && { type: "link", action: message.type === C.RTM_NEWLINK ? "new" : "delete", link };
    }
    case C.RTM_NEWADDR:
    case C.RTM_DELADDR: {
      const address = decodeAddress(message);
      return address && { type: "address", action: message.type === C.RTM_NEWADDR ? "new" : "delete", address };
    }
    case C.RTM_NEWROUTE: {
      const route = decodeRoute(message);
      return route && { type: "route", action: "new", route, order: orderOf(message.flags, route) };
    }
    case C.RTM_DELROUTE: {
      const route = decodeRoute(message);
      return route && { type: "route", action: "delete", route };
    }
    case C.RTM_NEWNEIGH:
    case C.RTM_DELNEIGH: {
      const neighbour = decodeNeighbour(message);
      return neighbour && { type: "neighbour", action: message.type === C.RTM_NEWNEIGH ? "new" : "delete", neighbour };
    }
    case C.RTM_NEWNETCONF:
      return { type: "configuration" };
    default:
      return undefined;
  }
}

/** The flags of a notification say what became of the request, not what was asked (net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c). */
function orderOf(flags: number, { family }: Route): RouteOrder {
  if ((flags & C.NLM_F_REPLACE) !== 0) return "replace";
  return family === 6 || (flags & C.NLM_F_APPEND) !== 0 ? "append" : "prepend";
}
