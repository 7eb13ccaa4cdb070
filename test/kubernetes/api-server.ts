/**
 * A real kube-apiserver with its etcd on loopback, for tests: started in a temporary folder on free ports, gone without a trace after stop().
 * Binaries come from where the ecosystem looks: $KUBEBUILDER_ASSETS, else ../shared/kubernetes beside the repository.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { existsSync, openSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Credentials } from "../../kubernetes/credentials.ts";
import { type Answer, answerOf, contentType } from "../../lab/kubernetes/answer.ts";
import { unpackPrograms } from "../../lab/kubernetes/programs.ts";
import { sharedFile } from "../shared.ts";

const packed = sharedFile("kubernetes", "unpack");

/** Why no API server can be started here; undefined where one can. */
export function missingApiServer(): string | undefined {
  const assets = process.env.KUBEBUILDER_ASSETS;
  if (assets) return existsSync(join(assets, "kube-apiserver")) ? undefined : `no kube-apiserver in KUBEBUILDER_ASSETS=${assets}`;
  if (packed.exists) return undefined;
  return "no kube-apiserver: set KUBEBUILDER_ASSETS to a folder that holds kube-apiserver and etcd (setup-envtest makes one)";
}

export interface ApiServer {
  /** As its administrator. PATCH is a merge patch. */
  call(method: string, path: string, body?: unknown): Promise<Answer>;
  /** Of the administrator; `token`: of somebody else. */
  credentials(token?: () => string): Credentials;
  /** Ends the API server; etcd goes on. */
  kill(): Promise<void>;
  /** The API server at the same port. */
  restart(): Promise<void>;
  /** Both end, `change` is given the folder with etcd's data, and both start again. */
  changeStore(change: (data: string) => void): Promise<void>;
  stop(): Promise<void>;
}

export interface ApiServerOptions {
  /** As servers have it: it sends bookmarks and initial events. Default false, which starts faster. */
  watchCache?: boolean;
  /** Services have addresses of both families. Default false. */
  dualStack?: boolean;
  /** More lines for the token file: "token,user,uid,\"group\"". */
  tokens?: readonly string[];
}

export async function startApiServer({ watchCache = false, dualStack = false, tokens = [] }: ApiServerOptions = {}): Promise<ApiServer> {
  const folder = await mkdtemp(join(tmpdir(), "podlane-api-"));
  const children: ChildProcess[] = [];
  const stop = async () => {
    // The API server first: without etcd it would wait for it.
    for (const child of children.reverse()) await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const assets = process.env.KUBEBUILDER_ASSETS ?? unpackPrograms(join(folder, "bin"));
    const [client, peer, secure] = await freePorts(3);
    await writeCredentials(folder, tokens);
    const startEtcd = () => children.push(run(folder, join(assets, "etcd"), etcdFlags(folder, client, peer)));
    startEtcd();
    const restart = async () => {
      children.push(run(folder, join(assets, "kube-apiserver"), apiFlags(folder, client, secure, watchCache, dualStack)));
      await ready(folder, secure, children);
    };
    await restart();
    const certificate = join(folder, "apiserver.crt");
    const ca = await readFile(certificate);
    return {
      call: (method, path, body) => call(secure, ca, method, path, body),
      credentials: (token = () => "test") => ({
        server: `https://127.0.0.1:${secure}`,
        namespace: "default",
        certificateAuthority: () => readFile(certificate, "utf8"),
        token: async () => token(),
      }),
      kill: async () => end(children.pop()!),
      restart,
      changeStore: async change => {
        for (const child of children.splice(0).reverse()) await end(child);
        change(join(folder, "etcd"));
        startEtcd();
        await restart();
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map(server => once(server, "listening")));
  const ports = servers.map(server => (server.address() as { port: number }).port);
  await Promise.all(servers.map(server => new Promise(done => server.close(done))));
  return ports;
}

async function writeCredentials(folder: string, tokens: readonly string[]): Promise<void> {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  await writeFile(join(folder, "sa.key"), privateKey.export({ type: "pkcs1", format: "pem" }));
  await writeFile(join(folder, "sa.pub"), publicKey.export({ type: "spki", format: "pem" }));
  await writeFile(join(folder, "tokens.csv"), ['test,admin,admin,"system:masters"', ...tokens, ""].join("\n"));
}

function etcdFlags(folder: string, client: number, peer: number): string[] {
  const [clientUrl, peerUrl] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
  return [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    "--unsafe-no-fsync",
    "--log-level=warn",
  ];
}

function apiFlags(folder: string, etcd: number, port: number, watchCache: boolean, dualStack: boolean): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcd}`,
    `--secure-port=${port}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--cert-dir=${folder}`,
    `--token-auth-file=${join(folder, "tokens.csv")}`,
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${join(folder, "sa.pub")}`,
    `--service-account-signing-key-file=${join(folder, "sa.key")}`,
    `--service-cluster-ip-range=10.96.0.0/16${dualStack ? ",fd00:96::/108" : ""}`,
    `--watch-cache=${watchCache}`,
  ];
}

function run(folder: string, program: string, flags: string[]): ChildProcess {
  const log = openSync(join(folder, `${program.split("/").at(-1)}.log`), "a");
  return spawn(program, flags, { stdio: ["ignore", log, log], cwd: folder });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

async function ready(folder: string, port: number, children: ChildProcess[]): Promise<void> {
  const until = Date.now() + 55_000;
  let last = "no certificate yet";
  while (Date.now() < until) {
    const dead = children.find(child => child.exitCode !== null);
    if (dead) break;
    const certificate = join(folder, "apiserver.crt");
    if (existsSync(certificate)) {
      const answer = await call(port, readFileSync(certificate), "GET", "/readyz").catch((error: Error) => ({
        status: 0,
        body: error.message,
      }));
      if (answer.status === 200) return;
      last = `${answer.status} ${JSON.stringify(answer.body)}`;
    }
    await delay(100);
  }
  const log = await readFile(join(folder, "kube-apiserver.log"), "utf8").catch(() => "");
  throw new Error(`the API server did not get ready (${last}):\n${log.slice(-3000)}`);
}

function call(port: number, ca: Buffer, method: string, path: string, body?: unknown): Promise<Answer> {
  const headers = { authorization: "Bearer test", "content-type": contentType(method), accept: "application/json" };
  return answerOf(request({ host: "127.0.0.1", port, path, method, ca, headers }), body);
}
