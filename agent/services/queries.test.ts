import { expect, test } from "vitest";
import type { Explanation } from "../../bgpd/snapshot.ts";
import type { Resources } from "../../config/resources/kinds.ts";
import { ServiceAnnouncer } from "../../config/services/announcer.ts";
import type { RawObject } from "../../config/services/read.ts";
import { ServiceIndex } from "../../config/services/service-index.ts";
import { type QueryParts, serviceQueries } from "./queries.ts";

const service = (namespace: string, name: string, ip: string): RawObject => ({
  metadata: { name, namespace },
  spec: { type: "LoadBalancer", clusterIPs: ["None"] },
  status: { loadBalancer: { ingress: [{ ip }] } },
});
const slice = (namespace: string, name: string): RawObject => ({
  metadata: { name, namespace, labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  endpoints: [{ addresses: ["10.244.0.2"], nodeName: "n1", conditions: {} }],
});
const rule = { source: "Advertisement/vips", addresses: ["LoadBalancerIP"], selector: {}, annotations: [] };
const flags = { keepWithoutEndpoints: false, ignoreExclusion: false, linkBandwidth: false };

const explanation: Explanation = {
  prefix: "192.0.2.5/32",
  matched: undefined,
  candidates: [],
  decision: "",
  passedOver: [],
  kernel: { installed: false, text: "", others: [] },
  sent: [
    { neighbor: "tor-a", advertised: true, step: "Accepted" as never, reason: "accepted" },
    { neighbor: "tor-b", advertised: false, step: "NotEstablished", reason: "the session is not Established" },
  ],
};

function ask(known: "source" | "saved" = "source") {
  const index = new ServiceIndex("n1");
  for (const [namespace, name, ip] of [
    ["shop", "web", "192.0.2.5"],
    ["shop", "db", "192.0.2.6"],
    ["blog", "web", "192.0.2.7"],
  ]) {
    index.setService(service(namespace, name, ip));
    if (name === "web") index.setSlice(slice(namespace, name));
  }
  index.settle();
  const announcer = new ServiceAnnouncer(index);
  announcer.use(
    { rules: [{ ...rule, ...flags, addresses: ["LoadBalancerIP"] }], attached: [], proxyHealthPort: 0, timeout: 30 },
    { confirmed: () => true },
  );
  const pool = (name: string, ...addresses: string[]) => [name, { metadata: { name }, spec: { addresses } }] as const;
  const parts: QueryParts = {
    node: "n1",
    services: { subject: { announcer, index, known }, announced: 2 },
    speaker: () => ({
      explain: () => explanation,
      snapshot: () =>
        ({
          neighbors: [{ name: "tor-b", state: "Idle", reason: "waits", lastDown: { at: "", text: "sent Cease/Maximum Prefixes" } }],
        }) as never,
    }),
    resources: () =>
      ({ addressPools: new Map([pool("a", "192.0.2.0-192.0.2.5"), pool("b", "2001:db8::/64")]) }) as unknown as Pick<
        Resources,
        "addressPools"
      >,
  };
  return serviceQueries(parts);
}

test("all, page by page, by namespace and name", () => {
  const first = ask().services({ limit: 2 });
  expect(first).toMatchObject({
    node: "n1",
    known: "source",
    announced: 2,
    counts: { announced: 2, NoEndpoints: 1 },
    total: 3,
    next: "shop/db",
  });
  expect(first.services.map(({ service: name }) => name)).toEqual(["blog/web", "shop/db"]);
  expect(first.services[0].routes).toBeUndefined();
  const second = ask().services({ limit: 2, after: "shop/db" });
  expect([second.services.map(({ service: name }) => name), second.next]).toEqual([["shop/web"], undefined]);
  expect(ask().services({ limit: 9, namespace: "blog" }).total).toBe(1);
});

test("one that is named comes with who is told, and why a session is down", () => {
  for (const query of [{ name: "shop/web" }, { name: "web", namespace: "shop" }]) {
    const { services } = ask().services({ ...query, limit: 10 });
    expect(services).toMatchObject([
      {
        service: "shop/web",
        verdicts: [{ address: "192.0.2.5", announced: true }],
        routes: [
          {
            prefix: "192.0.2.5/32",
            sent: [
              { neighbor: "tor-a", advertised: true, reason: "accepted" },
              { neighbor: "tor-b", advertised: false, reason: "the session is not Established: sent Cease/Maximum Prefixes" },
            ],
          },
        ],
      },
    ]);
  }
  expect(ask().services({ name: "web", limit: 10 }).services).toHaveLength(2);
  expect(() => ask().services({ name: "nobody", limit: 10 })).toThrow('there is no Service "nobody"');
});

test("where Services are not known yet, nothing is said of them", () => {
  expect(ask("saved").services({ name: "nobody", limit: 10 })).toEqual({
    node: "n1",
    known: "saved",
    announced: 2,
    counts: {},
    services: [],
    total: 0,
  });
});

test("an address is explained with its Services and pools, a network without", () => {
  expect(ask().explain("192.0.2.5")).toMatchObject({
    prefix: "192.0.2.5/32",
    services: [{ service: "shop/web", announced: true }],
    pools: [{ pool: "a", range: "192.0.2.0-192.0.2.5" }],
  });
  expect(ask().explain("192.0.2.6/32")).toMatchObject({ services: [{ service: "shop/db", link: "NoEndpoints" }] });
  expect(ask().explain("192.0.2.6/32").pools).toBeUndefined();
  expect(ask().explain("2001:DB8:0::9").pools).toEqual([{ pool: "b", range: "2001:db8::/64" }]);
  expect(ask().explain("192.0.2.0/24")).toEqual(explanation);
});
