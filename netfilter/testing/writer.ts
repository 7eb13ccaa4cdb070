/** A writer of the rules of a network namespace, for tests with real packets. */
import { onTestFinished } from "vitest";
import { openRulesetGeneration, openRulesetSocket } from "../../kernel/index.ts";
import type { TestNetns } from "../../kernel/testnetns.ts";
import { systemClock } from "../../platform/clock.ts";
import { quietLog } from "../../platform/testing.ts";
import { nft } from "../nft.ts";
import { Writer } from "../writer.ts";

export function writerIn({ path, name }: Pick<TestNetns, "path" | "name">): Writer {
  const generation = openRulesetGeneration(path);
  const socket = openRulesetSocket(path);
  const writer = new Writer({
    nft: nft(["ip", "netns", "exec", name, "nft"]),
    commit: batch => socket.commit(batch),
    clock: systemClock,
    log: quietLog,
    generation: () => generation.read(),
    mended() {},
  });
  onTestFinished(async () => {
    await writer.close();
    generation.close();
    socket.close();
  });
  return writer;
}
