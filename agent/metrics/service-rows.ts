/** Metrics of Services: what becomes of their addresses on this node, and whether its proxy is well. */
import { Links } from "../../config/services/types.ts";
import { ProxyStates } from "../services/proxy-watch.ts";
import { by, type NodeRow } from "./row.ts";

export const ServiceRows: readonly NodeRow[] = [
  {
    name: "podlane_service_addresses",
    type: "gauge",
    help: "Addresses of Services by what becomes of them on this node: announced, or the first broken link, as podlane services has it; absent where no Advertisement of type Service selects the node.",
    labels: ["state"],
    read: ({ services }) =>
      by("state", services && Object.fromEntries(["announced" as const, ...Links].map(state => [state, services.addresses[state] ?? 0]))),
  },
  {
    name: "podlane_service_proxy",
    type: "gauge",
    help: "1 for the state of the node's proxy for Services (kube-proxy) as its health port tells it.",
    labels: ["state"],
    read: ({ services }) =>
      by("state", services && Object.fromEntries(ProxyStates.map(state => [state, Number(services.proxy === state)]))),
  },
];
