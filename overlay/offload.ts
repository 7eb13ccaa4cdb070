/**
 * Whether checksums of packets in a tunnel can be left to the hardware. Kernels before 5.7 got that of the outer UDP header wrong where another program
 * translated the addresses of encapsulated packets as well, and the receiver drops them: connections then stall and come up after a minute.
 */
import type { OverlayPlan } from "./types.ts";

/** `release`: as uname(2) has it, such as "5.15.0-91-generic". */
export function leavesChecksums(wish: OverlayPlan["checksumOffload"], release: string): boolean {
  if (wish !== "Auto") return wish === "On";
  const [major = 0, minor = 0] = release.split(/[^0-9]/, 2).map(Number);
  return major > 5 || (major === 5 && minor >= 7);
}
