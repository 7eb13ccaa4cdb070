/**
 * The CNI handler behind a Unix socket, as the agent mounts it; a process of its own, because it must live in the node's
 * namespace and be killed by tests.
 *
 *     node test/cni/agent.ts '{"socket": …, "stateDir": …, "plan": {…}}'
 *
 * Beside POST /v1/cni it answers PUT /plan, GET /attachments, GET /held, GET /problems, GET /spoofed, POST /sweep and POST /take-back for the test.
 */
import fs from "node:fs";
import http from "node:http";
import { bothGuards, bridgeOf } from "../../agent/guards.ts";
import { Netfilter } from "../../agent/netfilter.ts";
import { Policies } from "../../agent/policies.ts";
import { type CniHandlerOptions, createCniHandler } from "../../cni/attach/handler.ts";
import { CNI_PATH, serveCni } from "../../cni/http.ts";
import type { AttachmentView } from "../../cni/types.ts";
import type { PolicyFeed } from "../../config/sources/policy-feed.ts";
import { openRtnetlink } from "../../kernel/index.ts";
import type { NetworkPolicyObject, PolicyPod } from "../../netfilter/policy/types.ts";
import { systemClock } from "../../platform/clock.ts";
import type { Logger } from "../../platform/log.ts";
import { policyFeed } from "./policy-feed.ts";

const {
  socket,
  plan,
  netfilter,
  policies: objects,
  policed,
  ...rest
} = JSON.parse(process.argv[2]) as {
  socket: string;
  /** Guard pods and publish their ports, as the agent does; "late": the ledger could not be read at first. */
  netfilter?: boolean | "late";
  /** Carried out from the start, with `netfilter`. */
  policies?: { pods: PolicyPod[]; policies: NetworkPolicyObject[] };
  /** Or so many NetworkPolicies for pods whose names begin so; see policy-feed.ts. */
  policed?: { count: number; names: string[] };
  plan: ReturnType<CniHandlerOptions["plan"]>;
} & CniHandlerOptions;
const write = (level: string) => (fields: object, message: string) =>
  process.stderr.write(`${level} ${message} ${JSON.stringify(fields)}\n`);
const log: Logger = { debug: () => undefined, info: write("info"), warn: write("warn"), error: write("error"), child: () => log };
const netlink = openRtnetlink();
const attachments = () => handler.attachments();
const rules = netfilter ? new Netfilter({ clock: systemClock, log, kernel: { netlink }, mended: () => undefined, attachments }) : undefined;
const feed: PolicyFeed = {
  follow(sink) {
    for (const pod of objects?.pods ?? []) sink.setPod(pod);
    for (const policy of objects?.policies ?? []) sink.setPolicy(policy);
    sink.settle();
  },
  stop: () => undefined,
  missing: () => undefined,
};
// Without any, objects of policies in our table are those of whoever runs this.
const policies =
  rules &&
  (objects || policed) &&
  new Policies({
    clock: systemClock,
    log,
    feed: policed ? policyFeed(policed.count, policed.names) : feed,
    writer: rules.writer,
    attachments,
    mark: { get: () => objects !== undefined, set: () => undefined },
    // Whether a kernel judges what a bridge forwards is not the question here.
    bridgeLack: () => undefined,
    counters: () => rules.counters(),
    bridgeOf: link => bridgeOf(netlink, link),
  });
const guard = rules && {
  prepare: (pod: AttachmentView) => rules.prepare(pod),
  admit: async ({ hostInterface }: AttachmentView) => rules.attached(hostInterface),
  released: (hostInterface: string) => rules.released(hostInterface),
  ...(policies && bothGuards(rules, policies)),
};
const handler = createCniHandler({
  ...rest,
  plan: () => plan,
  log,
  clock: systemClock,
  ...(guard && { guard }),
});
rules?.apply({ pods: plan }, netfilter === "late" ? undefined : handler.attachments());
policies?.apply(true);

const server = http.createServer(async (request, response) => {
  if (request.url === CNI_PATH) return serveCni(raw => handler.handle(raw), request, response);
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  if (request.url === "/plan") {
    const changed = JSON.parse(Buffer.concat(chunks).toString());
    response.end(JSON.stringify(handler.applyPlan(changed)));
    rules?.apply({ pods: changed }, handler.attachments());
  } else if (request.url === "/look") response.end(JSON.stringify(handler.look()));
  else if (request.url === "/sweep") {
    rules?.look(handler.attachments());
    policies?.look();
    response.end(JSON.stringify(await handler.sweep()));
  } else if (request.url === "/take-back") response.end(JSON.stringify((await handler.takeBack()) ?? null));
  else if (request.url === "/held") response.end(JSON.stringify(handler.held()));
  else if (request.url === "/spoofed") {
    rules?.look(handler.attachments());
    response.end(JSON.stringify(rules?.spoofed ?? {}));
  } else if (request.url === "/problems") response.end(JSON.stringify(handler.problems()));
  else response.end(JSON.stringify(handler.attachments()));
});
fs.rmSync(socket, { force: true });
server.listen({ path: socket, backlog: 1024 }, () => process.stdout.write("ready\n"));
process.on("SIGTERM", () => {
  handler.close();
  process.exit(0);
});
