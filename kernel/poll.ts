/**
 * Joins a descriptor to the event loop (uv_poll, through koffi), for what node:net and node:dgram do not know: netlink, raw sockets.
 * This module is the only one that touches koffi.node.poll(), whose corners end the process or stop it silently; see the comments.
 */
import koffi from "koffi";

export interface PollInterest {
  readable?: boolean;
  writable?: boolean;
}

export interface DescriptorPoll {
  /** Changes what is waited for. */
  update(interest: PollInterest): void;
  /** Lets the process end although this is open. */
  unref(): void;
  /** No callback comes after it. To be called before the descriptor is closed; more than once is harmless. */
  close(): void;
}

type Handle = ReturnType<typeof koffi.node.poll>;
/** koffi's types leave out the first argument: 0, or a negative errno. */
type PollCallback = (status: number, events: { readable: boolean; writable: boolean }) => void;

// A handle that is collected as garbage stops polling.
const live = new Set<Handle>();

/**
 * Calls back from the event loop as long as (level-triggered) the descriptor is what `interest` says. A pending socket error counts as
 * both: the callback is to collect it, by recv(2) or SO_ERROR. What the callback throws is an uncaught exception, as in any event listener.
 */
export function pollDescriptor(
  fd: number,
  interest: PollInterest,
  callback: (ready: { readable: boolean; writable: boolean }) => void,
): DescriptorPoll {
  let wanted = options(interest);
  let open = true;
  let scheduled = false;
  const deliver = (status: number, ready: { readable: boolean; writable: boolean }) => {
    scheduled = false;
    if (!open) return;
    try {
      callback(ready);
    } finally {
      // At a socket error libuv has stopped polling (it says EBADF).
      if (open && status < 0) start(handle, wanted, notify);
    }
  };
  // koffi calls without a callback scope: an exception would end the process at the next garbage collection, and promises would not go on
  // until something else happens. An immediate runs in the same turn of the event loop, with both.
  const notify: PollCallback = (status, events) => {
    if (scheduled) return;
    scheduled = true;
    const ready =
      status < 0 ? { readable: wanted.readable, writable: wanted.writable } : { readable: events.readable, writable: events.writable };
    setImmediate(deliver, status, ready);
  };
  const handle = koffi.node.poll(fd, wanted, notify as unknown as () => void);
  live.add(handle);
  return {
    update(next) {
      wanted = options(next);
      if (open) start(handle, wanted, notify);
    },
    unref() {
      if (open) handle.unref();
    },
    close() {
      // A second close(), or stop() after close(), ends the process inside libuv.
      if (open) handle.close();
      open = false;
      live.delete(handle);
    },
  };
}

function start(handle: Handle, wanted: { readable: boolean; writable: boolean }, notify: PollCallback): void {
  handle.start(wanted, notify as unknown as () => void);
}

function options(interest: PollInterest): { readable: boolean; writable: boolean } {
  return { readable: interest.readable === true, writable: interest.writable === true };
}
