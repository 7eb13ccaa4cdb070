/** Parts of a benchmark that run in the namespace of the agent under test, so that the API server is on its loopback. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { RawPeer } from "../test/conformance/raw-peer.ts";
import type { ApiServer } from "../test/kubernetes/api-server.ts";
import { nodeOptions } from "./common.ts";

/** Says to the second process of a program that it is in the namespace. */
const INSIDE = "PODLANE_BENCH_INSIDE";

/** Runs this program again in a namespace, with what it is given there, and returns its last line. */
export function runInside(program: string, namespace: string, given: object): string {
  const words = ["netns", "exec", namespace, process.execPath, ...nodeOptions, program];
  const env = { ...process.env, [INSIDE]: JSON.stringify(given) };
  const { status, stdout } = spawnSync("ip", words, { env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  if (status !== 0) throw new Error("what runs in the namespace failed");
  return stdout.trim().split("\n").at(-1) ?? "";
}

/** What runInside() gave; undefined: this is the first process. */
export function given<T>(): T | undefined {
  const text = process.env[INSIDE];
  return text === undefined ? undefined : JSON.parse(text);
}

/** Where a pod finds its ServiceAccount. */
const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** An agent as in a pod. `netns`: where not in that of the caller. */
export async function startInCluster(
  main: string,
  folder: string,
  server: ApiServer,
  words: string[],
  netns?: string,
): Promise<ChildProcess> {
  const all = [...nodeOptions, main, "agent", "--kubernetes", ...words, "--log-format", "json", "--log-level", "error"];
  const enter = netns === undefined ? [] : ["ip", "netns", "exec", netns];
  const [program, ...rest] = [...enter, ...(await asPod(folder, server, [process.execPath, ...all]))];
  return spawn(program, rest, {
    env: { ...process.env, PODLANE_API_SERVER: server.credentials().server },
    stdio: ["ignore", "inherit", "inherit"],
  });
}

/**
 * A command as it runs in a pod of the host's network: its ServiceAccount is where the kubelet puts it, in a mount namespace of its own, with the network
 * namespaces that are there at its start.
 */
export async function asPod(folder: string, server: ApiServer, command: readonly string[]): Promise<string[]> {
  const account = join(folder, "account");
  const namespaces = join(folder, "netns");
  for (const one of [account, namespaces, "/run/netns"]) mkdirSync(one, { recursive: true });
  const credentials = server.credentials();
  writeFileSync(join(account, "namespace"), "default");
  writeFileSync(join(account, "token"), await credentials.token());
  writeFileSync(join(account, "ca.crt"), await credentials.certificateAuthority());
  const script = [
    `mount --rbind /run/netns ${namespaces} && mount -t tmpfs none /run && mkdir -p ${ACCOUNT} /run/netns`,
    `mount --rbind ${namespaces} /run/netns && cp ${account}/* ${ACCOUNT} && exec "$@"`,
  ];
  return ["unshare", "-m", "sh", "-c", script.join(" && "), "sh", ...command];
}

export async function create(server: ApiServer, path: string, object: object): Promise<void> {
  const { status, body } = await server.call("POST", path, object);
  if (status !== 201) throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
}

/** The second node's end of a session with the agent on the first, as soon as that listens. `patience` in seconds. */
export async function connected(netns: string, patience: number): Promise<RawPeer> {
  for (const end = performance.now() + patience * 1000; ; await delay(200)) {
    try {
      return await RawPeer.connect(`/run/netns/${netns}`, "192.0.2.2", "192.0.2.1");
    } catch (error) {
      if (performance.now() > end) throw error;
    }
  }
}
