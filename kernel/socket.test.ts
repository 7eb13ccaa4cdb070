import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { type Address, formatAddress, parseAddress } from "../net/address.ts";
import * as C from "./constants.ts";
import * as libc from "./libc.ts";
import { netnsInode, OWN_NETNS, openNetns, withNetns } from "./netns.ts";
import {
  connectSocket,
  descriptorOf,
  listenSocket,
  openTcpListener,
  openTcpSocket,
  setMd5Key,
  setMinTtl,
  setTos,
  setTtl,
  type TcpListenerOptions,
  tcpMd5Counters,
  tcpMinTtlDrops,
} from "./socket.ts";
import { describeKernel, testNetns } from "./testnetns.ts";

/** Two namespaces joined by a veth pair: 10.1.1.1 and fd00:1::1 here, .2 and ::2 there. */
function twoHosts() {
  const [here, there] = [testNetns(), testNetns()];
  const target = openNetns(there.path);
  here.netlink.addLink({ kind: "veth", name: "eth0", up: true, peer: { name: "eth0", netnsFd: target.fd } });
  target.close();
  there.ip("link set eth0 up");
  for (const [netns, host] of [
    [here, 1],
    [there, 2],
  ] as const) {
    netns.ip(`addr add 10.1.1.${host}/24 dev eth0`);
    netns.ip(`addr add fd00:1::${host}/64 dev eth0 nodad`);
    netns.ip(`addr add fe80::${host}/64 dev eth0 nodad`);
  }
  return { here, there };
}

