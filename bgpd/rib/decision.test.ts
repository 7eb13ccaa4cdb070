import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addressToUint32, parseAddress } from "../../net/address.ts";
import { Candidates, type DecisionOptions, decide, isMultipathEqual, Step } from "./decision.ts";

interface Row {
  eligible?: boolean;
  local?: boolean;
  localPref?: number;
  asPathLength?: number;
  origin?: number;
  med?: number;
  neighborAs?: number;
  external?: boolean;
  interiorCost?: number;
  learned?: number;
  routerId?: number;
  clusterListLength?: number;
  addressRank?: number;
}

const plain: DecisionOptions = { alwaysCompareMed: false, preferOldest: false };

function candidates(rows: Row[]): Candidates {
  const c = new Candidates();
  for (const row of rows) {
    const i = c.add();
    c.eligible[i] = row.eligible === false ? 0 : 1;
    c.local[i] = row.local ? 1 : 0;
    c.localPref[i] = row.localPref ?? 100;
    c.asPathLength[i] = row.asPathLength ?? 2;
    c.origin[i] = row.origin ?? 0;
    c.med[i] = row.med ?? 0;
    c.neighborAs[i] = row.neighborAs ?? 1;
    c.external[i] = row.external === false ? 0 : 1;
    c.interiorCost[i] = row.interiorCost ?? 0;
    c.learned[i] = row.learned ?? 0;
    c.routerId[i] = row.routerId ?? 1;
    c.clusterListLength[i] = row.clusterListLength ?? 0;
    c.addressRank[i] = row.addressRank ?? i;
  }
  return c;
}

describe("each step of the decision", () => {
  const base: Row = { routerId: 5, clusterListLength: 2, addressRank: 5, interiorCost: 10, learned: 100, med: 100, origin: 1 };
  const cases: [string, Partial<Row>, number][] = [
    ["not eligible", { eligible: false }, Step.Ineligible],
    ["lower local preference", { localPref: 50 }, Step.LocalPref],
    ["longer AS path", { asPathLength: 3 }, Step.AsPathLength],
    ["worse origin", { origin: 2 }, Step.Origin],
    ["higher MED of the same AS", { med: 101 }, Step.Med],
    ["internal", { external: false }, Step.External],
    ["higher interior cost", { interiorCost: 11 }, Step.InteriorCost],
    ["higher router id", { routerId: 6 }, Step.RouterId],
    ["longer cluster list", { clusterListLength: 3 }, Step.ClusterList],
    ["higher address", { addressRank: 6 }, Step.Address],
  ];
  it.each(cases)("%s loses", (_name, change, step) => {
    for (const rows of [
      [base, { ...base, ...change }],
      [{ ...base, ...change }, base],
    ]) {
      const c = candidates(rows);
      const winner = decide(c, plain);
      expect(rows[winner]).toBe(base);
      expect(c.lostAt[1 - winner]).toBe(step);
    }
  });

  it("prefers a local route over all others", () => {
    expect(decide(candidates([{ localPref: 1000 }, { local: true, asPathLength: 0 }]), plain)).toBe(1);
  });

  it("compares MED only within a neighbouring AS, unless told to", () => {
    const rows = [
      { med: 100, neighborAs: 1, routerId: 2 },
      { med: 5, neighborAs: 2, routerId: 3 },
    ];
    expect(decide(candidates(rows), plain)).toBe(0);
    expect(decide(candidates(rows), { ...plain, alwaysCompareMed: true })).toBe(1);
  });

  it("looks at age only when told to, and only among external routes", () => {
    const rows = [
      { learned: 200, routerId: 1 },
      { learned: 100, routerId: 2 },
    ];
    expect(decide(candidates(rows), plain)).toBe(0);
    expect(decide(candidates(rows), { ...plain, preferOldest: true })).toBe(1);
    const internal = rows.map(row => ({ ...row, external: false }));
    expect(decide(candidates(internal), { ...plain, preferOldest: true })).toBe(0);
  });

  it("has no winner where nothing is eligible", () => {
    expect(decide(candidates([{ eligible: false }]), plain)).toBe(-1);
    expect(decide(candidates([]), plain)).toBe(-1);
  });

  it("shares load among routes equal up to interior cost", () => {
    const c = candidates([{ routerId: 1 }, { routerId: 2 }, { routerId: 3, interiorCost: 1 }, { localPref: 90 }]);
    expect(decide(c, plain)).toBe(0);
    expect([0, 1, 2, 3].map(i => isMultipathEqual(c, i))).toEqual([true, true, false, false]);
  });
});

