/** Metrics of pods: calls of the runtime, attachments, addresses. */
import { CallBuckets, type CniCallsView } from "../cni-calls.ts";
import { by, type NodeRow, one, type Sample } from "./row.ts";

/** Buckets of a histogram count all that took at most so long. */
function histogram({ verb, buckets, count, seconds }: CniCallsView): Sample[] {
  let sum = 0;
  const within = buckets.map((inBucket, at) => {
    sum += inBucket;
    return { value: sum, suffix: "_bucket" as const, labels: { verb, le: CallBuckets[at] } };
  });
  return [
    ...within,
    { value: count, suffix: "_bucket", labels: { verb, le: "+Inf" } },
    { value: seconds, suffix: "_sum", labels: { verb } },
    { value: count, suffix: "_count", labels: { verb } },
  ];
}

export const PodRows: readonly NodeRow[] = [
  {
    name: "podlane_cni_calls_total",
    type: "counter",
    help: "Calls of the container runtime by their result: 0 done, 11 try again later, 50 pods cannot be attached, others as in the CNI specification.",
    labels: ["verb", "code"],
    read: ({ calls }) => calls.verbs.flatMap(({ verb, codes }) => [...codes].map(([code, value]) => ({ value, labels: { verb, code } }))),
  },
  {
    name: "podlane_cni_call_duration_seconds",
    type: "histogram",
    help: "From when the agent had a call of the container runtime to its answer.",
    labels: ["verb"],
    read: ({ calls }) => calls.verbs.flatMap(histogram),
  },
  {
    name: "podlane_cni_calls_underway",
    type: "gauge",
    help: "Calls of the container runtime that have no answer yet.",
    labels: [],
    read: ({ calls }) => one(calls.underway),
  },
  {
    name: "podlane_pod_attachments",
    type: "gauge",
    help: "Interfaces of pods: attached, and reserved where ADD was begun and never acknowledged.",
    labels: ["state"],
    read({ attachments }) {
      const count = (state: string) => attachments.filter(one => one.state === state).length;
      return by("state", { attached: count("attached"), reserved: count("reserved") });
    },
  },
  {
    name: "podlane_spoofed_packets_total",
    type: "counter",
    help: "Packets of pods that the guard against spoofing dropped, by what in them was not the pod's to say, as of at most a minute ago.",
    labels: ["reason"],
    read: ({ spoofed }) => by("reason", spoofed),
  },
  {
    name: "podlane_pod_addresses",
    type: "gauge",
    help: "Addresses of each pod range: used, resting (freed a short while ago) and free, which a range that is the node's no more has not. Of a large range 65,534 are counted.",
    labels: ["range", "family", "state"],
    read: ({ ranges }) =>
      ranges.flatMap(({ prefix: range, ...states }) => {
        const family = range.includes(":") ? "ipv6" : "ipv4";
        return Object.entries(states).map(([state, value]) => ({ value, labels: { range, family, state } }));
      }),
  },
];
