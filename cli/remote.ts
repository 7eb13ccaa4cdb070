/**
 * The agent of another node, reached through the API server under the user's own rights: its pod is looked up, and `podlane api` is run in it, which relays
 * to the agent's socket (relay.ts). HTTP is spoken from end to end.
 */
import type { ApiClient } from "../kubernetes/client.ts";
import { ExecError, exec } from "../kubernetes/exec.ts";
import { ApiError, type ApiObject } from "../kubernetes/types.ts";
import { type ApiOptions, explainApiError, openApi } from "./api-access.ts";
import type { RemoteAgent } from "./client.ts";
import { CliError } from "./error.ts";

export interface RemoteOptions extends ApiOptions {
  node: string;
  namespace?: string;
}

/** Where deploy/ puts the agents, and what they are labelled there. */
const NAMESPACE = "podlane-system";
const LABEL = "app.kubernetes.io/name=podlane";
const COMPONENT = "app.kubernetes.io/component";
const COMMAND = "podlane";

/** Pods that are looked at: of one node, or to say where there are some. */
const MAX_PODS = 500;

interface Container {
  name: string;
  args?: string[];
  command?: string[];
}

interface Pod extends ApiObject {
  spec?: { nodeName?: string; containers?: Container[] };
  status?: {
    phase?: string;
    reason?: string;
    message?: string;
    containerStatuses?: { name: string; state?: { running?: object; waiting?: State; terminated?: State } }[];
  };
}

interface State {
  reason?: string;
  message?: string;
}

/** Throws CliError where there is no agent to be asked. */
export async function remoteAgent(options: RemoteOptions): Promise<RemoteAgent> {
  const { client, access } = await openApi(options);
  const namespace = options.namespace ?? NAMESPACE;
  const pod = await findPod(client, namespace, options.node);
  const container = agentContainer(pod);
  const target = { namespace, pod: pod.metadata.name, container: container.name };
  const explain = (error: Error) => explainExec(error, options.node, `kubectl --namespace ${namespace} logs ${target.pod}`);
  const words = [COMMAND, "api", "--json", ...socketOf(container)];
  return {
    connect: async idle => {
      try {
        return await exec(access, client, target, words, idle);
      } catch (error) {
        if (error instanceof ExecError) throw explain(error);
        if (error instanceof ApiError && error.status >= 500)
          throw new CliError(
            `the API server does not get to the kubelet of ${options.node}: ${error.message}`,
            `see kubectl describe node ${options.node}; kubectl --namespace ${namespace} logs ${target.pod} goes the same way`,
          );
        throw explainApiError(error, client.server, `create and get pods/exec in namespace ${namespace}`);
      }
    },
    explain,
  };
}

/** Names of the nodes that have an agent's pod. Throws CliError. */
export async function agentNodes(options: Omit<RemoteOptions, "node">): Promise<string[]> {
  const { client } = await openApi(options);
  const namespace = options.namespace ?? NAMESPACE;
  const names = new Set<string>();
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  try {
    let next: string | undefined;
    do {
      const { items, metadata } = await client.list(path, { labelSelector: LABEL, limit: MAX_PODS, continue: next });
      for (const { spec } of agentsOf(items as Pod[])) if (spec?.nodeName !== undefined) names.add(spec.nodeName);
      next = metadata.continue || undefined;
    } while (next !== undefined);
  } catch (error) {
    throw explainApiError(error, client.server, `list pods in namespace ${namespace}`);
  }
  return [...names];
}

async function findPod(client: ApiClient, namespace: string, node: string): Promise<Pod> {
  const pods = await listPods(client, namespace, node);
  const running = pods.find(pod => pod.metadata.deletionTimestamp === undefined && isRunning(pod)) ?? pods.find(isRunning);
  if (running) return running;
  if (pods.length > 0) throw notRunning(pods[0], namespace, node);
  await requireNode(client, node);
  const elsewhere = await listPods(client, namespace);
  if (elsewhere.length === 0)
    throw new CliError(
      `there are no agents in namespace ${namespace}: no pod there has the label ${LABEL}`,
      "--namespace names the one that podlane was installed in; kubectl apply -f deploy/podlane.yaml installs it",
    );
  const amount = elsewhere.length === MAX_PODS ? `${MAX_PODS} and more` : String(elsewhere.length);
  throw new CliError(
    `no agent is on node ${node}; pods of agents in namespace ${namespace}: ${amount}`,
    `see why the DaemonSet leaves it out: kubectl --namespace ${namespace} describe daemonset podlane; kubectl describe node ${node}`,
  );
}