const row = fc.record({
  eligible: fc.boolean(),
  localPref: fc.integer({ min: 99, max: 101 }),
  asPathLength: fc.integer({ min: 1, max: 2 }),
  origin: fc.integer({ min: 0, max: 1 }),
  med: fc.integer({ min: 0, max: 3 }),
  neighborAs: fc.integer({ min: 1, max: 3 }),
  external: fc.boolean(),
  interiorCost: fc.integer({ min: 0, max: 1 }),
  routerId: fc.integer({ min: 1, max: 3 }),
});

it("gives one result whatever the order of arrival", () => {
  fc.assert(
    fc.property(
      fc.array(row, { minLength: 1, maxLength: 20 }),
      fc.boolean(),
      fc.infiniteStream(fc.nat()),
      (rows, alwaysCompareMed, random) => {
        const named = rows.map((fields, at) => ({ ...fields, addressRank: at }));
        const shuffled = [...named].sort(() => (random.next().value % 2 === 0 ? 1 : -1));
        const first = decide(candidates(named), { ...plain, alwaysCompareMed });
        const second = decide(candidates(shuffled), { ...plain, alwaysCompareMed });
        expect(shuffled[second]?.addressRank).toBe(named[first]?.addressRank);
      },
    ),
  );
});

// Tables of the OpenBGPD regress suite; they lie beside the repository, not in it.
const vectors = `${process.env.PODLANE_SHARED ?? new URL("../../../shared", import.meta.url).pathname}/vectors/openbgpd/decide.json`;

interface Peer {
  ebgp: boolean;
  bgpId: number;
  address: string;
}
interface VectorPath {
  peer: string;
  med?: number;
  localPref?: number;
  origin?: "igp" | "egp" | "incomplete";
  asPathLen?: number;
  neighborAs?: number;
  nexthopValid?: boolean;
  lastChange?: number;
  asLoop?: boolean;
  attrParseError?: boolean;
  weight?: number;
}
interface Vectors {
  peers: Record<string, Peer>;
  base: VectorPath;
  worseThanBase: { what: string; change: Partial<VectorPath> }[];
  medPaths: Record<string, VectorPath>;
  medSets: Record<"strict" | "always", { order: string[] }>;
}

describe("OpenBGPD's tables", () => {
  const load = (): Vectors => JSON.parse(readFileSync(vectors, "utf8"));
  const toRow = ({ peers }: Vectors, path: VectorPath): Row => ({
    eligible: path.nexthopValid !== false && !path.asLoop && !path.attrParseError,
    localPref: path.localPref,
    asPathLength: path.asPathLen,
    origin: ["igp", "egp", "incomplete"].indexOf(path.origin ?? "igp"),
    med: path.med,
    neighborAs: path.neighborAs,
    external: peers[path.peer].ebgp,
    learned: path.lastChange ?? 0,
    routerId: peers[path.peer].bgpId,
    addressRank: addressToUint32(parseAddress(peers[path.peer].address)),
  });

  it("ranks the base above each worse route", ctx => {
    if (!existsSync(vectors)) return ctx.skip(`no ${vectors}`);
    const data = load();
    for (const { what, change } of data.worseThanBase) {
      // OpenBGPD's local weight is a step that podlane does not have.
      if (Object.keys(change).join() === "weight") continue;
      const rows = [toRow(data, { ...data.base, ...change }), toRow(data, data.base)];
      expect(decide(candidates(rows), { ...plain, preferOldest: true }), what).toBe(1);
    }
  });

  it.for(["strict", "always"] as const)("orders the MED set %s alike in all 720 orders of arrival", (mode, ctx) => {
    if (!existsSync(vectors)) return ctx.skip(`no ${vectors}`);
    const data = load();
    const names = Object.keys(data.medPaths);
    for (const order of permutations(names)) {
      let left = order;
      const sorted: string[] = [];
      while (left.length > 0) {
        const winner = decide(candidates(left.map(name => toRow(data, data.medPaths[name]))), {
          ...plain,
          alwaysCompareMed: mode === "always",
        });
        sorted.push(left[winner]);
        left = left.filter((_, at) => at !== winner);
      }
      expect(sorted).toEqual(data.medSets[mode].order);
    }
  });
});

function permutations<T>(items: T[]): T[][] {
  if (items.length < 2) return [items];
  return items.flatMap((item, at) => permutations(items.filter((_, other) => other !== at)).map(rest => [item, ...rest]));
}
