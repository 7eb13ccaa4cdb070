/** Metrics of NetworkPolicy on this node. */
import { type NodeRow, one } from "./row.ts";

export const PolicyRows: readonly NodeRow[] = [
  {
    name: "podlane_network_policies",
    type: "gauge",
    help: "NetworkPolicies and cluster policies that are known; absent where they are not carried out.",
    labels: [],
    read: ({ policies }) => one(policies?.policies),
  },
  {
    name: "podlane_network_policy_isolated_attachments",
    type: "gauge",
    help: "Interfaces of pods on this node that a policy selects.",
    labels: [],
    read: ({ policies }) => one(policies?.isolated),
  },
  {
    name: "podlane_network_policy_in_force",
    type: "gauge",
    help: "1 if all policies and pods were heard once, and what follows from them is in the packet filter.",
    labels: [],
    read: ({ policies }) => one(policies && Number(policies.inForce)),
  },
  {
    name: "podlane_network_policy_dropped_packets_total",
    type: "counter",
    help: "Packets that were dropped, by the policy that denied them or that isolates the pod, as of at most a minute ago; it begins anew where the policy selects no pod here for a time.",
    labels: ["policy", "direction"],
    read: ({ policies }) =>
      (policies?.dropped ?? []).flatMap(({ policy, ingress, egress }) => [
        { value: ingress, labels: { policy, direction: "ingress" } },
        { value: egress, labels: { policy, direction: "egress" } },
      ]),
  },
];
