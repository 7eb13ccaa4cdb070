/**
 * A control plane in a network namespace: etcd, API server, controller manager and scheduler, started by whoever keeps them running; and the way to ask
 * the API server from outside of that namespace, through a socket in the control plane's folder.
 */
import { execFile } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { type Answer, answerOf, contentType } from "./answer.ts";
import { apiFlags, etcdFlags, kubeconfig, managerFlags } from "./configuration.ts";
import { until } from "./until.ts";

export interface ControlPlane {
  /** Its own. */
  folder: string;
  /** Where Kubernetes' programs are. */
  programs: string;
  /** As ip(8) names it. */
  netns: string;
  /** Of the API server, in that namespace. */
  address: string;
}

/** Milliseconds. */
const START_BOUND = 60_000;
const KUBECTL_BOUND = 60_000;
const ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default";

export class ApiServerAccess {
  readonly #plane: ControlPlane;

  constructor(plane: ControlPlane) {
    this.#plane = plane;
  }

  /** For everybody who is this cluster's administrator. */
  get kubeconfig(): string {
    return join(this.#plane.folder, "admin.conf");
  }

  /** As the administrator. Rejects while nobody answers. */
  call(method: string, path: string, body?: object): Promise<Answer> {
    const headers = { "content-type": contentType(method) };
    return answerOf(request({ socketPath: socketOf(this.#plane), method, path, headers }), body);
  }

  /** `kubectl apply`; resolves when the kinds that it defines can be used. */
  async applyManifest(text: string): Promise<void> {
    await this.kubectl(["apply", "--server-side", "-f", "-"], text);
    await this.kubectl(["wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinitions", "--all"]);
  }

  /** Standard output. Rejects in kubectl's words. */
  kubectl(words: string[], stdin = ""): Promise<string> {
    const { netns, programs } = this.#plane;
    const all = [`--net=/run/netns/${netns}`, join(programs, "kubectl"), `--kubeconfig=${this.kubeconfig}`, ...words];
    return new Promise((resolve, reject) => {
      const child = execFile("nsenter", all, { timeout: KUBECTL_BOUND, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
        if (error) reject(new Error(`kubectl ${words.join(" ")}: ${stderr || stdout || error.message}`, { cause: error }));
        else resolve(stdout);
      });
      child.stdin?.end(stdin);
    });
  }
}

/** Resolves when the API server answers and pods can be made. `start` runs a program in the namespace. */
export async function startControlPlane(plane: ControlPlane, start: (name: string, words: string[]) => void): Promise<ApiServerAccess> {
  const { folder, programs, address } = plane;
  mkdirSync(folder, { recursive: true });
  const access = new ApiServerAccess(plane);
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  writeFileSync(join(folder, "sa.key"), privateKey.export({ type: "pkcs1", format: "pem" }), { mode: 0o600 });
  writeFileSync(join(folder, "sa.pub"), publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(join(folder, "tokens.csv"), 'test,admin,admin,"system:masters"\n', { mode: 0o600 });
  const certificate = join(folder, "apiserver.crt");
  writeFileSync(access.kubeconfig, kubeconfig(address, certificate), { mode: 0o600 });
  const run = (name: string, ...flags: string[]) => start(name, [join(programs, name), ...flags]);
  run("etcd", ...etcdFlags(folder));
  run("kube-apiserver", ...apiFlags(folder, address));
  await until("the API server made its certificate", () => existsSync(certificate), START_BOUND);
  const asAdmin = `--kubeconfig=${access.kubeconfig}`;
  run("kubectl", asAdmin, "proxy", `--unix-socket=${socketOf(plane)}`, "--reject-paths=^$");
  const status = (path: string) =>
    access.call("GET", path).then(
      answer => answer.status,
      () => 0,
    );
  await until("the API server is ready", async () => (await status("/readyz")) === 200, START_BOUND);
  const keys = [`--service-account-private-key-file=${folder}/sa.key`, `--root-ca-file=${certificate}`];
  run("kube-controller-manager", asAdmin, ...managerFlags(address), ...keys);
  run("kube-scheduler", asAdmin, "--leader-elect=false");
  await until("the default service account is there", async () => (await status(ACCOUNT)) === 200, START_BOUND);
  return access;
}

function socketOf({ folder }: ControlPlane): string {
  return join(folder, "api.sock");
}
