/** Metrics of routes: tables, queues, and what the kernel has. */
import type { Figures } from "./figures.ts";
import { by, type NodeRow, one } from "./row.ts";

function ofTables(figures: Figures, column: "prefixes" | "paths" | "best"): Record<string, number> {
  return Object.fromEntries(Object.entries(figures.speaker?.tables ?? {}).map(([family, counts]) => [family, counts[column]]));
}

export const RouteRows: readonly NodeRow[] = [
  {
    name: "podlane_table_prefixes",
    type: "gauge",
    help: "Prefixes in the BGP table.",
    labels: ["family"],
    read: figures => by("family", ofTables(figures, "prefixes")),
  },
  {
    name: "podlane_table_paths",
    type: "gauge",
    help: "Paths in the BGP table: each neighbour's, for each prefix, rejected ones included.",
    labels: ["family"],
    read: figures => by("family", ofTables(figures, "paths")),
  },
  {
    name: "podlane_table_best_paths",
    type: "gauge",
    help: "Prefixes that have a best path.",
    labels: ["family"],
    read: figures => by("family", ofTables(figures, "best")),
  },
  {
    name: "podlane_attribute_sets",
    type: "gauge",
    help: "Sets of path attributes that differ.",
    labels: [],
    read: ({ speaker }) => one(speaker?.attributeSets),
  },
  {
    name: "podlane_update_groups",
    type: "gauge",
    help: "Groups of neighbours that are told the same.",
    labels: [],
    read: ({ speaker }) => one(speaker?.updateGroups),
  },
  {
    name: "podlane_decision_queue_prefixes",
    type: "gauge",
    help: "Prefixes that wait for the decision.",
    labels: ["family"],
    read: ({ speaker }) => by("family", speaker?.undecided),
  },
  {
    name: "podlane_send_queue_prefixes",
    type: "gauge",
    help: "Prefixes that wait to be told to neighbours, counted once for each update group.",
    labels: ["family"],
    read: ({ speaker }) => by("family", speaker?.unsent),
  },
  {
    name: "podlane_converged",
    type: "gauge",
    help: "1 when the start is complete: all tables are in, or the wait for them ended, and stale kernel routes go.",
    labels: [],
    read: ({ speaker }) => one(speaker && Number(speaker.converged)),
  },
  {
    name: "podlane_kernel_routes",
    type: "gauge",
    help: "Routes of podlane that are in the kernel, those that wait to be written, and those that it refused and that are tried again.",
    labels: ["state"],
    read: ({ speaker }) => {
      const { installed, pending, failed } = speaker?.fib ?? {};
      return by("state", { installed, pending, failed });
    },
  },
  {
    name: "podlane_kernel_route_operations_total",
    type: "counter",
    help: "Routes that the kernel took or replaced (write), removed (remove), and would not take or remove (refuse: each attempt counts).",
    labels: ["operation"],
    read: ({ speaker }) => {
      const { written: write, removed: remove, refused: refuse } = speaker?.fib ?? {};
      return by("operation", { write, remove, refuse });
    },
  },
  {
    name: "podlane_kernel_routes_repaired_total",
    type: "counter",
    help: "Kernel routes of podlane that somebody else removed or changed and that were written again.",
    labels: [],
    read: ({ speaker }) => one(speaker?.fib?.repaired),
  },
  {
    name: "podlane_kernel_routes_adopted_total",
    type: "counter",
    help: "Kernel routes of a former agent that were found at the start.",
    labels: [],
    read: ({ speaker }) => one(speaker?.fib?.adopted),
  },
  {
    name: "podlane_kernel_routes_swept_total",
    type: "counter",
    help: "Of these, those that nobody announced any more and that were removed.",
    labels: [],
    read: ({ speaker }) => one(speaker?.fib?.swept),
  },
];