async function listPods(client: ApiClient, namespace: string, node?: string): Promise<Pod[]> {
  const fieldSelector = node && `spec.nodeName=${node}`;
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
  try {
    const { items } = await client.list(path, { labelSelector: LABEL, fieldSelector, limit: MAX_PODS });
    return agentsOf(items as Pod[]);
  } catch (error) {
    throw explainApiError(error, client.server, `list pods in namespace ${namespace}`);
  }
}

function agentsOf(pods: readonly Pod[]): Pod[] {
  return pods.filter(({ metadata }) => (metadata.labels?.[COMPONENT] ?? "agent") === "agent");
}

/** Who may not read nodes is told about pods alone. */
async function requireNode(client: ApiClient, node: string): Promise<void> {
  try {
    await client.get(`/api/v1/nodes/${encodeURIComponent(node)}`);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404)
      throw new CliError(`the cluster has no node "${node}"`, "kubectl get nodes and podlane cluster list them");
  }
}

function isRunning(pod: Pod): boolean {
  const name = agentContainer(pod).name;
  return pod.status?.containerStatuses?.find(one => one.name === name)?.state?.running !== undefined;
}

function notRunning(pod: Pod, namespace: string, node: string): CliError {
  const { phase = "unknown", reason, message, containerStatuses = [] } = pod.status ?? {};
  const state = containerStatuses[0]?.state;
  const { waiting, terminated } = state ?? {};
  const why = [waiting?.reason ?? terminated?.reason ?? reason, waiting?.message ?? terminated?.message ?? message].filter(Boolean);
  return new CliError(
    `the agent of ${node} does not run: pod ${pod.metadata.name} is ${phase}${why.length > 0 ? ` (${why.join(": ")})` : ""}`,
    `see kubectl --namespace ${namespace} describe pod ${pod.metadata.name}, and logs of it`,
  );
}

function agentContainer(pod: Pod): Container {
  const all = pod.spec?.containers ?? [];
  return all.find(one => one.name === "agent") ?? all[0] ?? { name: "agent" };
}

/** The agent may listen elsewhere than by default. */
function socketOf({ command = [], args = [] }: Container): string[] {
  const words = [...command, ...args];
  const at = words.findIndex(word => word === "--socket" || word.startsWith("--socket="));
  if (at < 0) return [];
  return words[at] === "--socket" ? words.slice(at, at + 2) : [words[at]];
}

/** `log`: the command that shows the agent's. */
function explainExec(error: Error, node: string, log: string): CliError {
  if (error instanceof CliError) return error;
  if (!(error instanceof ExecError)) return new CliError(`cannot ask the agent of ${node}: ${error.message}`, `see its log: ${log}`);
  const said = saidInPod(error.stderr);
  if (said !== undefined && /unknown command/.test(said))
    return new CliError(`the agent of ${node} is of an older version, which cannot be asked from afar`, `update it; its log: ${log}`);
  if (said !== undefined) return new CliError(`on node ${node}: ${said}`, `see the agent's log: ${log}`);
  return new CliError(`the way to the agent of ${node} failed: ${error.message}`, `see its log: ${log}`);
}

/** What `podlane api --json` wrote before it failed, perhaps below warnings of Node's; or whatever else the container runtime ran in its place. */
function saidInPod(stderr: string): string | undefined {
  const lines = stderr.split("\n").filter(line => line.trim() !== "");
  for (const line of lines.filter(text => text.startsWith("{"))) {
    try {
      const { error } = JSON.parse(line);
      if (typeof error === "string") return error;
    } catch {
      // Cut off, or not ours.
    }
  }
  return lines[0];
}
