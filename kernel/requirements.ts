/** Whether this machine and this process can do what podlane needs: what is missing, each with its remedy. */
import { closeSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import * as C from "./constants.ts";
import { NetlinkError, SystemCallError } from "./error.ts";
import { holdNetns, NetlinkSocket } from "./netlinksocket.ts";
import { OWN_NETNS, withNetns } from "./netns.ts";
import { openTcpListener } from "./socket.ts";

export interface Needs {
  /** CAP_NET_ADMIN: routes, links, addresses. */
  netAdmin?: boolean;
  /** CAP_SYS_ADMIN, and setns(2): entering the namespaces of pods. */
  sysAdmin?: boolean;
  /** Setting kernel parameters under /proc/sys/net. */
  sysctl?: boolean;
  /** Device types. */
  links?: readonly ("veth" | "bridge" | "vxlan" | "dummy")[];
  /** TCP MD5 signatures. */
  tcpMd5?: boolean;
  /** Netfilter for what passes through a bridge. */
  bridgeNetfilter?: boolean;
}

/** Of /proc/sys. */
export const READ_ONLY_REMEDY =
  "give the container CAP_SYS_ADMIN and no AppArmor profile that forbids mount, then the agent remounts /proc/sys for itself at its start; or run it in a privileged container";

/** capabilities(7). */
const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;

export interface Lack {
  message: string;
  remedy: string;
}

/** What the agent needs for everything it can do. */
export function requirements(): string[] {
  return checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth", "bridge", "vxlan"], tcpMd5: true });
}

/** One sentence for each thing that is missing; see findLacks(). */
export function checkRequirements(needs: Needs): string[] {
  return findLacks(needs).map(({ message, remedy }) => `${message}: ${remedy}`);
}

/** Empty when nothing is missing. Changes nothing; the kernel may load a module. */
export function findLacks(needs: Needs): Lack[] {
  if (process.platform !== "linux") return [{ message: "podlane runs on Linux only", remedy: `this is ${process.platform}` }];
  const lacks: Lack[] = [];
  const capabilities = effectiveCapabilities();
  const has = (bit: number) => ((capabilities >> BigInt(bit)) & 1n) === 1n;
  if (needs.netAdmin === true && !has(CAP_NET_ADMIN)) {
    const message = "changing routes and links needs the capability CAP_NET_ADMIN";
    lacks.push({ message, remedy: "run as root, or add NET_ADMIN to the container" });
  }
  if (needs.sysAdmin === true) lacks.push(...probeSetns(has(CAP_SYS_ADMIN)));
  if (needs.sysctl === true) lacks.push(...probeSysctl());
  if (has(CAP_NET_ADMIN)) for (const kind of needs.links ?? []) lacks.push(...probeLinkKind(kind));
  if (needs.tcpMd5 === true) lacks.push(...probeTcpMd5());
  if (needs.bridgeNetfilter === true && !existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables")) {
    const message =
      "the kernel's module br_netfilter is not loaded, so a pod does not reach a Service whose backend is on its own node, and NetworkPolicies do not hold between pods of a node";
    lacks.push({ message, remedy: "modprobe br_netfilter, and at every boot" });
  }
  return lacks;
}

/** Into the own namespace: a filter of system calls refuses that as well. */
function probeSetns(capable: boolean): Lack[] {
  const what = "entering the network namespaces of pods";
  const remedy = "run as root in a privileged container";
  if (!capable) return [{ message: `${what} needs the capability CAP_SYS_ADMIN`, remedy }];
  try {
    withNetns(OWN_NETNS, () => undefined);
    return [];
  } catch (error) {
    return [{ message: `${what} is refused (${(error as Error).message})`, remedy }];
  }
}

/** Writes what stands there: a read-only /proc/sys, as containers have it, refuses that too. */
function probeSysctl(): Lack[] {
  const path = "/proc/sys/net/ipv4/ip_forward";
  try {
    writeFileSync(path, readFileSync(path));
    return [];
  } catch (error) {
    const message = `kernel parameters cannot be set, so no pod can be attached (${(error as Error).message})`;
    return [{ message, remedy: READ_ONLY_REMEDY }];
  }
}

function effectiveCapabilities(): bigint {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/thread-self/status", "utf8"));
  return BigInt(`0x${line?.[1] ?? "0"}`);
}

/** Asks for a device with an impossible MTU: a kernel that knows the type refuses the MTU, another the type. Nothing is ever created. */
function probeLinkKind(kind: string): Lack[] {
  const netns = holdNetns();
  const socket = new NetlinkSocket(netns);
  try {
    socket.request(
      C.RTM_NEWLINK,
      C.NLM_F_CREATE | C.NLM_F_EXCL,
      writer => {
        for (let i = 0; i < 4; i++) writer.u32(0);
        writer.attributeText(C.IFLA_IFNAME, "podlane-probe");
        writer.attributeU32(C.IFLA_MTU, 0xffff_ffff);
        const info = writer.open(C.IFLA_LINKINFO);
        writer.attributeText(C.IFLA_INFO_KIND, kind);
        writer.close(info);
      },
      () => `probe ${kind}`,
    );
    return [];
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.code !== "EOPNOTSUPP") return [];
    return [{ message: `the kernel has no ${kind} devices`, remedy: `load the module (modprobe ${kind}) or use a kernel built with it` }];
  } finally {
    socket.close();
    netns.close();
  }
}

function probeTcpMd5(): Lack[] {
  const address = Uint8Array.of(127, 0, 0, 1);
  try {
    closeSync(openTcpListener({ address, port: 0, md5: [{ address, key: "probe" }] }));
    return [];
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    const message = `the kernel has no TCP MD5 signatures (${error.code})`;
    return [{ message, remedy: "neighbours with a password need a kernel with CONFIG_TCP_MD5SIG" }];
  }
}
