/** `podlane services`: what becomes of the addresses of Services, on this node, on another one, or on all nodes of the cluster. */
import type { ServicesView } from "../agent/api/views.ts";
import { AgentClient } from "./client.ts";
import { CliError } from "./error.ts";
import { type NodeAnswer, renderNodes, renderServices } from "./render/services.ts";
import { compareNames } from "./render/table.ts";
import type { Terminal } from "./terminal.ts";

export interface ServicesOptions {
  socket: string;
  json?: true;
  /** Of Services. */
  namespace?: string;
  limit: number;
  after?: string;
  node?: string;
  allNodes?: true;
  agentsNamespace?: string;
  kubeconfig?: string;
  context?: string;
}

/** Agents that are asked at once: each costs the API server a stream. */
const AT_ONCE = 8;

export async function services(name: string | undefined, options: ServicesOptions, terminal: Terminal): Promise<void> {
  const { namespace, limit, after } = options;
  if (namespace !== undefined && name?.includes("/"))
    throw new CliError(`${name} names a namespace, and --namespace another one`, "give the namespace once", 2);
  const query = { name, namespace, limit, after };
  if (options.allNodes) return ofAllNodes(query, options, terminal);
  const view = await (await agentOf(options)).get<ServicesView>("/v1/services", query);
  if (options.json) terminal.print(`${JSON.stringify(view, undefined, 2)}\n`);
  else terminal.print(renderServices(view, name !== undefined, terminal.paint));
}

type Query = Record<"name" | "namespace" | "after", string | undefined> & { limit: number };

async function agentOf({ node, agentsNamespace, socket, ...options }: ServicesOptions): Promise<AgentClient> {
  if (node !== undefined)
    return new AgentClient(await (await import("./remote.ts")).remoteAgent({ ...options, node, namespace: agentsNamespace }));
  const alone = Object.entries({ kubeconfig: options.kubeconfig, context: options.context, "agents-namespace": agentsNamespace }).find(
    ([, value]) => value !== undefined,
  );
  if (alone) throw new CliError(`--${alone[0]} says nothing without --node or --all-nodes`, "name the node whose agent is to be asked", 2);
  return new AgentClient(socket);
}

/** A node that cannot be asked is a line like the others. */
async function ofAllNodes(query: Query, options: ServicesOptions, terminal: Terminal): Promise<void> {
  const { agentNodes } = await import("./remote.ts");
  const nodes = (await agentNodes({ ...options, namespace: options.agentsNamespace })).sort(compareNames);
  const answers: NodeAnswer[] = [];
  const ask = async () => {
    for (let node = nodes.shift(); node !== undefined; node = nodes.shift()) {
      const agent = await agentOf({ ...options, node }).catch((error: Error) => error);
      const view = agent instanceof Error ? agent : await agent.get<ServicesView>("/v1/services", query).catch((error: Error) => error);
      answers.push(view instanceof Error ? { node, error: view.message } : { node, view });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  answers.sort((a, b) => compareNames(a.node, b.node));
  if (options.json) terminal.print(`${JSON.stringify({ nodes: answers }, undefined, 2)}\n`);
  else terminal.print(renderNodes(answers, query.name !== undefined, terminal.paint));
}
