/** A plan as it may be shown: passwords hidden. */
import type { NodePlan } from "../config/plan.ts";

export function withoutSecrets(plan: NodePlan): NodePlan {
  if (!plan.speaker) return plan;
  const neighbors = plan.speaker.neighbors.map(one => (one.password === undefined ? one : { ...one, password: "(hidden)" }));
  return { ...plan, speaker: { ...plan.speaker, neighbors } };
}
