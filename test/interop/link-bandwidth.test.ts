/**
 * What real neighbours make of the link bandwidth of a Service that two nodes announce (draft-ietf-idr-link-bandwidth): the weights of the multipath route
 * in their kernels.
 */
import { describe, expect, it, type TestContext } from "vitest";
import { startFrrWithZebra } from "../neighbours.ts";
import { daemons } from "./daemons.ts";
import { lacking, Scene, until } from "./scene.ts";
import { neighbor, network, SpeakerProcess, speakerConfig } from "./speaker.ts";

const { frr, bird } = daemons;
const PREFIXES = ["198.51.100.7/32", "2001:db8:51::7/128"];
const OUR_ASN = 4200000001;

/** Nodes 1 and 3 with one and three endpoints, towards the router at 10.0.0.2. */
async function nodes(scene: Scene, context: Pick<TestContext, "onTestFinished">, routerAsn: number): Promise<void> {
  const config = (n: number, endpoints: number) => {
    const networks = PREFIXES.map(prefix => network(prefix, { linkBandwidth: endpoints }));
    const neighbors = [neighbor({ name: "router", address: "10.0.0.2", remoteAsn: routerAsn })];
    return speakerConfig({ asn: OUR_ASN, routerId: `10.0.0.${n}`, neighbors, networks });
  };
  const third = new SpeakerProcess(scene.host(3), config(3, 3));
  context.onTestFinished(() => third.kill());
  await Promise.all([scene.speaker(config(1, 1)), third.started]);
}

/** Shares of nodes 1 and 3 in what the router's kernel sends to each address, in percent. */
function shares(scene: Scene, namespace: string): number[][] {
  const routes = scene.routes(namespace, "all");
  return PREFIXES.map(prefix => {
    const hops = routes.get(prefix.split("/")[0])?.nexthops ?? [];
    const total = hops.reduce((sum, { weight = 1 }) => sum + weight, 0);
    const of = (n: number) => hops.filter(({ gateway }) => gateway.endsWith(n === 1 ? "::1" : "::3") || gateway === `10.0.0.${n}`);
    return [1, 3].map(n => Math.round((100 * of(n).reduce((sum, { weight = 1 }) => sum + weight, 0)) / total));
  });
}

function frrConfig(asn: number): string {
  const peers = ["10.0.0.1", "10.0.0.3"];
  return [
    `router bgp ${asn}`,
    " bgp router-id 10.0.0.2",
    " no bgp ebgp-requires-policy",
    " no bgp default ipv4-unicast",
    ...peers.flatMap(peer => [` neighbor ${peer} remote-as ${OUR_ASN}`, ` neighbor ${peer} timers connect 1`]),
    ...[4, 6].flatMap(family => [
      ` address-family ipv${family} unicast`,
      "  maximum-paths 8",
      "  maximum-paths ibgp 8",
      ...peers.map(peer => `  neighbor ${peer} activate`),
      " exit-address-family",
    ]),
  ].join("\n");
}

const why = lacking(frr);
describe.skipIf(why)(`FRR${why ? ` (skipped: ${why})` : ""}`, { timeout: 60_000 }, () => {
  it.for([
    ["external", 65002],
    ["internal", OUR_ASN],
  ] as const)("weighs the nodes by it as an %s neighbour, in both families", async ([, asn], context) => {
    const scene = new Scene(context);
    const namespace = scene.host(2);
    const daemon = await startFrrWithZebra(namespace, frrConfig(asn));
    context.onTestFinished(() => daemon.stop());
    await nodes(scene, context, asn);
    await until(() => {
      expect(shares(scene, namespace)).toEqual([
        [25, 75],
        [25, 75],
      ]);
    });
  });
});

const whyNot = lacking(bird);
describe.skipIf(whyNot)(`BIRD${whyNot ? ` (skipped: ${whyNot})` : ""}`, { timeout: 60_000 }, () => {
  it("takes it, passes it on, and shares alike", async context => {
    const scene = new Scene(context);
    const peers = [1, 3].map(n => ({ address: `10.0.0.${n}`, asn: OUR_ASN }));
    const { daemon, namespace } = await scene.daemon(bird, 2, { asn: 65002, peers, kernel: true });
    await nodes(scene, context, 65002);
    await until(() => {
      expect(shares(scene, namespace)).toEqual([
        [50, 50],
        [50, 50],
      ]);
    });
    expect((await daemon.route(PREFIXES[0]))?.extendedCommunities?.join()).toMatch(/23456/);
  });
});
