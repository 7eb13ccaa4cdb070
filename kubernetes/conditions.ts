/** metav1.Condition: what was found gets the time at which its status last changed. */

export interface Condition {
  type: string;
  status: "True" | "False" | "Unknown";
  /** CamelCase, for programs. */
  reason: string;
  message: string;
  /** RFC 3339. */
  lastTransitionTime: string;
  observedGeneration?: number;
}

export type FoundCondition = Omit<Condition, "lastTransitionTime" | "observedGeneration">;

/** `before`: as the object has them. `now`: milliseconds since the epoch. */
export function conditionsOf(
  found: readonly FoundCondition[],
  before: readonly Condition[] | undefined,
  now: number,
  observedGeneration: number | undefined,
): Condition[] {
  return found.map(one => {
    const last = before?.find(({ type }) => type === one.type);
    const lastTransitionTime = last && last.status === one.status ? last.lastTransitionTime : metaTime(now);
    return { ...one, lastTransitionTime, ...(observedGeneration !== undefined && { observedGeneration }) };
  });
}

/** metav1.Time: whole seconds. */
export function metaTime(now: number): string {
  return new Date(now).toISOString().replace(/\.\d+Z$/, "Z");
}

/** metav1.MicroTime. */
export function microTime(now: number): string {
  return new Date(now).toISOString().replace("Z", "000Z");
}
