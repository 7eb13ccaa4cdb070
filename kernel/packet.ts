/** packet(7): frames as they are, out of a link of this namespace. */
import { closeSync } from "node:fs";
import * as C from "./constants.ts";
import * as libc from "./libc.ts";

/** From the Ethernet header on. Throws SystemCallError. */
export function sendFrames(ifindex: number, frames: readonly Uint8Array[]): void {
  const purpose = `send a frame to ifindex ${ifindex}`;
  // Protocol 0: nothing is received.
  const fd = libc.socket(C.AF_PACKET, C.SOCK_RAW | C.SOCK_CLOEXEC, 0, purpose);
  try {
    // struct sockaddr_ll.
    const address = new Uint8Array(20);
    const view = new DataView(address.buffer);
    view.setUint16(0, C.AF_PACKET, true);
    view.setInt32(4, ifindex, true);
    libc.bind(fd, address, purpose);
    for (const frame of frames) libc.send(fd, frame, frame.length, 0, purpose);
  } finally {
    closeSync(fd);
  }
}
