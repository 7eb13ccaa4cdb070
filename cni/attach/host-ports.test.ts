import { expect, test } from "vitest";
import type { Reservation } from "../ipam/book.ts";
import type { PortMapping } from "../types.ts";
import { requireFreePorts } from "./host-ports.ts";

const port = (over: Partial<PortMapping> = {}): PortMapping => ({ protocol: "tcp", hostPort: 80, containerPort: 8080, ...over });
const holder = (...ports: PortMapping[]) => ({ hostInterface: "pla", containerId: "a", ports }) as unknown as Reservation;

test.each<[PortMapping, PortMapping, boolean]>([
  [port(), port(), true],
  [port(), port({ hostPort: 81 }), false],
  [port(), port({ protocol: "udp" }), false],
  [port(), port({ hostIP: "192.0.2.1" }), true],
  [port({ hostIP: "192.0.2.2" }), port({ hostIP: "192.0.2.1" }), false],
  [port({ hostIP: "0.0.0.0" }), port({ hostIP: "192.0.2.1" }), true],
  [port({ hostIP: "0.0.0.0" }), port({ hostIP: "2001:db8::1" }), false],
])("%j beside %j: refused %j", (wanted, present, refused) => {
  const check = () => requireFreePorts([wanted], "plb", [holder(present)]);
  if (refused) expect(check).toThrow(/tcp port 80 .*leads to container a already/);
  else check();
  // The pod's own, of an ADD that comes again.
  requireFreePorts([wanted], "pla", [holder(present)]);
});
