import { expect, test } from "vitest";
import type { ServiceDetails, ServicesView } from "../../agent/api/views.ts";
import { renderExplanation } from "./explain.ts";
import * as fixtures from "./fixtures.ts";
import { plain } from "./paint.ts";
import { renderNodes, renderServices } from "./services.ts";

const web: ServiceDetails = {
  service: "shop/web",
  type: "LoadBalancer",
  externalTrafficPolicy: "Local",
  internalTrafficPolicy: "Cluster",
  verdicts: [
    {
      service: "shop/web",
      kind: "LoadBalancerIP",
      address: "192.0.2.5",
      announced: true,
      sources: ["Advertisement/vips"],
      message: "announced: traffic policy Local, and IPv4 endpoints on this node: 2, ready",
      notes: ["podlane.io/med is ignored: Advertisement/vips would have to name MED in spec.service.annotations"],
    },
    {
      service: "shop/web",
      kind: "LoadBalancerIP",
      address: "2001:db8::5",
      announced: false,
      sources: [],
      link: "NoEndpoints",
      message: "no IPv6 endpoint of it is ready anywhere",
      remedy: "see kubectl get endpointslices\u001b[2J",
    },
  ],
};
const db: ServiceDetails = {
  ...web,
  service: "shop/db",
  verdicts: [
    {
      service: "shop/db",
      kind: "LoadBalancerIP",
      address: "",
      announced: false,
      sources: [],
      link: "NoAddress",
      message: "it has no load-balancer address yet",
      remedy: "kubectl describe service",
    },
  ],
};
const view: ServicesView = {
  node: "n1",
  known: "source",
  announced: 1,
  counts: { announced: 1, NoEndpoints: 1, NoAddress: 1 },
  services: [db, web],
  total: 2,
};

test("a table of addresses", () => {
  expect(renderServices(view, false, plain)).toMatchInlineSnapshot(`
    "SERVICE   KIND            ADDRESS      ANNOUNCED  REASON
    shop/db   LoadBalancerIP  -            no         NoAddress: it has no load-balancer address yet
    shop/web  LoadBalancerIP  192.0.2.5    yes        by Advertisement/vips
    shop/web  LoadBalancerIP  2001:db8::5  no         NoEndpoints: no IPv6 endpoint of it is ready anywhere
    "
  `);
  expect(renderServices({ ...view, total: 2000, next: "shop/web" }, false, plain)).toContain(
    "2 of 2,000 Services; go on with --after shop/web",
  );
  expect(renderServices({ ...view, services: [], total: 0 }, false, plain)).toBe("no Services\n");
});

test("one Service with who is told", () => {
  const sent = [
    { neighbor: "tor-b", advertised: false, step: "NotEstablished" as const, reason: "the session is not Established: hold timer expired" },
    { neighbor: "tor-a", advertised: true, step: "Policy" as never, reason: 'accepted by policy "vips"' },
  ];
  const one = { ...web, routes: [{ prefix: "192.0.2.5/32", sent }] };
  expect(renderServices({ ...view, services: [one] }, true, plain)).toMatchInlineSnapshot(`
    "shop/web
      type            LoadBalancer
      traffic policy  external Local, internal Cluster

      ✓ 192.0.2.5  LoadBalancerIP
        why   announced: traffic policy Local, and IPv4 endpoints on this node: 2, ready
        by    Advertisement/vips
        note  podlane.io/med is ignored: Advertisement/vips would have to name MED in spec.service.annotations

      ✗ 2001:db8::5  LoadBalancerIP
        why not  NoEndpoints: no IPv6 endpoint of it is ready anywhere
        remedy   see kubectl get endpointslices\\u{1b}[2J

      192.0.2.5/32 is told to
        ✓  tor-a  accepted by policy "vips"
        –  tor-b  the session is not Established: hold timer expired
    "
  `);
});

test("what is not known yet", () => {
  expect(renderServices({ ...view, known: "saved" }, true, plain)).toContain("1 prefixes are announced for them as before");
  expect(renderServices({ ...view, known: "none" }, true, plain)).toContain("no Advertisement of type Service selects this node");
});

test("all nodes, a line each", () => {
  const answers = [
    { node: "n1", view },
    { node: "n2", view: { ...view, known: "saved" as const } },
    { node: "n3", error: "no agent is on node n3" },
  ];
  expect(renderNodes(answers, false, plain)).toMatchInlineSnapshot(`
    "NODE  ANNOUNCED  NOT ANNOUNCED
    n1          1/3  NoEndpoints 1, NoAddress 1
    n2            -  not read since the agent's start
    n3            -  no agent is on node n3
    "
  `);
  expect(renderNodes([{ node: "n1", view: { ...view, services: [web] } }], true, plain)).toContain("1/2  NoEndpoints 1");
  expect(renderNodes([], false, plain)).toBe("no agents\n");
});

test("an address that is explained says whose it is", () => {
  const explained = { ...fixtures.explanation, services: web.verdicts, pools: [{ pool: "public", range: "192.0.2.0/24" }] };
  const lines = renderExplanation(explained, plain).split("\n");
  const at = lines.findIndex(line => line.startsWith("services"));
  expect(lines.slice(at, at + 4).join("\n")).toMatchInlineSnapshot(`
    "services    ✓ shop/web  LoadBalancerIP  announced: traffic policy Local, and IPv4 endpoints on this node: 2, ready; by Advertisement/vips
                ✗ shop/web  LoadBalancerIP  not announced here: NoEndpoints: no IPv6 endpoint of it is ready anywhere
                  see kubectl get endpointslices\\u{1b}[2J
                in AddressPool public, 192.0.2.0/24"
  `);
  expect(renderExplanation({ ...explained, services: [] }, plain)).toContain("no Service that is known here has it");
});
