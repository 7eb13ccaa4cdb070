/** What the local API knows: one row for each path and method. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { isAbsolute } from "node:path";
import { Families } from "../../bgpd/family.ts";
import type { RouteFilter } from "../../bgpd/route-list.ts";
import type { NeighborSnapshot } from "../../bgpd/snapshot.ts";
import { type CniAnswer, serveCni } from "../../cni/http.ts";
import type { RawRequest } from "../../cni/protocol/request.ts";
import type { AttachmentView } from "../../cni/types.ts";
import type { Problem } from "../../config/plan.ts";
import type { Connection } from "../../netfilter/policy/explain.ts";
import type { ServicesQuery } from "../services/queries.ts";
import { ApiError } from "./error.ts";
import { readBody, readChoice, readInteger, readPrefix, readQuery, type Target } from "./request.ts";
import type {
  AttachmentsView,
  ConnectionView,
  ExplainView,
  PeersView,
  PlanView,
  PoliciesView,
  ProblemsView,
  ReloadView,
  RoutesView,
  ServicesView,
  StatusView,
} from "./views.ts";

/** What the agent offers to the API. */
export interface ApiBackend {
  status(): StatusView;
  peers(): NeighborSnapshot[];
  /** Throws ApiError 409 while no BGP is configured. */
  routes(filter: RouteFilter): Promise<RoutesView>;
  explain(prefix: string): ExplainView;
  services(query: ServicesQuery): ServicesView;
  /** Throws ApiError 409 where policies are not carried out. */
  connection(connection: Connection): ConnectionView;
  policies(): Promise<PoliciesView>;
  problems(): Problem[];
  plan(): PlanView;
  /** What the objects of a directory would come to here. Rejects with ApiError where it cannot be read. */
  preview(directory: string): Promise<PlanView>;
  attachments(): AttachmentView[];
  cni(request: RawRequest): Promise<CniAnswer>;
  reload(): Promise<ReloadView>;
  /** Withdraws the node's routes and ends the agent. */
  leave(): void;
  refresh(neighbor: string, direction: "in" | "out"): void;
  reset(neighbor: string, reason: string): void;
}

export interface Call extends Target {
  request: IncomingMessage;
  response: ServerResponse;
  /** Path segments that matched `:name`. */
  parameters: string[];
}

/** "answered": the handler writes to the response itself. */
export type Answer = { status: number; body: string; type: "application/json" | "text/plain" } | "answered";

type Handler = (call: Call, backend: ApiBackend) => Promise<Answer> | Answer;

export interface ApiRoute {
  method: "GET" | "POST";
  /** `*` stands for one segment. */
  path: string;
  handle: Handler;
}

const DEFAULT_LIMIT = 100;
/** Bounds one answer to some megabytes. */
const MAX_LIMIT = 10_000;

