import { expect, test } from "vitest";
import type { NeighborConfig } from "../config.ts";
import { DropWatch } from "./drops.ts";
import { neighborConfig } from "./testing.ts";
import type { SessionState } from "./types.ts";

const none = { failure: 0, notFound: 0, unexpected: 0, minTtl: 0 };

/** What a neighbour with this configuration is told, after these counters have grown. */
function hint(
  config: Partial<NeighborConfig>,
  grown: Partial<typeof none>,
  state: SessionState = "Connect",
  others: NeighborConfig[] = [],
) {
  let counters = { ...none };
  const own = neighborConfig({ address: "10.0.0.1", name: "tor", ...config });
  const watch = new DropWatch(
    own,
    () => counters,
    () => [own, ...others],
  );
  counters = { ...none, ...grown };
  const text = watch.hint(state);
  watch.mark();
  expect(watch.hint(state)).toBeUndefined();
  return text;
}

const keyed = (n: number) => neighborConfig({ address: `10.0.1.${n}`, name: `keyed-${n}`, password: "secret" });
const close = (n: number) => neighborConfig({ address: `10.0.2.${n}`, name: `close-${n}`, ttlSecurity: 1 });

test.each([
  ["a wrong key", { password: "x" }, { failure: 3 }, "3 with a wrong TCP MD5 signature: do the passwords differ?"],
  ["no key there", { password: "x" }, { notFound: 2 }, "2 without TCP MD5 signature: has the neighbour no password?"],
  ["no key here", {}, { unexpected: 1 }, "1 with a TCP MD5 signature although no password is configured"],
])("%s: only where the configuration fits, and not once the handshake stands", (_, config, grown, text) => {
  expect(hint(config, grown)).toBe(`the kernel dropped segments: ${text}`);
  expect(hint(config, grown, "OpenSent")).toBeUndefined();
  expect(hint("password" in config ? {} : { password: "x" }, grown)).toBeUndefined();
  for (const state of ["Idle", "OpenConfirm", "Established"] as const) expect(hint(config, grown, state)).toBeUndefined();
});

test("who else may be meant is named; who cannot be is not", () => {
  expect(hint({ password: "x" }, { failure: 3 }, "Connect", [close(1), neighborConfig({ address: "10.0.3.1" })])).toBe(
    "the kernel dropped segments: 3 with a wrong TCP MD5 signature: do the passwords differ?",
  );
  expect(hint({ password: "x" }, { failure: 3 }, "Active", [1, 2, 3, 4, 5].map(keyed))).toMatch(
    /differ\? \(they may be of keyed-1, keyed-2, keyed-3 and 2 more as well\)$/,
  );
  expect(hint({}, { unexpected: 3 }, "Connect", [keyed(1), neighborConfig({ address: "10.0.3.1", name: "plain" })])).toMatch(
    /configured \(they may be of plain as well\)$/,
  );
  expect(hint({ ttlSecurity: 2 }, { minTtl: 3 }, "OpenSent", [keyed(1), close(1)])).toMatch(/ \(they may be of close-1 as well\)$/);
});

test("a closed port, whose reset has any TTL, is not taken for a neighbour that is far away", () => {
  expect(hint({ ttlSecurity: 1 }, { minTtl: 5 })).toBe(
    "the kernel dropped segments: 5 with a TTL below 255: the neighbour is further away or does not send 255, or nothing listens there, as a reset has the system's own TTL",
  );
  expect(hint({ ttlSecurity: 1 }, { minTtl: 5 }, "OpenSent")).toBe(
    "the kernel dropped segments: 5 with a TTL below 255: the neighbour is further away or does not send 255",
  );
});
