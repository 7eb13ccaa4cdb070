/**
 * The speaker alone, as a program under test: AS 65000, router id and address 10.0.1.1, passive neighbours 10.0.1.2 (AS 65001, the feed) and
 * 10.0.1.11… (AS 65101…, one per DUT_SINKS), everything accepted and passed on. DUT_KERNEL=1 writes what it learns to the kernel; DUT_GAPS=1
 * watches the event loop: SIGUSR2 then prints the longest gap since the last one. bench/transit.ts and bench/fib.ts put it between a feed and
 * its receivers.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { NeighborConfig, SpeakerConfig } from "../bgpd/config.ts";
import { Speaker } from "../bgpd/speaker.ts";
import { openKernel, RTPROT_PODLANE } from "../kernel/index.ts";
import { systemClock } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";

const accept = {
  importDefault: "accept",
  exportDefault: "accept",
  prefixLimit: 0,
  prefixWarning: 0,
  nextHopSelf: false,
  allowAsIn: 0,
} as const;

function neighbor(name: string, address: string, remoteAsn: number): NeighborConfig {
  return {
    name,
    address,
    remoteAsn,
    port: 179,
    passive: true,
    holdTime: 240,
    keepaliveTime: 0,
    connectRetryTime: 5,
    advertisementInterval: 0,
    // The feed may be a recorded table, whatever its paths are.
    allowAsSets: true,
    enforceFirstAs: false,
    routeReflectorClient: false,
    families: { "ipv4-unicast": { ...accept, importPolicies: [], exportPolicies: [] } },
  };
}

const sinks = Number(process.env.DUT_SINKS ?? 1);
const config: SpeakerConfig = {
  asn: 65000,
  routerId: "10.0.1.1",
  listen: { port: 179 },
  neighbors: [
    neighbor("feed", "10.0.1.2", 65001),
    ...Array.from({ length: sinks }, (_, i) => neighbor(`sink${i + 1}`, `10.0.1.${11 + i}`, 65101 + i)),
  ],
  policies: {},
  networks: [],
  multipath: { ebgp: 1, ibgp: 1, asPathRelax: false },
  decision: { alwaysCompareMed: false, preferOldest: false },
  fib: { enabled: process.env.DUT_KERNEL === "1", table: 254, protocol: RTPROT_PODLANE, metric: 0 },
  protectedPrefixes: [],
  startupWait: 60,
};

const log: Logger = {
  debug: () => {},
  info: () => {},
  warn: (fields, message) => console.error("warn", message, fields),
  error: (fields, message) => console.error("error", message, fields),
  child: () => log,
};

if (process.env.DUT_GAPS === "1") {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  process.on("SIGUSR2", () => {
    console.log(JSON.stringify({ event: "gap", milliseconds: delay.max / 1e6 }));
    delay.reset();
  });
}

const speaker = new Speaker({ clock: systemClock, log, kernel: openKernel() });
speaker.apply(config);
process.once("SIGTERM", () => void speaker.close({ graceful: true, flush: false }).then(() => process.exit(0)));
