import { expect, test } from "vitest";
import type { PlanView } from "../../agent/api/views.ts";
import type { UninstallReport } from "../../agent/uninstall.ts";
import { renderExplanation } from "./explain.ts";
import * as fixtures from "./fixtures.ts";
import { coloured, count, duration, paintFor, plain, printable } from "./paint.ts";
import { renderPeer, renderPeers } from "./peers.ts";
import { renderPlan } from "./plan.ts";
import { renderPods } from "./pods.ts";
import { renderRoutes } from "./routes.ts";
import { renderProblems, renderStatus } from "./status.ts";
import { pairs, table } from "./table.ts";
import { renderUninstall } from "./uninstall.ts";

const { now } = fixtures;

test("peers", () => {
  expect(renderPeers([fixtures.established, fixtures.down], now, plain)).toMatchInlineSnapshot(`
    "NEIGHBOR  ADDRESS             AS  STATE              FOR  RECEIVED  ACCEPTED  SENT  REASON
    tor-a     10.1.0.1         65001  Established  2 min 5 s     1,200     1,190     1
    tor-b     fe80::1%eth1  external  Active         1 d 3 h         -         -     -  connection refused; next attempt in 5 s
    "
  `);
  expect(renderPeers([], now, plain)).toBe("no neighbours are configured\n");
});

test("a peer that is up", () => {
  expect(renderPeer(fixtures.established, now, plain)).toMatchInlineSnapshot(`
    "tor-a  10.1.0.1  AS 65001 (external)

      state         Established for 2 min 5 s
      reason        received KEEPALIVE
      from          Peer/tor-a
      description   rack 1, FRR
      local         10.1.0.11  AS 65000
      router id     10.1.0.1
      timers        hold 9 s, keepalive 3 s
      capabilities  multiprotocol ipv4-unicast, route refresh, 4-octet AS

      FAMILY        RECEIVED  ACCEPTED  REJECTED  SENT   LIMIT  END-OF-RIB
      ipv4-unicast     1,200     1,190        10     1  10,000  yes

      MESSAGE             IN    OUT
      OPEN                 1      1
      UPDATE              14      2
      NOTIFICATION         0      0
      KEEPALIVE        1,234  1,234
      ROUTE-REFRESH        0      0
      octets         123,456  2,345
    "
  `);
});

test("a peer that is down, with what it sent made harmless", () => {
  expect(renderPeer(fixtures.down, now, plain)).toMatchInlineSnapshot(`
    "tor-b  fe80::1%eth1  AS external

      state         Active for 1 d 3 h
      reason        connection refused; next attempt in 5 s
      from          Peer/tor-b
      local         AS 65000
      last down     2026-05-03T09:00:00.000Z  neighbour sent Cease/Administrative Shutdown: "\\u{1b}[2Jupgrade"
      notification  received 6/2

      MESSAGE             IN    OUT
      OPEN                 1      1
      UPDATE              14      2
      NOTIFICATION         0      0
      KEEPALIVE        1,234  1,234
      ROUTE-REFRESH        0      0
      octets         123,456  2,345
    "
  `);
});

test("routes", () => {
  expect(renderRoutes({ routes: fixtures.routes, total: 1203, next: "2001:db8:244:2::/64" }, plain)).toMatchInlineSnapshot(`
    "   PREFIX               NEXT HOP     FROM                KIND  AS PATH      LOCAL PREF  MED  REASON
    >  10.244.1.0/24        0.0.0.0      PodNetwork/default  pod                                 only path
    >  10.244.2.0/24        10.1.0.1     tor-a                     65001 65000                0  best: lowest neighbour address
    =  10.244.2.0/24        10.2.0.1     tor-b                     65002 65000                0  equal (ECMP)
    ✗  2001:db8:244:2::/64  2001:db8::2  node2                                         100       next hop 2001:db8::2: no route

    > best   = shares the traffic (ECMP)   · not chosen   ✗ not eligible
    4 of 1,203 routes shown; the next page: --after 2001:db8:244:2::/64
    "
  `);
  expect(renderRoutes({ routes: [], total: 0 }, plain)).toBe("no routes\n");
});

