/** All metrics there are. docs/metrics.md has this table in words, and deploy/ uses nothing that is not in it: tests hold both. */
import { AgentRows } from "./agent-rows.ts";
import { PodRows } from "./pod-rows.ts";
import { PolicyRows } from "./policy-rows.ts";
import { RouteRows } from "./route-rows.ts";
import type { Row } from "./row.ts";
import { ServiceRows } from "./service-rows.ts";
import { SessionRows } from "./session-rows.ts";

export const MetricSections: Readonly<Record<string, readonly Row[]>> = {
  "The agent": AgentRows,
  Sessions: SessionRows,
  Routes: RouteRows,
  Services: ServiceRows,
  Pods: PodRows,
  NetworkPolicy: PolicyRows,
};

export const MetricRows: readonly Row[] = Object.values(MetricSections).flat();
