/**
 * One session in a process of its own, for what cannot be done from another namespace (link-local addresses): `node session-process.ts
 * CONFIG`, the NeighborConfig as JSON. Prints a line of JSON for each change of state, with what was negotiated. Ends on SIGTERM.
 */
import type { NeighborConfig } from "../../bgpd/config.ts";
import { BgpListener } from "../../bgpd/session/listener.ts";
import { createSession } from "../../bgpd/session/session.ts";
import { MemoryLog } from "../../bgpd/session/testing.ts";
import { tcpTransport } from "../../bgpd/session/transport.ts";
import { formatAddress } from "../../net/address.ts";
import { systemClock } from "../../platform/clock.ts";

const config = JSON.parse(process.argv[2]) as NeighborConfig;
const platform = { clock: systemClock, log: new MemoryLog() };
const session = createSession({
  config,
  localAsn: 65001,
  localId: 0x0a000001,
  platform,
  transport: tcpTransport({ config, localAsn: 65001, clock: systemClock }),
  listener: {
    stateChanged(state, reason) {
      const { negotiated } = session.snapshot();
      const local = negotiated && formatAddress(negotiated.localAddress);
      console.log(JSON.stringify({ state, reason, local, families: negotiated?.families }));
    },
    established() {},
    update() {},
    routeRefresh() {},
    down() {},
    writable() {},
  },
});
const bgp = new BgpListener({ port: 179, platform });
bgp.setNeighbors([{ config, localAsn: 65001, session }]);
bgp.start();
session.start();
process.once("SIGTERM", async () => {
  await session.stop();
  await bgp.close();
});
