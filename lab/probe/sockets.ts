/** TCP sockets that live in another network namespace: made there in one synchronous stretch, then handed to Node as descriptors. */
import { once } from "node:events";
import { createServer, Socket } from "node:net";
import { bind, socket, withNetns } from "../../kernel/index.ts";
import { parseAddress } from "../../net/address.ts";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

function streamSocket(ipv6: boolean): number {
  return socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, "open a probe's TCP socket");
}

/** sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)). */
function socketAddress(text: string, port: number): Uint8Array {
  const octets = parseAddress(text);
  const bytes = new Uint8Array(octets.length === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, octets.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  bytes.set(octets, octets.length === 4 ? 4 : 8);
  return bytes;
}

export interface Listener {
  port: number;
  close(): void;
}

/** Accepts on an address of the namespace and answers each connection with the address it came from, as the receiver sees it. */
export async function mirror(netns: string, address: string): Promise<Listener> {
  const fd = withNetns(netns, () => {
    const own = streamSocket(address.includes(":"));
    bind(own, socketAddress(address, 0), `bind a probe to ${address}`);
    return own;
  });
  const server = createServer(connection => {
    connection.on("error", () => {});
    connection.end(connection.remoteAddress ?? "?");
  });
  server.listen({ fd });
  await once(server, "listening");
  const bound = server.address();
  if (bound === null || typeof bound === "string") throw new Error(`the probe on ${address} has no port`);
  return { port: bound.port, close: () => server.close() };
}

/** Connects from the namespace and returns what the mirror says. Throws after `timeout` ms. */
export function askMirror(netns: string, address: string, port: number, timeout: number): Promise<string> {
  const fd = withNetns(netns, () => streamSocket(address.includes(":")));
  const client = new Socket({ fd });
  return new Promise((resolve, reject) => {
    let text = "";
    client.setEncoding("utf8");
    client.setTimeout(timeout, () => client.destroy(new Error(`no answer within ${timeout} ms`)));
    client.on("data", (chunk: string) => {
      text += chunk;
    });
    client.on("error", reject);
    client.on("close", () => (text === "" ? reject(new Error("closed without an answer")) : resolve(text)));
    client.connect({ host: address, port });
  });
}
