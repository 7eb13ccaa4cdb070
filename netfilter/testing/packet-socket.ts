/** For tests: a packet(7) socket on a link of some namespace, which sends any frame and sees all that come. */
import { closeSync } from "node:fs";
import * as C from "../../kernel/constants.ts";
import * as libc from "../../kernel/libc.ts";
import { withNetns } from "../../kernel/netns.ts";
import { hexOf } from "../../net/octets.ts";

const ETH_P_ALL = 3;
const LARGEST_FRAME = 65536;

export interface PacketSocket {
  /** Hexadecimal, from the Ethernet header on. */
  send(frame: string): void;
  /** What has come since the last call. */
  received(): string[];
  close(): void;
}

export function openPacketSocket(netns: string, link: string): PacketSocket {
  const protocol = ETH_P_ALL << 8;
  const fd = withNetns(netns, () => {
    const socket = libc.socket(C.AF_PACKET, C.SOCK_RAW | C.SOCK_CLOEXEC, protocol, "open a packet socket");
    // struct sockaddr_ll.
    const address = new Uint8Array(20);
    const view = new DataView(address.buffer);
    view.setUint16(0, C.AF_PACKET, true);
    view.setUint16(2, protocol, true);
    view.setInt32(4, libc.interfaceIndex(link), true);
    libc.bind(socket, address, "bind a packet socket");
    return socket;
  });
  const buffer = new Uint8Array(LARGEST_FRAME);
  return {
    send(frame) {
      const octets = Buffer.from(frame, "hex");
      libc.send(fd, octets, octets.length, 0, "send a frame");
    },
    received() {
      const frames: string[] = [];
      for (let length = libc.recv(fd, buffer, C.MSG_DONTWAIT); length > 0; length = libc.recv(fd, buffer, C.MSG_DONTWAIT)) {
        frames.push(hexOf(buffer.subarray(0, length)));
      }
      return frames;
    },
    close: () => closeSync(fd),
  };
}
