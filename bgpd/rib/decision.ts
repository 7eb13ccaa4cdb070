/**
 * The decision process, RFC 4271 section 9.1.2.2 with RFC 4456 section 9 and RFC 5004. Works by elimination, as the RFC words it, not by
 * comparing pairs: MED makes the pairwise order intransitive, elimination gives one answer whatever the order of arrival.
 * Pure, on reusable columns of numbers, so that the hot path allocates nothing.
 */

/** The steps in their order. */
export const Step = {
  Ineligible: 0,
  Local: 1,
  LocalPref: 2,
  AsPathLength: 3,
  Origin: 4,
  Med: 5,
  External: 6,
  InteriorCost: 7,
  Age: 8,
  RouterId: 9,
  ClusterList: 10,
  Address: 11,
  /** Best. */
  Won: 255,
} as const;

export interface DecisionOptions {
  /** Compare MED between different neighbouring ASes. */
  alwaysCompareMed: boolean;
  /** RFC 5004. */
  preferOldest: boolean;
}

/** Columns of the candidates for one prefix; all numbers, smaller or larger is better as the steps say. */
export class Candidates {
  count = 0;
  eligible = new Uint8Array(16);
  local = new Uint8Array(16);
  localPref = new Uint32Array(16);
  asPathLength = new Uint32Array(16);
  origin = new Uint8Array(16);
  med = new Uint32Array(16);
  neighborAs = new Uint32Array(16);
  external = new Uint8Array(16);
  interiorCost = new Float64Array(16);
  /** When the route was learned; smaller = older. */
  learned = new Float64Array(16);
  /** ORIGINATOR_ID where present, else the neighbour's BGP Identifier. */
  routerId = new Uint32Array(16);
  clusterListLength = new Uint32Array(16);
  /** Rank of the neighbour's address in numeric order. */
  addressRank = new Uint32Array(16);
  /** Filled by decide(): the step at which the candidate lost, Step.Won for the best one. */
  lostAt = new Uint8Array(16);

  /** Index of a new row; the caller fills every column. */
  add(): number {
    if (this.count === this.eligible.length) this.#grow();
    return this.count++;
  }

  #grow(): void {
    for (const [name, column] of Object.entries(this)) {
      if (typeof column === "number") continue;
      const larger = new (column.constructor as new (length: number) => Column)(column.length * 2);
      larger.set(column);
      Object.assign(this, { [name]: larger });
    }
  }
}

type Column = Uint8Array | Uint32Array | Float64Array;

/** Index of the best candidate, -1 where none is eligible. Fills `lostAt` for all. */
export function decide(c: Candidates, options: DecisionOptions): number {
  let left = 0;
  for (let i = 0; i < c.count; i++) {
    c.lostAt[i] = c.eligible[i] ? Step.Won : Step.Ineligible;
    left += c.eligible[i];
  }
  if (left === 0) return -1;
  left = keepLargest(c, c.local, Step.Local, left);
  left = keepLargest(c, c.localPref, Step.LocalPref, left);
  left = keepSmallest(c, c.asPathLength, Step.AsPathLength, left);
  left = keepSmallest(c, c.origin, Step.Origin, left);
  left = options.alwaysCompareMed ? keepSmallest(c, c.med, Step.Med, left) : keepSmallestMedPerAs(c, left);
  left = keepLargest(c, c.external, Step.External, left);
  left = keepSmallest(c, c.interiorCost, Step.InteriorCost, left);
  if (options.preferOldest && allExternal(c)) left = keepSmallest(c, c.learned, Step.Age, left);
  left = keepSmallest(c, c.routerId, Step.RouterId, left);
  left = keepSmallest(c, c.clusterListLength, Step.ClusterList, left);
  keepSmallest(c, c.addressRank, Step.Address, left);
  return c.lostAt.subarray(0, c.count).indexOf(Step.Won);
}

/**
 * Whether candidate `i` is as good as the best one up to and including interior cost, so that both may carry traffic together (ECMP).
 * Equal AS_PATH content and different next hops are for the caller to compare.
 */
export function isMultipathEqual(c: Candidates, i: number): boolean {
  return c.lostAt[i] > Step.InteriorCost;
}

function keepSmallest(c: Candidates, column: Column, step: number, left: number): number {
  if (left === 1) return 1;
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < c.count; i++) if (c.lostAt[i] === Step.Won && column[i] < best) best = column[i];
  return drop(c, column, best, step);
}

function keepLargest(c: Candidates, column: Column, step: number, left: number): number {
  if (left === 1) return 1;
  let best = -1;
  for (let i = 0; i < c.count; i++) if (c.lostAt[i] === Step.Won && column[i] > best) best = column[i];
  return drop(c, column, best, step);
}

function drop(c: Candidates, column: Column, keep: number, step: number): number {
  let left = 0;
  for (let i = 0; i < c.count; i++) {
    if (c.lostAt[i] !== Step.Won) continue;
    if (column[i] === keep) left++;
    else c.lostAt[i] = step;
  }
  return left;
}

/** RFC 4271 section 9.1.2.2 c: a route goes when another of the same neighbouring AS has a lower MED. */
function keepSmallestMedPerAs(c: Candidates, left: number): number {
  if (left === 1) return 1;
  for (let i = 0; i < c.count; i++) {
    // A route that has lost at this very step still beats others of its AS: its MED is not the lowest, so the lowest does it as well.
    if (c.lostAt[i] !== Step.Won) continue;
    for (let j = 0; j < c.count; j++) {
      if (c.lostAt[j] === Step.Won && c.neighborAs[j] === c.neighborAs[i] && c.med[j] < c.med[i]) {
        c.lostAt[i] = Step.Med;
        left--;
        break;
      }
    }
  }
  return left;
}

function allExternal(c: Candidates): boolean {
  for (let i = 0; i < c.count; i++) if (c.lostAt[i] === Step.Won && !c.external[i]) return false;
  return true;
}