export const apiRoutes: ApiRoute[] = [
  get("/v1/status", [], (_query, backend) => backend.status()),
  get("/v1/peers", [], (_query, backend) => ({ peers: backend.peers() }) satisfies PeersView),
  get("/v1/routes", ["prefix", "longer", "family", "neighbor", "limit", "after"], (query, backend) =>
    backend.routes({
      ...(query.prefix !== undefined && { prefix: readPrefix(query.prefix) }),
      ...(query.longer !== undefined && { longer: readChoice("value of longer", query.longer, ["true", "false"]) === "true" }),
      ...(query.after !== undefined && { after: readPrefix(query.after, "prefix only") }),
      ...(query.family !== undefined && { family: readChoice("family", query.family, Families) }),
      ...(query.neighbor !== undefined && { neighbor: knownPeer(query.neighbor, backend) }),
      limit: query.limit === undefined ? DEFAULT_LIMIT : readInteger("limit", query.limit, 1, MAX_LIMIT),
    }),
  ),
  get("/v1/explain", ["prefix"], (query, backend) => {
    if (query.prefix === undefined) throw new ApiError(400, 'parameter "prefix" is missing', "ask for /v1/explain?prefix=ADDRESS/LENGTH");
    return backend.explain(readPrefix(query.prefix));
  }),
  get("/v1/services", ["name", "namespace", "limit", "after"], ({ name, namespace, limit, after }, backend) =>
    backend.services({
      ...(name !== undefined && { name }),
      ...(namespace !== undefined && { namespace }),
      ...(after !== undefined && { after }),
      limit: limit === undefined ? DEFAULT_LIMIT : readInteger("limit", limit, 1, MAX_LIMIT),
    }),
  ),
  get("/v1/connection", ["from", "to", "port", "protocol"], ({ from, to, port, protocol = "TCP" }, backend) => {
    if (from === undefined || to === undefined || port === undefined)
      throw new ApiError(400, "from, to or port is missing", "ask for /v1/connection?from=NAMESPACE/NAME&to=NAMESPACE/NAME&port=80");
    return backend.connection({
      from,
      to,
      port: readInteger("port", port, 1, 65535),
      protocol: readChoice("protocol", protocol, ["TCP", "UDP", "SCTP"]),
    });
  }),
  get("/v1/policies", [], (_query, backend) => backend.policies()),
  get("/v1/problems", [], (_query, backend) => ({ problems: backend.problems() }) satisfies ProblemsView),
  get("/v1/plan", ["config"], ({ config }, backend) => {
    if (config === undefined) return backend.plan();
    if (isAbsolute(config)) return backend.preview(config);
    throw new ApiError(400, `"${config.slice(0, 64)}" is not the path of a directory from the root`, "write /etc/podlane or the like");
  }),
  get("/v1/attachments", [], (_query, backend) => ({ attachments: backend.attachments() }) satisfies AttachmentsView),
  { method: "GET", path: "/healthz", handle: () => ({ status: 200, body: "ok\n", type: "text/plain" }) },
  { method: "POST", path: "/v1/cni", handle: cni },
  { method: "POST", path: "/v1/reload", handle: reload },
  { method: "POST", path: "/v1/leave", handle: leave },
  { method: "POST", path: "/v1/peers/*/refresh", handle: refresh },
  { method: "POST", path: "/v1/peers/*/reset", handle: reset },
];

export function json(value: unknown, status = 200): Answer {
  return { status, body: `${JSON.stringify(value)}\n`, type: "application/json" };
}

function get<Name extends string>(
  path: string,
  names: readonly Name[],
  answer: (query: Partial<Record<Name, string>>, backend: ApiBackend) => unknown,
): ApiRoute {
  const handle: Handler = async (call, backend) => {
    const query = readQuery(call.query, names);
    await readBody(call.request, 0);
    return json(await answer(query, backend));
  };
  return { method: "GET", path, handle };
}

/** A container runtime reads the answer: also what is wrong with the request is told in CNI's form. */
async function cni(call: Call, backend: ApiBackend): Promise<Answer> {
  await serveCni(request => backend.cni(request), call.request, call.response);
  return "answered";
}

async function reload(call: Call, backend: ApiBackend): Promise<Answer> {
  readQuery(call.query, []);
  await readBody(call.request, 0);
  return json(await backend.reload());
}

async function leave(call: Call, backend: ApiBackend): Promise<Answer> {
  readQuery(call.query, []);
  await readBody(call.request, 0);
  backend.leave();
  return json({});
}

async function refresh(call: Call, backend: ApiBackend): Promise<Answer> {
  const query = readQuery(call.query, ["direction"]);
  await readBody(call.request, 0);
  const name = knownPeer(call.parameters[0], backend);
  backend.refresh(name, readChoice("direction", query.direction ?? "in", ["in", "out"]));
  return json({});
}

async function reset(call: Call, backend: ApiBackend): Promise<Answer> {
  const query = readQuery(call.query, ["reason"]);
  await readBody(call.request, 0);
  const reason = query.reason ?? "asked for by the operator";
  // RFC 9003: at most 255 octets travel to the neighbour.
  if (Buffer.byteLength(reason) > 255) throw new ApiError(400, "the reason has more than 255 octets", "shorten it");
  backend.reset(knownPeer(call.parameters[0], backend), reason);
  return json({});
}

function knownPeer(name: string, backend: ApiBackend): string {
  const names = backend.peers().map(peer => peer.name);
  if (names.includes(name)) return name;
  const known = names.length > 0 ? `neighbours here: ${names.slice(0, 20).join(", ")}` : "no neighbours are configured";
  throw new ApiError(404, `there is no neighbour "${name.slice(0, 64)}"`, known);
}
