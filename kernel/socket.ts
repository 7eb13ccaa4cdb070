/**
 * TCP sockets as BGP needs them: TCP MD5 signatures (RFC 2385), GTSM (RFC 5082), a bound source or interface, DSCP. The descriptor is made and
 * set up here, before the first SYN, and then handed to node:net. Linux: tcp(7), ip(7), ipv6(7).
 */
import { closeSync, readFileSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import { type Address, familyOf, formatAddress, type IpFamily, isLinkLocal } from "../net/address.ts";
import * as C from "./constants.ts";
import { SystemCallError } from "./error.ts";
import * as libc from "./libc.ts";
import { withNetns } from "./netns.ts";

export interface Md5Key {
  /** The neighbour, or a prefix of neighbours. */
  address: Address;
  /** Bits; absent: this address only. A longer prefix wins. */
  prefixLength?: number;
  /** For a neighbour behind a VRF or a link-local address: the key holds on this (layer 3 master) interface only. */
  interfaceIndex?: number;
  /** 1..80 octets of UTF-8; undefined removes the key. */
  key: string | undefined;
}

export interface TcpOptions {
  /** Path of the namespace; absent: that of the calling thread. */
  netns?: string;
  /** Binds to a device (SO_BINDTODEVICE); a link-local address needs it. */
  interface?: string;
  md5?: readonly Md5Key[];
  /** 1..255. Of received packets: those with less are dropped (GTSM: 255 - hops + 1). */
  minTtl?: number;
  /** 1..255. Of sent packets. */
  ttl?: number;
  /** 0..255, the whole octet: 0xc0 = CS6. */
  tos?: number;
}

export interface TcpSocketOptions extends TcpOptions {
  family: IpFamily;
  localAddress?: Address;
  localPort?: number;
  /** TCP_USER_TIMEOUT in milliseconds: unacknowledged data ends the connection after this time. */
  userTimeout?: number;
}

export interface TcpListenerOptions extends TcpOptions {
  /** Octets of zero: all addresses of this family (IPv6 does not take IPv4 connections). */
  address: Address;
  /** 0 = any free port. */
  port: number;
  /** SO_REUSEADDR, default true: a restart need not wait for old connections. */
  reuse?: boolean;
}

/** A TCP descriptor, set up and not connected. Whoever takes it closes it. Throws SystemCallError. */
export function openTcpSocket(options: TcpSocketOptions): number {
  const { family, localAddress, localPort = 0 } = options;
  return openIn(options, family, fd => {
    if (options.userTimeout !== undefined) setUserTimeout(fd, options.userTimeout);
    if (localAddress === undefined && localPort === 0) return;
    const address = localAddress ?? new Uint8Array(family === 4 ? 4 : 16);
    libc.setsockopt(fd, C.SOL_SOCKET, C.SO_REUSEADDR, 1, "set SO_REUSEADDR");
    bindTcp(fd, address, localPort, options.interface);
  });
}

/** A TCP descriptor, set up, bound and not yet listening: for `net.createServer().listen({ fd })`. Throws SystemCallError. */
export function openTcpListener(options: TcpListenerOptions): number {
  const family = familyOf(options.address);
  return openIn(options, family, fd => {
    if (options.reuse !== false) libc.setsockopt(fd, C.SOL_SOCKET, C.SO_REUSEADDR, 1, "set SO_REUSEADDR");
    if (family === 6) libc.setsockopt(fd, C.IPPROTO_IPV6, C.IPV6_V6ONLY, 1, "set IPV6_V6ONLY");
    bindTcp(fd, options.address, options.port, options.interface);
  });
}

/**
 * openTcpSocket(), then the connection: a net.Socket that will emit "connect" or "error". Throws SystemCallError for what fails at once.
 * A link-local address needs `interface`, and cannot be combined with `netns`: node:net finds its zone in the namespace of the process.
 */
export function connectSocket(options: Omit<TcpSocketOptions, "family"> & { address: Address; port: number }): Socket {
  const linkLocal = isLinkLocal(options.address);
  if (linkLocal && (options.interface === undefined || options.netns !== undefined)) {
    const problem = options.netns === undefined ? "needs the interface it is on" : "cannot be connected to from another network namespace";
    throw new TypeError(`the link-local address ${formatAddress(options.address)} ${problem}`);
  }
  // Without a zone libuv would choose the first interface that has a link-local address.
  const zone = linkLocal ? `%${options.interface}` : "";
  const fd = openTcpSocket({ ...options, family: familyOf(options.address) });
  return new Socket({ fd }).connect({ host: `${formatAddress(options.address)}${zone}`, port: options.port });
}

/**
 * openTcpListener(), then the server, which owns the descriptor. Through `fd` keys can be set and removed while it listens. Accepted connections
 * have the keys, TTL, minimum TTL and TOS of the listener at the time of their SYN.
 */
export function listenSocket(
  options: TcpListenerOptions,
  onConnection: (socket: Socket) => void,
): { server: Server; fd: number; port: number } {
  const fd = openTcpListener(options);
  const server = createServer(onConnection);
  server.listen({ fd });
  return { server, fd, port: localPort(fd) };
}

function openIn(options: TcpOptions, family: IpFamily, setUp: (fd: number) => void): number {
  const open = () => {
    const domain = family === 4 ? C.AF_INET : C.AF_INET6;
    const fd = libc.socket(domain, C.SOCK_STREAM | C.SOCK_NONBLOCK | C.SOCK_CLOEXEC, C.IPPROTO_TCP, `open an IPv${family} TCP socket`);
    try {
      if (options.interface !== undefined) bindToDevice(fd, options.interface);
      for (const key of options.md5 ?? []) setMd5Key(fd, key);
      if (options.ttl !== undefined) setTtl(fd, family, options.ttl);
      if (options.minTtl !== undefined) setMinTtl(fd, family, options.minTtl);
      if (options.tos !== undefined) setTos(fd, family, options.tos);
      setUp(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
  return options.netns === undefined ? open() : withNetns(options.netns, open);
}

function bindTcp(fd: number, address: Address, port: number, device: string | undefined): void {
  const scope = address.length === 16 && device !== undefined ? libc.interfaceIndex(device) : 0;
  libc.bind(
    fd,
    encodeSockaddr(address, port, scope),
    `bind to ${formatAddress(address)} port ${port}${device === undefined ? "" : ` on ${device}`}`,
  );
}

/** struct sockaddr_in or sockaddr_in6. `scope` is the ifindex of a link-local address. */
export function encodeSockaddr(address: Address, port: number, scope = 0): Uint8Array {
  const four = address.length === 4;
  const octets = new Uint8Array(four ? 16 : 28);
  const view = new DataView(octets.buffer);
  view.setUint16(0, four ? C.AF_INET : C.AF_INET6, true);
  view.setUint16(2, port, false);
  octets.set(address, four ? 4 : 8);
  if (!four) view.setUint32(24, scope, true);
  return octets;
}

/** The port a descriptor is bound to. */
export function localPort(fd: number): number {
  const address = libc.getsockname(fd, "read the local port");
  return (address[2] << 8) | address[3];
}

/**
 * Sets, changes or removes (key undefined) the key of a neighbour on a listening or not yet connected descriptor; removing what is not there is
 * no error. Throws RangeError for a key that is empty or longer than 80 octets, SystemCallError (EOPNOTSUPP, ENOPROTOOPT: the kernel has no TCP MD5).
 */
export function setMd5Key(fd: number, md5: Md5Key): void {
  const key = new TextEncoder().encode(md5.key ?? "");
  if (md5.key !== undefined && (key.length === 0 || key.length > C.TCP_MD5SIG_MAXKEYLEN)) {
    throw new RangeError(`a TCP MD5 key has 1 to ${C.TCP_MD5SIG_MAXKEYLEN} octets, not ${key.length}`);
  }
  const extended = md5.prefixLength !== undefined || md5.interfaceIndex !== undefined;
  // struct tcp_md5sig
  const value = new Uint8Array(216);
  const view = new DataView(value.buffer);
  value.set(encodeSockaddr(md5.address, 0));
  value[128] =
    (md5.prefixLength === undefined ? 0 : C.TCP_MD5SIG_FLAG_PREFIX) | (md5.interfaceIndex === undefined ? 0 : C.TCP_MD5SIG_FLAG_IFINDEX);
  value[129] = md5.prefixLength ?? 0;
  view.setUint16(130, key.length, true);
  view.setInt32(132, md5.interfaceIndex ?? 0, true);
  value.set(key, 136);
  try {
    const purpose = `${md5.key === undefined ? "remove" : "set"} the TCP MD5 key of ${formatAddress(md5.address)}`;
    libc.setsockopt(fd, C.IPPROTO_TCP, extended ? C.TCP_MD5SIG_EXT : C.TCP_MD5SIG, value, purpose);
  } catch (error) {
    if (md5.key === undefined && error instanceof SystemCallError && error.code === "ENOENT") return;
    throw error;
  }
}

/** Drops received packets with a lower TTL or hop limit; 0 = off. */
export function setMinTtl(fd: number, family: IpFamily, ttl: number): void {
  setIpOption(fd, family, C.IP_MINTTL, C.IPV6_MINHOPCOUNT, ttl, "minimum TTL");
}

export function setTtl(fd: number, family: IpFamily, ttl: number): void {
  setIpOption(fd, family, C.IP_TTL, C.IPV6_UNICAST_HOPS, ttl, "TTL");
}

export function setTos(fd: number, family: IpFamily, tos: number): void {
  setIpOption(fd, family, C.IP_TOS, C.IPV6_TCLASS, tos, "TOS");
}

function setIpOption(fd: number, family: IpFamily, ipv4: number, ipv6: number, value: number, label: string): void {
  const purpose = `set the ${label} to ${value}`;
  if (!Number.isInteger(value) || value < 0 || value > 255) throw new RangeError(`${purpose}: 0 to 255`);
  if (family === 4) libc.setsockopt(fd, C.IPPROTO_IP, ipv4, value, purpose);
  else libc.setsockopt(fd, C.IPPROTO_IPV6, ipv6, value, purpose);
}

/** An empty name undoes it. */
export function bindToDevice(fd: number, device: string): void {
  libc.setsockopt(fd, C.SOL_SOCKET, C.SO_BINDTODEVICE, new TextEncoder().encode(`${device}\0`), `bind to device "${device}"`);
}

/** Milliseconds. */
export function setUserTimeout(fd: number, milliseconds: number): void {
  libc.setsockopt(fd, C.IPPROTO_TCP, C.TCP_USER_TIMEOUT, milliseconds, `set the user timeout to ${milliseconds} ms`);
}

/** The descriptor of a live socket, for the functions above; undefined once it is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: number } | null };
  return handle?.fd !== undefined && handle.fd >= 0 ? handle.fd : undefined;
}

export interface TcpMd5Counters {
  /** A wrong key or a damaged segment. */
  failure: number;
  /** A key is configured here, and the segment has no signature. */
  notFound: number;
  /** The segment has a signature, and no key is configured here. */
  unexpected: number;
}

/** Since boot, for all connections of the calling thread's namespace: a session that stays down explains itself by their growth. */
export function tcpMd5Counters(): TcpMd5Counters {
  const counters = tcpExtCounters();
  return {
    failure: counters.get("TCPMD5Failure") ?? 0,
    notFound: counters.get("TCPMD5NotFound") ?? 0,
    unexpected: counters.get("TCPMD5Unexpected") ?? 0,
  };
}

/** Packets dropped for a TTL below the socket's minimum, as tcpMd5Counters(). */
export function tcpMinTtlDrops(): number {
  return tcpExtCounters().get("TCPMinTTLDrop") ?? 0;
}

/** The two TcpExt lines of netstat: names, then values. */
function tcpExtCounters(): Map<string, number> {
  const lines = readFileSync("/proc/thread-self/net/netstat", "utf8").split("\n");
  const [names = [], values = []] = lines.filter(line => line.startsWith("TcpExt:")).map(line => line.split(" "));
  return new Map(names.map((name, column) => [name, Number(values[column])]));
}
