import { expect, test } from "vitest";
import { readConnection } from "./connection.ts";
import { renderConnection, renderPolicies } from "./render/connection.ts";
import { paintFor } from "./render/paint.ts";

const plain = paintFor({ isTTY: false } as never, {});

test.each([
  ["shop/a shop/b:80", { from: "shop/a", to: "shop/b", port: 80, protocol: "TCP" }],
  ["a → b:53/udp", { from: "default/a", to: "default/b", port: 53, protocol: "UDP" }],
  ["10.0.0.1 -> [2001:db8::1]:443", { from: "10.0.0.1", to: "2001:db8::1", port: 443, protocol: "TCP" }],
  ["a to pod/b:1/SCTP", { from: "default/a", to: "default/b", port: 1, protocol: "SCTP" }],
])("%s is a connection", (text, expected) => {
  expect(readConnection(text.split(" "))).toEqual(expected);
});

test.each(["a", "a b", "a b:0", "a b:70000", "a b:80/ICMP", "a b c:80", "A b:80"])("%s is none, and it is said how to write one", text => {
  expect(() => readConnection(text.split(" "))).toThrow();
});

test("an explanation names rules and policies", () => {
  const view = {
    from: "shop/a",
    to: "shop/b",
    port: 80,
    protocol: "TCP" as const,
    allowed: false,
    egress: { allowed: true, by: "rule" as const, policy: "shop/out", tier: "NetworkPolicy" as const, rule: 2 },
    ingress: { allowed: false, by: "isolated" as const, isolatedBy: ["shop/deny", "shop/other"] },
  };
  expect(renderConnection(view, plain)).toBe(
    [
      "shop/a → shop/b, port 80/TCP: is dropped",
      "",
      "egress      ✓ rule 2 of NetworkPolicy shop/out lets it pass",
      "ingress     ✗ no rule of its policies lets it pass: shop/deny, shop/other",
      "",
    ].join("\n"),
  );
});

test("policies are listed with the pods that they select here, and what was dropped", () => {
  const policies = [{ policy: "shop/deny", pods: ["shop/a", "shop/b"], dropped: { ingress: 7, egress: 0 } }];
  expect(renderPolicies({ enforced: true, policies }, plain)).toBe(
    "POLICY     PODS HERE  DROPPED IN  DROPPED OUT\nshop/deny          2           7            0\n",
  );
  const untold = [{ policy: "shop/deny", pods: [] }];
  expect(renderPolicies({ enforced: true, policies: untold }, plain)).toMatch(/shop\/deny +0 +- +-\n$/);
  expect(renderPolicies({ enforced: false, policies: [] }, plain)).toMatch(/not carried out/);
});
