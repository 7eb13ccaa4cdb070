/** Joins a descriptor to the event loop (uv_poll, through koffi), for what node:net and node:dgram do not know: netlink, raw sockets. */
import koffi from "koffi";

export interface PollInterest {
  readable?: boolean;
  writable?: boolean;
}

export interface DescriptorPoll {
  /** Changes what is waited for. */
  update(interest: PollInterest): void;
  /** Keeps the process alive no longer; ref() is the default. */
  unref(): void;
  /** No callback comes after it. To be called before the descriptor is closed; more than once is harmless. */
  close(): void;
}

/** Calls back from the event loop as long as (level-triggered) the descriptor is what `interest` says. An error state counts as readable. */
export function pollDescriptor(
  fd: number,
  interest: PollInterest,
  callback: (ready: { readable: boolean; writable: boolean }) => void,
): DescriptorPoll {
  let open = true;
  const notify = (ready: { readable: boolean; writable: boolean }) => {
    if (open) callback(ready);
  };
  const handle = koffi.node.poll(fd, options(interest), notify);
  return {
    update(next) {
      if (open) handle.start(options(next), notify);
    },
    unref() {
      if (open) handle.unref();
    },
    close() {
      // A second close(), or stop() after close(), ends the process inside libuv.
      if (open) handle.close();
      open = false;
    },
  };
}

function options(interest: PollInterest): { readable: boolean; writable: boolean } {
  return { readable: interest.readable === true, writable: interest.writable === true };
}
