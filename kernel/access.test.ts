import { expect, onTestFinished, test } from "vitest";
import { parseAddress } from "../net/address.ts";
import { openKernel } from "./access.ts";
import type { EventTopic } from "./monitor.ts";
import { addVeth, describeKernel, testNetns } from "./testnetns.ts";
import type { KernelEvent } from "./types.ts";

/** Types of what a listener hears, each once, in order. */
function heard(kernel: ReturnType<typeof openKernel>, topics?: readonly EventTopic[]) {
  const events: KernelEvent[] = [];
  let check = () => {};
  const stop = kernel.watch(batch => {
    events.push(...batch);
    check();
  }, topics);
  const until = (condition: () => boolean) =>
    new Promise<void>(resolve => {
      check = () => condition() && resolve();
      check();
    });
  return { events, stop, until, types: () => [...new Set(events.map(({ type }) => type))] };
}

describeKernel("one watch for many", () => {
  function opened() {
    const netns = testNetns();
    const kernel = openKernel({ netns: netns.path, ownEvents: true });
    onTestFinished(() => kernel.close());
    return { netns, kernel };
  }

  test("each hears of its topics, and of all where it names none", async () => {
    const { netns, kernel } = opened();
    const all = heard(kernel);
    const links = heard(kernel, ["link"]);
    const routes = heard(kernel, ["route"]);
    addVeth(netns);
    await all.until(() => ["link", "address", "route"].every(type => all.types().includes(type as KernelEvent["type"])));
    expect([links.types(), routes.types()]).toEqual([["link"], ["route"]]);
    expect(links.events).toEqual(all.events.filter(({ type }) => type === "link"));
    expect(routes.events).toEqual(all.events.filter(({ type }) => type === "route"));
  });

  test("who comes later hears nothing of what was before, and who was there hears it once, in order", async () => {
    const { netns, kernel } = opened();
    const first = heard(kernel, ["address"]);
    const ifindex = addVeth(netns);
    const add = (text: string) => netns.netlink.addAddress({ ifindex, address: parseAddress(text), prefixLength: 24, nodad: true });
    add("10.9.0.1");
    // Not told yet: nothing is read before the event loop has its turn.
    const second = heard(kernel, ["address"]);
    add("10.9.0.2");
    const of = ({ events }: typeof first) =>
      events.flatMap(event => (event.type === "address" && event.address.address[1] === 9 ? [event.address.address.join(".")] : []));
    await second.until(() => of(second).length > 0);
    await first.until(() => of(first).length > 1);
    expect([of(first), of(second)]).toEqual([["10.9.0.1", "10.9.0.2"], ["10.9.0.2"]]);
  });

  test("who throws, and who begins to watch while told, keeps nothing from the others and hears nothing old", async () => {
    const { netns, kernel } = opened();
    const raised: unknown[] = [];
    const caught = (error: unknown) => void raised.push(error);
    process.prependListener("uncaughtException", caught);
    const others = process.listeners("uncaughtException").filter(one => one !== caught);
    for (const other of others) process.off("uncaughtException", other);
    onTestFinished(() => {
      process.off("uncaughtException", caught);
      for (const other of others) process.on("uncaughtException", other);
    });
    const late: KernelEvent[][] = [];
    let begun = false;
    kernel.watch(() => {
      if (!begun) kernel.watch(events => late.push(events), ["link"]);
      begun = true;
      throw new Error("poisoned");
    });
    const good = heard(kernel, ["link"]);
    netns.netlink.addLink({ kind: "bridge", name: "first" });
    await good.until(() => good.events.length > 0);
    const before = good.events.length;
    expect([begun, late]).toEqual([true, []]);
    netns.netlink.addLink({ kind: "bridge", name: "second" });
    await good.until(() => good.events.length > before);
    expect(late.flat()).toEqual(good.events.slice(before));
    expect(raised).toEqual([expect.objectContaining({ message: "poisoned" }), expect.objectContaining({ message: "poisoned" })]);
  });

  test("who stops hears no more, and the others go on; after the last the next one hears again", async () => {
    const { netns, kernel } = opened();
    const first = heard(kernel, ["link"]);
    const second = heard(kernel, ["link"]);
    first.stop();
    addVeth(netns);
    await second.until(() => second.events.length > 0);
    expect(first.events).toEqual([]);
    second.stop();
    const third = heard(kernel, ["link"]);
    netns.netlink.addLink({ kind: "bridge", name: "later" });
    await third.until(() => third.events.length > 0);
  });
});
