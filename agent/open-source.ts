/** Where the objects of this node come from, as the command line says it. Of the two ways only the one that is used is loaded: YAML or HTTP/2 are some megabytes. */
import { neededNodes } from "../config/compile/needs.ts";
import type { ResourceSource } from "../config/sources/source.ts";
import type { ApiClient } from "../kubernetes/client.ts";
import type { ApiObject } from "../kubernetes/types.ts";
import { systemClock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { version } from "./version.ts";

export interface SourceOptions {
  node: string;
  /** One of these three says where the objects are. */
  config?: string;
  kubernetes?: boolean;
  kubeconfig?: string;
  /** https://host:port, in place of the one that is known from the cluster. */
  apiServer?: string;
}

export interface OpenedSource {
  source: ResourceSource;
  /** For people. */
  name: string;
  /** Where it is an API server. */
  cluster?: { client: ApiClient; namespace: string };
}

/** Rejects with a SourceError. `selfSeen`: told of each version of the Node object of this node; undefined: it was deleted. */
export async function openSource(
  options: SourceOptions,
  log: Logger,
  selfSeen: (node: ApiObject | undefined) => void,
): Promise<OpenedSource> {
  const { node, config, kubeconfig, apiServer } = options;
  if (config !== undefined) {
    const { DirectorySource } = await import("../config/sources/directory.ts");
    return { source: new DirectorySource(config, { node }), name: config };
  }
  const { transport, namespace } = await access(kubeconfig, apiServer).catch((error: Error) => {
    throw new SourceError(error.message);
  });
  const [{ ApiClient }, { KubernetesSource }] = await Promise.all([
    import("../kubernetes/client.ts"),
    import("../config/sources/kubernetes.ts"),
  ]);
  const client = new ApiClient(transport, version);
  const parts = { client, clock: systemClock, log: log.child({ part: "kubernetes" }), random: Math.random };
  const source = new KubernetesSource({ node, namespace, needs: neededNodes, selfSeen }, parts);
  return { source, name: client.server, cluster: { client, namespace } };
}

async function access(kubeconfig: string | undefined, apiServer: string | undefined) {
  if (kubeconfig !== undefined) return (await import("../kubernetes/kubeconfig.ts")).fromKubeconfig(kubeconfig);
  const { inCluster } = await import("../kubernetes/credentials.ts");
  const credentials = await inCluster(apiServer);
  const { Http2Transport } = await import("../kubernetes/http2.ts");
  return { transport: new Http2Transport(credentials), namespace: credentials.namespace };
}

/** The operator's to correct. */
export class SourceError extends Error {}
