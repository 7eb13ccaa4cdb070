/**
 * As `kubectl` reaches the API server: a kubeconfig with certificates, tokens, exec plugins, OIDC, proxies. All of that is @kubernetes/client-node's, which costs
 * 43 MB and is loaded only here: an agent in a pod needs three files of it (credentials.ts).
 */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Transport, TransportRequest, TransportResponse } from "./types.ts";

/** Milliseconds for which a connection's credentials are taken as fresh. */
const CREDENTIALS_AGE = 60_000;
/** What client-node takes where it finds nothing at all. */
const NOWHERE = "http://localhost:8080";

export interface KubeconfigAccess {
  transport: Transport;
  /** Of the context; "default" where it names none. */
  namespace: string;
  config: KubeConfig;
}

/** `file`: else $KUBECONFIG, else ~/.kube/config. Throws an Error in words. */
export async function fromKubeconfig(file: string | undefined, context?: string): Promise<KubeconfigAccess> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  try {
    if (file) config.loadFromFile(file);
    else config.loadFromDefault();
  } catch (error) {
    throw new Error(`the kubeconfig ${file ?? process.env.KUBECONFIG ?? "~/.kube/config"} cannot be used: ${(error as Error).message}`);
  }
  if (context !== undefined) {
    if (!config.getContextObject(context)) throw new Error(`the kubeconfig has no context "${context}"`);
    config.setCurrentContext(context);
  }
  const cluster = config.getCurrentCluster();
  if (cluster?.server === NOWHERE && !file && !process.env.KUBECONFIG)
    throw new Error("there is no kubeconfig: ~/.kube/config does not exist, and neither --kubeconfig nor KUBECONFIG names a file");
  if (!cluster) throw new Error("the kubeconfig has no current context: choose one with kubectl config use-context");
  const namespace = config.getContextObject(config.getCurrentContext())?.namespace ?? "default";
  return { transport: new KubeconfigTransport(config, cluster.server), namespace, config };
}

type Dispatch = { headers: Record<string, string>; dispatcher: unknown; until: number };

class KubeconfigTransport implements Transport {
  readonly server: string;
  readonly #config: KubeConfig;
  #dispatch: Promise<Dispatch> | undefined;

  constructor(config: KubeConfig, server: string) {
    this.#config = config;
    this.server = server.replace(/\/+$/, "");
  }

  async send({ method, path, headers, body, signal }: TransportRequest): Promise<TransportResponse> {
    const known = await this.#fresh();
    const url = `${this.server}${path}`;
    const { fetch } = await import("undici");
    const options = { method, headers: { ...headers, ...known.headers }, body, signal, dispatcher: known.dispatcher };
    const response = await fetch(url, options as Parameters<typeof fetch>[1]).catch((error: Error) => {
      // "fetch failed" says nothing; its cause does.
      throw error.cause instanceof Error ? error.cause : error;
    });
    if (response.status === 401) this.#dispatch = undefined;
    return { status: response.status, headers: Object.fromEntries(response.headers), body: response.body ?? emptyBody() };
  }

  close(): void {
    this.#dispatch = undefined;
  }

  /** An exec plugin may take a second, and a new dispatcher is a new connection. */
  async #fresh(): Promise<Dispatch> {
    const known = await this.#dispatch?.catch(() => undefined);
    if (known && known.until > performance.now()) return known;
    this.#dispatch = this.#authenticate();
    return this.#dispatch;
  }

  async #authenticate(): Promise<Dispatch> {
    const headers: Record<string, string> = {};
    let dispatcher: unknown;
    const context = {
      setHeaderParam(name: string, value: string) {
        headers[name] = value;
      },
      setDispatcher(given: unknown) {
        dispatcher = given;
      },
    };
    await this.#config.applySecurityAuthentication(context as unknown as Parameters<KubeConfig["applySecurityAuthentication"]>[0]);
    return { headers, dispatcher, until: performance.now() + CREDENTIALS_AGE };
  }
}

async function* emptyBody(): AsyncGenerator<Uint8Array> {}
