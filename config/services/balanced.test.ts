import { expect, test } from "vitest";
import { readBalanced } from "./balanced.ts";

test("a Service has the addresses of its status, whatever their ipMode: none of them is given to another one", () => {
  const ingress = [
    { ip: "192.0.2.5", ipMode: "Proxy" },
    { ip: "192.0.2.6" },
    { ip: "2001:DB8::5" },
    { ip: "192.0.2.6" },
    { hostname: "lb.example" },
  ];
  const read = readBalanced({
    metadata: { name: "web", namespace: "shop" },
    spec: { type: "LoadBalancer" },
    status: { loadBalancer: { ingress } },
  });
  expect(read.addresses).toEqual(["192.0.2.5", "192.0.2.6", "2001:db8::5"]);
});
