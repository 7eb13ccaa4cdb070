/** Changes to the sorted, unique lists of an attribute set. */
import type { CommunityKind } from "../message/communities.ts";

export interface CommunityChange<T> {
  set?: readonly T[];
  remove: readonly ((value: T) => boolean)[];
  add: readonly T[];
}

/** Sets, then removes, then adds; the answer is ascending and unique, and the very list given when nothing changes. */
export function changeCommunities<T>(kind: CommunityKind<T>, values: readonly T[], change: CommunityChange<T>): readonly T[] {
  const kept = (change.set ?? values).filter(value => !change.remove.some(matches => matches(value)));
  const all = [...kept, ...change.add].sort(kind.compare);
  const changed = all.filter((value, i) => i === 0 || kind.compare(value, all[i - 1]) !== 0);
  const same = changed.length === values.length && changed.every((value, i) => kind.compare(value, values[i]) === 0);
  return same ? values : changed;
}
