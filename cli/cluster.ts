/** `podlane cluster`: what the agents of all nodes report, as NodeState objects, beside the nodes that there are. */
import { apiVersion } from "../config/resources/common.ts";
import type { ApiClient } from "../kubernetes/client.ts";
import { ApiError, type ApiObject } from "../kubernetes/types.ts";
import { type ApiOptions, explainApiError, openApi } from "./api-access.ts";
import { ClusterReport, type ClusterView, isWrong, versionsOf } from "./cluster-report.ts";
import { CliError } from "./error.ts";
import { renderCluster, renderClusterProblems, renderVersions } from "./render/cluster.ts";
import type { Terminal } from "./terminal.ts";

/** Objects of a page. A NodeState of a large mesh has some hundred kilobytes. */
const STATES = 200;
const NODES = 1000;
/** How often a list is begun again whose pages the server does not have any more. */
const RESTARTS = 3;

interface Options extends ApiOptions {
  json?: boolean;
}

/** Returns the exit code. */
export async function cluster(options: Options & { problems?: boolean; exitCode?: boolean }, terminal: Terminal): Promise<number> {
  const view = await read(options);
  if (options.json) terminal.print(`${JSON.stringify(view, undefined, 2)}\n`);
  else if (options.problems) terminal.print(renderClusterProblems(view, terminal.paint));
  else terminal.print(renderCluster(view, terminal.now(), terminal.paint));
  return options.exitCode && isWrong(view) ? 1 : 0;
}

/** `own`: the version of this program, and of what it runs on. */
export async function versions(own: { podlane: string }, options: Options, terminal: Terminal): Promise<void> {
  const agents = versionsOf(await read(options));
  if (options.json) terminal.print(`${JSON.stringify({ ...own, agents }, undefined, 2)}\n`);
  else terminal.print(`podlane ${own.podlane}\n${renderVersions(agents, terminal.paint)}`);
}

async function read(options: Options): Promise<ClusterView> {
  const { client } = await openApi(options);
  const missing = new CliError(
    `the API server ${client.server} knows no NodeStates`,
    "install podlane's CustomResourceDefinitions: kubectl apply -f deploy/podlane.yaml; or --context names another cluster",
  );
  const nodes = all(client, "/api/v1/nodes", NODES, "metadata", () => new Names()).catch(error => {
    throw explainApiError(error, client.server, "list nodes");
  });
  // Of two refusals the other one is told, whichever came first.
  nodes.catch(() => {});
  const states = await all(client, `/apis/${apiVersion}/nodestates`, STATES, "objects", () => new ClusterReport()).catch(error => {
    throw explainApiError(error, client.server, "list nodestates.podlane.io", missing);
  });
  return states.result((await nodes).names);
}

class Names {
  readonly names: string[] = [];

  add({ metadata }: ApiObject): void {
    this.names.push(metadata.name);
  }
}

/** Each object goes to what `begin` makes, and is forgotten: 5,000 of them at once would be much. */
async function all<Sink extends { add(object: ApiObject): void }>(
  client: ApiClient,
  path: string,
  limit: number,
  what: "objects" | "metadata",
  begin: () => Sink,
): Promise<Sink> {
  for (let restarts = 0; ; restarts++) {
    const sink = begin();
    try {
      let next: string | undefined;
      do {
        const { items, metadata } = await client.list(path, { limit, continue: next }, what);
        for (const item of items) sink.add(item);
        next = metadata.continue || undefined;
      } while (next !== undefined);
      return sink;
    } catch (error) {
      if (restarts >= RESTARTS || !(error instanceof ApiError && error.expired)) throw error;
    }
  }
}
