/** What ethtool(8) asks of a device, by ioctl (linux/ethtool.h): whether checksums of what is sent are left to the hardware. */
import { closeSync } from "node:fs";
import * as C from "./constants.ts";
import * as libc from "./libc.ts";
import { type HeldNetns, openNetlinkDescriptor } from "./netlinksocket.ts";

export function readChecksumOffload(netns: HeldNetns, name: string): boolean {
  return control(netns, name, Uint32Array.of(C.ETHTOOL_GTXCSUM, 0), `ask whether ${name} leaves checksums to the hardware`)[1] !== 0;
}

/** Segmentation offload follows: the kernel has none without checksums. */
export function writeChecksumOffload(netns: HeldNetns, name: string, on: boolean): void {
  control(netns, name, Uint32Array.of(C.ETHTOOL_STXCSUM, on ? 1 : 0), `turn checksum offload of ${name} ${on ? "on" : "off"}`);
}

/** The kernel hands it to the device whatever the kind of socket is. */
function control(netns: HeldNetns, name: string, value: Uint32Array, purpose: string): Uint32Array {
  const fd = openNetlinkDescriptor(netns, 0);
  try {
    libc.interfaceControl(fd, C.SIOCETHTOOL, name, value, purpose);
    return value;
  } finally {
    closeSync(fd);
  }
}
