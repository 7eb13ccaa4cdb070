/** A step of a scenario as one thing: what is done, and to whom. In the file it is a mapping with one of several keys, which is easier to write. */
import type { Condition, Step } from "./schema.ts";

export const machineActions = ["kill", "stop", "start", "powerOff", "powerOn"] as const;

export type Action =
  | { does: (typeof machineActions)[number]; machine: string }
  | { does: "observe" /** Seconds. */; duration: number }
  | { does: "await"; condition: Condition /** Seconds. */; within: number /** What the time is called. */; measure?: string };

export const actionNames: readonly Action["does"][] = [...machineActions, "observe", "await"];

/** All that a step says. Of a topology that load.ts has let pass it is exactly one. */
export function actionsOf({ observe, await: condition, within = 30, measure, ...machines }: Step): Action[] {
  return [
    ...machineActions.flatMap((does): Action[] => (machines[does] === undefined ? [] : [{ does, machine: machines[does] }])),
    ...(observe === undefined ? [] : [{ does: "observe", duration: observe } as const]),
    ...(condition === undefined ? [] : [{ does: "await", condition, within, measure } as const]),
  ];
}