test("explain", () => {
  expect(renderExplanation(fixtures.explanation, plain)).toMatchInlineSnapshot(`
    "10.244.2.0/24  covers 10.244.2.7/32

    forwards    ✗ 10.244.2.7 is sent via 10.1.0.9 dev eth0
                  by static's route 10.244.2.0/25, metric 0, table main, rule 32766 (all packets → table main)
                  not as chosen below: the static route 10.244.2.0/25 is longer than 10.244.2.0/24
                  rules before it, for some packets: 100 (from 10.9.0.0/16 → table 7)

    offered by  > tor-a       via 10.1.0.1  best: lowest neighbour address
                    AS path 65001 65000  origin igp  MED 0  communities 65001:100
                    import accepted by policy "from-tor", rule "pods"
                      ○ from-tor / no-default  prefix 10.244.2.0/24 is not 0.0.0.0/0
                      ● from-tor / pods        accept; local-pref 200 set

                = tor-b       via 10.2.0.1  equal (ECMP)
                    AS path 65002 65000  origin igp  MED 0  communities 65001:100

                ✗ old-router  via 10.9.0.1  rejected by import policy
                    AS path 64999  origin igp
                    import rejected by policy "from-old", rule "deny-default"
                      ● from-old / deny-default  reject

    passed over longer prefixes without an eligible route:
                · 10.244.2.0/28  old-router: rejected by import policy

    decision    tor-a and tor-b share the traffic: equal up to the interior cost; tor-a is best by the lowest neighbour address (step g)

    sent to     ✓ tor-b  accepted by policy "to-tor", rule "all"
                    via 10.2.0.11  AS path 65000 65001 65000  origin igp
                – node2  it is where the route came from

    kernel      ✓ via 10.1.0.1 dev eth0, via 10.2.0.1 dev eth1
                  also: static, metric 50: via 10.1.0.9 dev eth0
    "
  `);
});

test("explain what nobody offers", () => {
  const nothing = {
    ...fixtures.explanation,
    matched: undefined,
    candidates: [],
    decision: "",
    sent: [],
    passedOver: [],
    kernel: { installed: false, text: "no route", others: [] },
    forwards: {
      to: "10.244.2.7",
      text: "refused (network unreachable): no route matches",
      ours: false,
      rulesBefore: [],
    },
  };
  expect(renderExplanation(nothing, plain)).toMatchInlineSnapshot(`
    "10.244.2.7/32

    forwards    ✗ 10.244.2.7 is refused (network unreachable): no route matches

    offered by  nobody: no neighbour sent this prefix and nothing here announces it

    kernel      – no route
    "
  `);
});

