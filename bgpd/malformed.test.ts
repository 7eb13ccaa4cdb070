import { expect, it } from "vitest";
import { hexOf } from "../net/octets.ts";
import { MalformedUpdates } from "./malformed.ts";
import { update } from "./message/fixtures.ts";
import { UpdateDecoder } from "./message/update-decoder.ts";
import { MemoryLog } from "./session/testing.ts";
import { FakeClock } from "./testing/fake-clock.ts";

const NLRI = "18cb0071";
const withdraws = update({ attributes: "400101034002004003040a000002", nlri: NLRI });
const discards = update({ attributes: "400101004002004003040a00000240060101", nlri: NLRI });

it("counts, keeps the last UPDATE that cost routes, and logs once per second how many more there were", () => {
  const clock = new FakeClock();
  const log = new MemoryLog();
  const malformed = new MalformedUpdates(clock, log);
  const decoder = new UpdateDecoder({ fourOctetAsn: true, internal: true, families: ["ipv4-unicast"] });
  const take = (message: Uint8Array) => {
    decoder.decode(message);
    malformed.note(message, decoder);
  };
  expect(malformed.snapshot()).toBeUndefined();
  take(discards);
  expect(malformed.snapshot()).toMatchObject({ withdrawn: 0, discarded: 1, last: { offending: hexOf(discards) } });
  for (let i = 0; i < 1000; i++) take(withdraws);
  take(discards);
  expect(malformed.snapshot()).toMatchObject({
    withdrawn: 1000,
    discarded: 2,
    last: { text: "ORIGIN: value 3 is unknown (treat-as-withdraw)", offending: hexOf(withdraws) },
  });
  expect(log.lines).toHaveLength(1);
  clock.advance(1000);
  take(withdraws);
  expect(log.lines).toHaveLength(2);
  expect(log.lines[1]).toContain("ORIGIN: value 3 is unknown (treat-as-withdraw) (1001 more since the last such line)");
});
