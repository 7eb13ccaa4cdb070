/** Whether this machine and this process can do what podlane needs: one sentence for each thing that is missing, with its remedy. */
import { closeSync, existsSync, readFileSync } from "node:fs";
import * as C from "./constants.ts";
import { NetlinkError, SystemCallError } from "./error.ts";
import { holdNetns, NetlinkSocket } from "./netlinksocket.ts";
import { openTcpListener } from "./socket.ts";

export interface Needs {
  /** CAP_NET_ADMIN: routes, links, addresses. */
  netAdmin?: boolean;
  /** CAP_SYS_ADMIN: entering the namespaces of pods. */
  sysAdmin?: boolean;
  /** Device types. */
  links?: readonly ("veth" | "bridge" | "vxlan" | "dummy")[];
  /** TCP MD5 signatures. */
  tcpMd5?: boolean;
  /** Netfilter for what passes through a bridge. */
  bridgeNetfilter?: boolean;
}

/** capabilities(7). */
const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;

/** What the agent needs for everything it can do. */
export function requirements(): string[] {
  return checkRequirements({ netAdmin: true, sysAdmin: true, links: ["veth", "bridge", "vxlan"], tcpMd5: true });
}

/** Empty when nothing is missing. Changes nothing; the kernel may load a module. */
export function checkRequirements(needs: Needs): string[] {
  if (process.platform !== "linux") return [`podlane runs on Linux only; this is ${process.platform}`];
  const problems: string[] = [];
  const capabilities = effectiveCapabilities();
  const has = (bit: number) => ((capabilities >> BigInt(bit)) & 1n) === 1n;
  if (needs.netAdmin === true && !has(CAP_NET_ADMIN)) {
    problems.push("changing routes and links needs the capability CAP_NET_ADMIN: run as root, or add NET_ADMIN to the container");
  }
  if (needs.sysAdmin === true && !has(CAP_SYS_ADMIN)) {
    problems.push("entering the network namespaces of pods needs the capability CAP_SYS_ADMIN: run as root in a privileged container");
  }
  if (has(CAP_NET_ADMIN)) for (const kind of needs.links ?? []) problems.push(...probeLinkKind(kind));
  if (needs.tcpMd5 === true) problems.push(...probeTcpMd5());
  if (needs.bridgeNetfilter === true && !existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables")) {
    problems.push(
      "the kernel's module br_netfilter is not loaded: a pod does not reach a Service whose backend is on its own node (modprobe br_netfilter, and at every boot)",
    );
  }
  return problems;
}

function effectiveCapabilities(): bigint {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/thread-self/status", "utf8"));
  return BigInt(`0x${line?.[1] ?? "0"}`);
}

/** Asks for a device with an impossible MTU: a kernel that knows the type refuses the MTU, another the type. Nothing is ever created. */
function probeLinkKind(kind: string): string[] {
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
    return [`the kernel has no ${kind} devices: load the module (modprobe ${kind}) or use a kernel built with it`];
  } finally {
    socket.close();
    netns.close();
  }
}

function probeTcpMd5(): string[] {
  const address = Uint8Array.of(127, 0, 0, 1);
  try {
    closeSync(openTcpListener({ address, port: 0, md5: [{ address, key: "probe" }] }));
    return [];
  } catch (error) {
    if (!(error instanceof SystemCallError)) throw error;
    return [`the kernel has no TCP MD5 signatures (${error.code}): neighbours with a password need a kernel with CONFIG_TCP_MD5SIG`];
  }
}
