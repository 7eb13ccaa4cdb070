/** Metrics of the agent itself: what it runs, what is wrong, how its process fares. */
import { by, type NodeRow, one, type ProblemRow } from "./row.ts";

export const AgentRows: readonly (NodeRow | ProblemRow)[] = [
  {
    name: "podlane_build_info",
    type: "gauge",
    help: "Always 1; the labels say which version runs, on which Node.js.",
    labels: ["version", "nodejs"],
    read: ({ version }) => [{ value: 1, labels: { version, nodejs: process.versions.node } }],
  },
  {
    name: "podlane_start_time_seconds",
    type: "gauge",
    help: "When the agent started, in seconds since the epoch.",
    labels: [],
    read: ({ startedAt }) => one(startedAt),
  },
  {
    name: "podlane_ready",
    type: "gauge",
    help: "1 while a plan is in force and pods can be attached, else 0; /readyz says why.",
    labels: [],
    read: ({ ready }) => one(Number(ready)),
  },
  {
    name: "podlane_problems",
    type: "gauge",
    help: "Problems there are now, as podlane problems lists them; a reason that has none is absent.",
    labels: ["reason", "severity"],
    problem: ({ reason, severity }) => ({ reason, severity }),
  },
  {
    name: "podlane_plan_in_use",
    type: "gauge",
    help: "1 for where the plan in force comes from: source (as read), saved (the last good one, from the disk) or none.",
    labels: ["origin"],
    read: ({ plan }) =>
      by("origin", Object.fromEntries(["source", "saved", "none"].map(origin => [origin, Number(plan.inUse === origin)]))),
  },
  {
    name: "podlane_plan_age_seconds",
    type: "gauge",
    help: "Time since the plan in force was made: applied, or saved where it is from the disk. Great where nothing changes; absent without a plan.",
    labels: [],
    read: ({ plan }) => one(plan.age),
  },
  {
    name: "podlane_source_age_seconds",
    type: "gauge",
    help: "Time since the source of the objects was last heard from; absent for a directory, which is looked at and does not speak.",
    labels: [],
    read: ({ sourceAge }) => one(sourceAge),
  },
  {
    name: "podlane_faults_total",
    type: "counter",
    help: "Exceptions of podlane's own, by the place that caught them; each is a defect to report.",
    labels: ["place"],
    read: ({ faults }) => by("place", faults?.byPlace),
  },
  {
    name: "podlane_process_cpu_seconds_total",
    type: "counter",
    help: "CPU time of the agent, in user mode and in the kernel.",
    labels: ["mode"],
    read() {
      const { user, system } = process.cpuUsage();
      return by("mode", { user: user / 1e6, system: system / 1e6 });
    },
  },
  {
    name: "podlane_process_resident_memory_bytes",
    type: "gauge",
    help: "Memory of the agent that is in RAM.",
    labels: [],
    read: () => one(process.memoryUsage.rss()),
  },
  {
    name: "podlane_process_heap_bytes",
    type: "gauge",
    help: "Memory of JavaScript: got from the system, in use of it, and beside it (external: tables of routes, sockets).",
    labels: ["kind"],
    read() {
      const { heapTotal: total, heapUsed: used, external } = process.memoryUsage();
      return by("kind", { total, used, external });
    },
  },
  {
    name: "podlane_event_loop_delay_seconds",
    type: "gauge",
    help: "By how much turns of the event loop came late in the last one to two minutes; percentile 100 is the worst of them.",
    labels: ["percentile"],
    read: ({ lateness }) => by("percentile", { 50: lateness.half / 1000, 99: lateness.most / 1000, 100: lateness.all / 1000 }),
  },
  {
    name: "podlane_event_loop_longest_delay_seconds",
    type: "gauge",
    help: "The longest that the event loop stood still since the start.",
    labels: [],
    read: ({ turns }) => one(turns.longest / 1000),
  },
  {
    name: "podlane_event_loop_active_seconds_total",
    type: "counter",
    help: "Time in which the event loop worked and did not wait; its rate is the share of time that is used, at most 1.",
    labels: [],
    read: () => one(performance.eventLoopUtilization().active / 1000),
  },
];