function serve(options: Omit<TcpListenerOptions, "port">) {
  const accepted: Socket[] = [];
  const { server, fd, port } = listenSocket({ ...options, port: 0 }, socket => {
    accepted.push(socket);
    socket.on("error", () => {});
    socket.on("data", data => socket.write(`echo ${data}`));
  });
  onTestFinished(() => {
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  return { server, fd, port, accepted };
}

function connect(options: Parameters<typeof connectSocket>[0]): Socket {
  const socket = connectSocket(options);
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

async function echo(socket: Socket): Promise<string> {
  await once(socket, "connect");
  socket.write("hello");
  const [data] = await once(socket, "data");
  return String(data);
}

/** Resolves when `read` has grown beyond `before`; SYNs are repeated, so it does. */
async function grows(read: () => number, before: number): Promise<void> {
  while (read() <= before) await new Promise(resolve => setImmediate(resolve));
}

const pairs: [string, Address, Address][] = [
  ["IPv4", parseAddress("10.1.1.1"), parseAddress("10.1.1.2")],
  ["IPv6", parseAddress("fd00:1::1"), parseAddress("fd00:1::2")],
];

describeKernel("TCP sockets for BGP", () => {
  for (const [label, local, remote] of pairs) {
    const family = local.length === 4 ? 4 : 6;

    test(`${label}: a session with the right MD5 key, bound source, TTL 255 and CS6 comes up`, async () => {
      const { here, there } = twoHosts();
      const server = serve({
        netns: there.path,
        address: remote,
        md5: [{ address: local, key: "secret" }],
        ttl: 255,
        minTtl: 255,
        tos: 0xc0,
      });
      const socket = connect({
        netns: here.path,
        address: remote,
        port: server.port,
        localAddress: local,
        interface: "eth0",
        md5: [{ address: remote, key: "secret" }],
        ttl: 255,
        minTtl: 255,
        tos: 0xc0,
        userTimeout: 5000,
      });
      expect(await echo(socket)).toBe("echo hello");
      expect(socket.localAddress).toBe(formatAddress(local));
      expect(socket.remoteAddress).toBe(formatAddress(remote));
      const fd = descriptorOf(server.accepted[0]) ?? -1;
      const level = family === 4 ? C.IPPROTO_IP : C.IPPROTO_IPV6;
      const names = family === 4 ? [C.IP_TTL, C.IP_MINTTL, C.IP_TOS] : [C.IPV6_UNICAST_HOPS, C.IPV6_MINHOPCOUNT, C.IPV6_TCLASS];
      expect(names.map(name => libc.getsockopt(fd, level, name, "test"))).toEqual([255, 255, 0xc0]);
      socket.destroy();
      await once(server.accepted[0], "close");
      expect(descriptorOf(server.accepted[0])).toBeUndefined();
    });

    test(`${label}: a wrong, a missing and an unexpected MD5 key show in the counters, and nothing comes up`, async () => {
      const { here, there } = twoHosts();
      const counters = () => withNetns(there.path, tcpMd5Counters);
      const keyed = serve({ netns: there.path, address: remote, md5: [{ address: local, key: "secret" }] });
      const open = serve({ netns: there.path, address: remote });
      const before = counters();
      const md5 = [{ address: remote, key: "wrong" }];
      const attempts = [
        connect({ netns: here.path, address: remote, port: keyed.port, md5 }),
        connect({ netns: here.path, address: remote, port: keyed.port }),
        connect({ netns: here.path, address: remote, port: open.port, md5 }),
      ];
      await grows(() => counters().failure, before.failure);
      await grows(() => counters().notFound, before.notFound);
      await grows(() => counters().unexpected, before.unexpected);
      expect(attempts.map(socket => socket.connecting)).toEqual([true, true, true]);
      expect([...keyed.accepted, ...open.accepted]).toEqual([]);
      // The right key, set on the live listener, lets the repeated SYN in.
      setMd5Key(keyed.fd, { address: local, key: "wrong" });
      await once(attempts[0], "connect");
      setMd5Key(keyed.fd, { address: local, key: undefined });
      setMd5Key(keyed.fd, { address: local, key: undefined });
    });

    test(`${label}: a key for a prefix holds for its addresses`, async () => {
      const { here, there } = twoHosts();
      const prefixLength = family === 4 ? 24 : 64;
      const server = serve({ netns: there.path, address: remote, md5: [{ address: local, prefixLength, key: "rack" }] });
      const socket = connect({ netns: here.path, address: remote, port: server.port, md5: [{ address: remote, key: "rack" }] });
      expect(await echo(socket)).toBe("echo hello");
    });

    test(`${label}: GTSM drops what comes from farther away`, async () => {
      const { here, there } = twoHosts();
      const server = serve({ netns: there.path, address: remote, minTtl: 255 });
      const drops = () => withNetns(there.path, tcpMinTtlDrops);
      const before = drops();
      const far = connect({ netns: here.path, address: remote, port: server.port, ttl: 254 });
      await grows(drops, before);
      expect(far.connecting).toBe(true);
      const near = connect({ netns: here.path, address: remote, port: server.port, ttl: 255 });
      expect(await echo(near)).toBe("echo hello");
    });
  }

  test("a link-local neighbour is reached through its interface", async () => {
    const { here, there } = twoHosts();
    const address = parseAddress("fe80::2");
    const server = serve({ netns: there.path, address, interface: "eth0", md5: [{ address: parseAddress("fe80::1"), key: "k" }] });
    const source = `
      import { connectSocket } from "${new URL("./socket.ts", import.meta.url).href}";
      const address = Uint8Array.of(${address.join()});
      const localAddress = Uint8Array.of(${parseAddress("fe80::1").join()});
      const socket = connectSocket({ address, port: ${server.port}, localAddress, interface: "eth0", md5: [{ address, key: "k" }] });
      socket.on("connect", () => socket.write("hello")).on("data", data => { console.log(String(data)); socket.destroy(); });`;
    const child = spawn("ip", ["netns", "exec", here.name, process.execPath, "--input-type=module", "-e", source], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => {
      child.kill();
    });
    const [output] = await once(child.stdout, "data");
    expect(String(output)).toBe("echo hello\n");
    expect(() => connectSocket({ address, port: 179 })).toThrow("needs the interface");
    expect(() => connectSocket({ address, port: 179, interface: "eth0", netns: here.path })).toThrow("another network namespace");
  });

  test("a refused connection is an error event, and the thread is where it was", async () => {
    const { here } = twoHosts();
    const home = netnsInode(OWN_NETNS);
    const socket = connect({ netns: here.path, address: parseAddress("10.1.1.1"), port: 179 });
    const [error] = await once(socket, "error");
    expect(error).toMatchObject({ code: "ECONNREFUSED" });
    expect(netnsInode(OWN_NETNS)).toBe(home);
  });

  test("a listener's descriptor serves net.createServer().listen(), IPv6 leaves IPv4 alone, and a restart may bind again", async () => {
    const { here } = twoHosts();
    const first = serve({ netns: here.path, address: new Uint8Array(16) });
    const four = openTcpListener({ netns: here.path, address: new Uint8Array(4), port: first.port });
    const server = createServer().listen({ fd: four });
    await once(server, "listening");
    onTestFinished(() => {
      server.close();
    });
    const socket = connect({ netns: here.path, address: parseAddress("10.1.1.1"), port: first.port });
    await Promise.all([once(socket, "connect"), once(server, "connection")]);
    expect(first.accepted).toEqual([]);
    expect(() => openTcpListener({ netns: here.path, address: new Uint8Array(4), port: first.port })).toThrow(
      /^bind to 0\.0\.0\.0 port \d+: bind: address already in use \(EADDRINUSE\)$/,
    );
  });

  test("what cannot be is refused in words", () => {
    const { here } = twoHosts();
    const fd = openTcpSocket({ netns: here.path, family: 4 });
    onTestFinished(() => closeSync(fd));
    const address = parseAddress("10.1.1.2");
    expect(() => setMd5Key(fd, { address, key: "" })).toThrow("1 to 80 octets, not 0");
    expect(() => setMd5Key(fd, { address, key: "ü".repeat(41) })).toThrow("1 to 80 octets, not 82");
    expect(() => setTtl(fd, 4, 256)).toThrow("set the TTL to 256: 0 to 255");
    expect(() => setMinTtl(fd, 4, -1)).toThrow(RangeError);
    expect(() => setTos(fd, 4, 1.5)).toThrow(RangeError);
    expect(() => openTcpSocket({ netns: here.path, family: 4, interface: "nolink" })).toThrow(/^bind to device "nolink": .*\(ENODEV\)$/);
    expect(() => openTcpSocket({ netns: here.path, family: 4, localAddress: parseAddress("192.0.2.1") })).toThrow(
      /^bind to 192\.0\.2\.1 port 0: .*\(EADDRNOTAVAIL\)$/,
    );
  });
});
