/** Who we are and where the API server is, as the kubelet tells every pod. All files are read anew when they are needed: tokens and CAs rotate. */
import { readFile } from "node:fs/promises";
import { isAddress } from "../net/address.ts";

export interface Credentials {
  /** https://host:port */
  readonly server: string;
  /** For objects in a namespace: our own. */
  readonly namespace: string;
  /** PEM. */
  certificateAuthority(): Promise<string>;
  token(): Promise<string>;
}

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
/** A token has about 1 kB, a bundle of CAs some. */
const MAX_OCTETS = 1 << 20;

/** `server` in place of the Service's address, which needs kube-proxy. Throws an Error in words where this is no pod. */
export async function inCluster(
  server: string | undefined,
  environment: NodeJS.ProcessEnv = process.env,
  folder: string = ACCOUNT,
): Promise<Credentials> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = environment;
  const url = server ?? (host && `https://${isAddress(host) && host.includes(":") ? `[${host}]` : host}:${port}`);
  if (!url) throw new Error("this is no pod of a cluster: KUBERNETES_SERVICE_HOST is not set. Name a kubeconfig with --kubeconfig");
  const checked = serverUrl(url);
  const read = async (name: string) => {
    const text = await readFile(`${folder}/${name}`, "utf8").catch((error: Error) => {
      throw new Error(`the service account cannot be read: ${error.message}. See automountServiceAccountToken of the pod`);
    });
    if (text.length > MAX_OCTETS) throw new Error(`${folder}/${name} has more than ${MAX_OCTETS} octets`);
    return text.trim();
  };
  return {
    server: checked,
    namespace: await read("namespace"),
    certificateAuthority: () => read("ca.crt"),
    token: () => read("token"),
  };
}

function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== "https:" || (url.pathname !== "/" && url.pathname !== ""))
    throw new Error(`the API server's address ${JSON.stringify(text)} is not like https://192.0.2.1:6443`);
  return url.origin;
}
