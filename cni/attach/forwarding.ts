/** What the node must do for its pods however they are attached: pass packets on. */
import { existsSync } from "node:fs";
import { readSysctl, writeSysctl } from "../../kernel/index.ts";
import type { AttachContext } from "./mode.ts";
import { BRIDGE_ALIAS, isPodLink } from "./names.ts";

/**
 * Turns forwarding on. In IPv6 that makes the node deaf to router advertisements, so interfaces that listen to them are told to go on (accept_ra 2):
 * the node must not lose its default route through us. That is looked at each time, for a network card that comes late. Not so our own bridge and pods'
 * links, where pods would be listened to. `mended`: see ensureBridge().
 */
export function ensureForwarding(
  { netlink, sysctls }: Pick<AttachContext, "netlink" | "sysctls">,
  hasIpv6: boolean,
  mended?: string[],
): void {
  const forwarding = ["net", "ipv6", "conf", "all", "forwarding"];
  if (sysctls.set(["net", "ipv4", "ip_forward"], "1")) mended?.push("turned IPv4 forwarding on");
  if (!hasIpv6 || (!mended && readSysctl(forwarding) === "1")) return;
  for (const link of netlink.links()) {
    if ((link.kind === "bridge" && link.alias === BRIDGE_ALIAS) || isPodLink(link)) continue;
    const acceptRa = ["net", "ipv6", "conf", link.name, "accept_ra"];
    // Likewise a card with so small an MTU, or one that is gone by now.
    if (!existsSync(`/proc/sys/${acceptRa.join("/")}`)) continue;
    if (readSysctl(acceptRa) === "1") sysctls.set(acceptRa, "2");
  }
  if (sysctls.set(forwarding, "1")) mended?.push("turned IPv6 forwarding on");
}

/** Whether it had another value. Throws like writeSysctl. */
export function setSysctl(name: string[], value: string): boolean {
  if (readSysctl(name) === value) return false;
  writeSysctl(name, value);
  return true;
}