test("explain keeps the same words in colour", () => {
  const text = renderExplanation(fixtures.explanation, coloured);
  expect(text).toContain("\u001b[");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control characters
  expect(text.replace(/\u001b\[\d+m/g, "")).toBe(renderExplanation(fixtures.explanation, plain));
});

test("status", () => {
  const line = (inForce: boolean) => renderStatus({ ...fixtures.status, policies: { policies: 3, isolated: 2, inForce } }, now, plain);
  expect(line(true)).toMatch(/^policies +3, 2 pod interfaces here selected, in force$/m);
  expect(line(false)).toMatch(/not all in force yet$/m);
  expect(renderStatus(fixtures.status, now, plain)).toMatchInlineSnapshot(`
    "node           node1
    agent          podlane 0.1.0, process 4711, up 2 h
    configuration  /etc/podlane, applied 1 h ago
    BGP            AS 65000, router id 10.1.0.11, listening on 0.0.0.0:179, [::]:179
    sessions       1 of 2 established; down: tor-b
    routes         ipv4-unicast  1,200 prefixes  2,400 paths  1,190 best
                   ipv6-unicast      3 prefixes      3 paths      2 best
    kernel         1,192 routes, 1,100 adopted at start, 2 repaired, 1 failed (no route to host), still converging
    pods           12 attached
    serves pods    yes: the routes are in
    event loop     longest turn 12 ms, 3 h ago
    problems       1 error, 1 warning: see podlane problems
    "
  `);
  const saved = { ...fixtures.status, config: { ...fixtures.status.config, inUse: "saved" as const }, speaker: undefined };
  expect(renderStatus(saved, now, plain)).toMatchInlineSnapshot(`
    "node           node1
    agent          podlane 0.1.0, process 4711, up 2 h
    configuration  the last good plan, as /etc/podlane cannot be used; applied 1 h ago
    BGP            none
    pods           12 attached
    serves pods    yes: the routes are in
    event loop     longest turn 12 ms, 3 h ago
    problems       1 error, 1 warning: see podlane problems
    "
  `);
});

test("problems, errors first", () => {
  expect(renderProblems(fixtures.problems, plain)).toMatchInlineSnapshot(`
    "error  Peer/tor-b spec.passwordSecretRef.name
      there is no Secret "tor-b"
      remedy  create it

    warning  Policy/unused
      no peer uses this policy
      remedy  name it in a peer's importPolicies or exportPolicies, or remove it
      at      policies.yaml, document 2, line 14:1
    "
  `);
  expect(renderProblems([], plain)).toBe("no problems\n");
});

test("plan", () => {
  const refused = [{ from: "10.244.2.3", to: "10.244.1.2", protocol: "TCP" as const, port: 443, by: ["shop/deny"] }];
  const overlay: PlanView["overlay"] = { mode: "Always", vni: 7, port: 4789, checksumOffload: "Auto", local: [], sources: [], nodes: [] };
  const masquerade = { sources: [], exempt: ["10.0.0.0/8", "172.16.1.0/24"] };
  expect(renderPlan({ ...fixtures.plan, overlay, masquerade, networkPolicy: true }, plain)).toContain(
    [
      "overlay     Always, VXLAN 7 on UDP port 4789, with 0 nodes",
      "masquerade  all but what goes to 2 prefixes and addresses: nodes, pods, exceptions",
      "policies    NetworkPolicies are carried out",
    ].join("\n"),
  );
  const connections = (open?: number) => renderPlan({ ...fixtures.plan, connections: { refused: [], count: 0, open } }, plain);
  expect(connections(12)).toContain("connections none of the 12 that are open would be refused");
  expect(connections()).toContain("the kernel does not list them");
  expect(renderPlan({ ...fixtures.plan, connections: { refused, count: 3, open: 9 } }, plain)).toMatch(
    /3 connections are open that could not begin anew.*\n {2}10\.244\.2\.3 → 10\.244\.1\.2, port 443\/TCP: not by shop\/deny\n {2}and 2 more$/m,
  );
  expect(renderPlan(fixtures.plan, plain)).toMatchInlineSnapshot(`
    "node        node1
    BGP         AS 65000, router id 10.1.0.11
    listens on  all addresses port 179
    pods        10.244.1.0/24 on bridge podlane0, MTU auto

    NEIGHBOR  ADDRESS      AS  FAMILIES      FROM        LIMITS          NOTES
    tor-a     10.1.0.1  65001  ipv4-unicast  Peer/tor-a  1,000 accepted  MD5, GTSM 1

    announced to tor-a, tor-b
      PREFIX         KIND  FROM                ATTRIBUTES                                      BY
      10.244.1.0/24  pod   PodNetwork/default  AS path 65000  origin igp  communities 65000:1  policy "advertisement:pods", rule "announce"
      not 192.0.2.0/24: default: reject (RFC 8212)

    announced to tor-c
      nothing

    sessions
      tor-a: the session is reset: hold time changed
      tor-d: a session is added

    error  Peer/tor-b spec.passwordSecretRef.name
      there is no Secret "tor-b"
      remedy  create it

    warning  Policy/unused
      no peer uses this policy
      remedy  name it in a peer's importPolicies or exportPolicies, or remove it
      at      policies.yaml, document 2, line 14:1
    "
  `);
});

test("a table aligns, leaves out empty columns and trailing blanks, and shows control characters", () => {
  const rows = [
    { a: "é", b: 1, c: "" },
    { a: "long\n", b: 1000, c: "" },
  ];
  const columns = [
    { title: "A", text: (row: (typeof rows)[number]) => row.a },
    { title: "C", text: (row: (typeof rows)[number]) => row.c },
    { title: "B", align: "right" as const, text: (row: (typeof rows)[number]) => String(row.b) },
  ];
  expect(table(rows, columns, plain)).toEqual(["A             B", "é             1", "long\\u{a}  1000"]);
});

test("pairs leave out what is absent and indent further lines", () => {
  const lines = pairs(
    [
      ["one", "1"],
      ["absent", undefined],
      ["three", "a\nb"],
    ],
    plain,
  );
  expect(lines).toEqual(["one    1", "three  a", "       b"]);
});

test("durations and numbers", () => {
  expect([0, 999, 59_000, 61_000, 3_600_000, 93_784_000, -5].map(duration)).toEqual([
    "0 s",
    "0 s",
    "59 s",
    "1 min 1 s",
    "1 h",
    "1 d 2 h",
    "0 s",
  ]);
  expect(count(1_000_000)).toBe("1,000,000");
});

test("colours only on a terminal that wants them", () => {
  expect(paintFor({ isTTY: true }, {})("good", "x")).not.toBe("x");
  expect(paintFor({ isTTY: true }, { NO_COLOR: "1" })("good", "x")).toBe("x");
  expect(paintFor({ isTTY: true }, { TERM: "dumb" })("good", "x")).toBe("x");
  expect(paintFor({}, {})("good", "x")).toBe("x");
});

test("what a neighbour wrote cannot steer the terminal", () => {
  expect(printable("a\u001b[2J\u202eb")).toBe("a\\u{1b}[2J\\u{202e}b");
});

test("pods by their names, web-10 after web-9, and what is not Kubernetes' by its container", () => {
  const pod = (name: string, more = {}) => ({
    network: "pods",
    containerId: "0123456789abcdef",
    ifname: "eth0",
    netns: "/run/netns/x",
    hostInterface: "pl0123456789ab",
    addresses: ["10.244.1.7/24", "fd00:1::7/64"],
    state: "attached" as const,
    since: now - 61_000,
    mode: "routed" as const,
    ...(name && { pod: { namespace: "default", name } }),
    ...more,
  });
  expect(renderPods([pod("web-10"), pod("web-9", { state: "reserved", mode: undefined }), pod("")], now, plain)).toMatchInlineSnapshot(`
    "POD                     INTERFACE  ADDRESSES              MODE    NODE SIDE       STATE           FOR
    container 0123456789ab  eth0       10.244.1.7, fd00:1::7  routed  pl0123456789ab  attached  1 min 1 s
    default/web-9           eth0       10.244.1.7, fd00:1::7          pl0123456789ab  reserved  1 min 1 s
    default/web-10          eth0       10.244.1.7, fd00:1::7  routed  pl0123456789ab  attached  1 min 1 s
    "
  `);
  expect(renderPods([], now, plain)).toBe("no pods are attached\n");
});

test("what went, what stays and why", () => {
  const removals: UninstallReport["removals"] = [
    { what: "link", name: "podlane0", change: "removed" },
    { what: "sysctl", name: "net.ipv4.ip_forward = 0", change: "set back" },
    { what: "routes", name: "1 in table main with protocol 201", change: "stays" },
  ];
  expect(renderUninstall({ removals, notes: ["1 in table main: nobody's"] }, false, plain)).toMatchInlineSnapshot(`
    "removed   link       podlane0
    set back  sysctl     net.ipv4.ip_forward = 0
    stays     routes     1 in table main with protocol 201
    1 in table main: nobody's
    "
  `);
  expect(renderUninstall({ removals: [], notes: [] }, true, plain)).toBe(
    "nothing was changed; this would be done:\nnothing of podlane is here\n",
  );
});
