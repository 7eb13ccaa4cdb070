/** An address that a pod had and another pod gets: who still knows the first owner's hardware address is corrected by ADD. */
import { afterEach, beforeAll, expect, test } from "vitest";
import { inNetns, requireRoot, TestNode, until } from "./harness.ts";

beforeAll(requireRoot);

const open: TestNode[] = [];
afterEach(async () => {
  for (const node of open.splice(0)) await node.close();
});

interface Neighbour {
  dst: string;
  lladdr?: string;
}

/** What a namespace knows of an address. */
function knows(netns: string, address: string): string | undefined {
  const entries = JSON.parse(inNetns(netns, "ip", "-j", "neigh").stdout || "[]") as Neighbour[];
  return entries.find(({ dst }) => dst === address)?.lladdr;
}

test("stale entries of a reused address are corrected on the node and in other pods, in both families", async () => {
  const node = new TestNode();
  open.push(node);
  await node.start();
  const siblings = [node.pod(), node.pod(), node.pod()];
  for (const [i, netns] of siblings.entries()) await node.call("ADD", { container: `s${i}`, netns });
  const addresses = ["10.77.0.100", "fd77::100"];
  const add = async (container: string, netns: string) => {
    const outcome = await node.call("ADD", { container, netns, config: { runtimeConfig: { ips: addresses } } });
    expect(outcome).toMatchObject({ status: 0 });
    return outcome.json.interfaces[2].mac as string;
  };
  const observers = [node.netns, ...siblings];
  let before = "";
  for (let round = 0; round <= 10; round++) {
    const netns = node.pod();
    const mac = await add(`r${round}`, netns);
    for (const observer of observers) {
      for (const address of addresses) {
        // The new owner's address, or nothing where the first one is still to be asked for.
        if (round > 0) await until(`${address} of ${mac}`, () => knows(observer, address) === mac, 900);
        expect(knows(observer, address)).not.toBe(before);
        expect(inNetns(observer, "ping", "-c", "1", "-W", "1", "-n", "-q", address)).toMatchObject({ status: 0 });
      }
    }
    before = mac;
    await node.call("DEL", { container: `r${round}`, netns });
    node.removePod(netns);
  }
}, 60_000);

test("pods on the bridge hear at once that an address of theirs went to a pod that is routed, and back", async () => {
  const node = new TestNode();
  open.push(node);
  node.options = { quarantine: 0, netfilter: true };
  await node.start();
  const [sibling, first, second, third] = [node.pod(), node.pod(), node.pod(), node.pod()];
  await node.call("ADD", { container: "sibling", netns: sibling });
  const addresses = ["10.77.0.100", "fd77::100"];
  const add = async (container: string, netns: string) => {
    const outcome = await node.call("ADD", { container, netns, config: { runtimeConfig: { ips: addresses } } });
    expect(outcome).toMatchObject({ status: 0 });
    return outcome.json.interfaces.at(-1).mac as string;
  };
  const reaches = () => addresses.map(address => inNetns(sibling, "ping", "-c", "1", "-W", "1", "-n", "-q", address).status === 0);
  const mac = await add("first", first);
  expect(reaches()).toEqual([true, true]);
  for (const address of addresses) expect(knows(sibling, address)).toBe(mac);
  await node.call("DEL", { container: "first", netns: first });
  await node.setPlan({ mode: "routed" });
  await add("second", second);
  const [bridge] = JSON.parse(node.exec("ip", "-j", "link", "show", "podlane0")) as { address: string }[];
  for (const address of addresses) await until(`${address} at the bridge`, () => knows(sibling, address) === bridge.address, 900);
  expect(reaches()).toEqual([true, true]);
  await node.call("DEL", { container: "second", netns: second });
  await node.setPlan({ mode: "bridge" });
  const last = await add("third", third);
  for (const address of addresses) await until(`${address} of the pod`, () => knows(sibling, address) === last, 900);
  expect(reaches()).toEqual([true, true]);
}, 60_000);
