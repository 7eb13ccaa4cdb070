/**
 * Network namespaces (network_namespaces(7), setns(2)). A namespace is named by a path: /run/netns/NAME, /proc/PID/ns/net, or what a container
 * runtime hands over. setns(2) moves one thread, so the whole stay is one synchronous stretch on the calling thread.
 */
import { closeSync, openSync, statfsSync, statSync } from "node:fs";
import { setNetworkNamespace } from "./libc.ts";

/** Of the calling thread: /proc/self is the main thread's, which is wrong in a worker. */
export const OWN_NETNS = "/proc/thread-self/ns/net";

const NSFS_MAGIC = 0x6e736673;

/**
 * Runs `fn` in the namespace at `path` and returns what it returns. `fn` must be synchronous and must not start asynchronous work either:
 * a thread that libuv creates meanwhile would stay in that namespace.
 * Throws what opening the path throws (`code` ENOENT: the namespace is gone) and what `fn` throws. An Error that says "cannot leave network
 * namespace" means that the thread is still there: its process should end, every later socket would be in the wrong namespace.
 */
export function withNetns<T>(path: string, fn: () => T): T {
  const target = openNetns(path);
  try {
    return withNetnsFd(target.fd, fn, path);
  } finally {
    target.close();
  }
}

/** withNetns() for an open descriptor. `label` stands for it in error texts. */
export function withNetnsFd<T>(fd: number, fn: () => T, label = `descriptor ${fd}`): T {
  const own = openSync(OWN_NETNS, "r");
  try {
    setNetworkNamespace(fd, `enter network namespace ${label}`);
    let result: T;
    try {
      result = fn();
    } finally {
      goBack(own, label);
    }
    if (result instanceof Promise) {
      result.catch(() => {});
      throw new TypeError(`the function run in network namespace ${label} returned a promise; it must be synchronous`);
    }
    return result;
  } finally {
    closeSync(own);
  }
}

function goBack(own: number, label: string): void {
  try {
    setNetworkNamespace(own, "return to the own network namespace");
  } catch (error) {
    throw new Error(`cannot leave network namespace ${label}, restart the process`, { cause: error });
  }
}

/** Opens the namespace at `path`; the descriptor keeps it alive. Throws an error with `code` ENOENT when it is gone, EINVAL when it is none. */
export function openNetns(path: string): { fd: number; close(): void } {
  const fd = openSync(path, "r");
  if (!isNetns(path)) {
    closeSync(fd);
    throw Object.assign(new Error(`${path} is not a network namespace`), { code: "EINVAL" });
  }
  let open = true;
  return {
    fd,
    close() {
      if (open) closeSync(fd);
      open = false;
    },
  };
}

/** Identifies a namespace while it lives: equal numbers, same namespace. Throws with `code` ENOENT when the path is gone. */
export function netnsInode(path: string): number {
  return statSync(path).ino;
}

/** Whether the path is a namespace file (nsfs). False for an absent path and for a plain file that a namespace was mounted on before. */
export function isNetns(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}
