/**
 * The speaker alone, as a program under test: AS 65000, router id and address 10.0.1.1, passive neighbours 10.0.1.2 (AS 65001, the feed) and
 * 10.0.1.11… (AS 65101…, one per DUT_SINKS), everything accepted and passed on, nothing written to the kernel. What bench/transit.ts puts
 * between a feeder and its receivers.
 */
import { openRtnetlink, watchKernel } from "../kernel/index.ts";
import type { NeighborConfig, SpeakerConfig } from "../bgpd/config.ts";
import { type Logger, systemClock } from "../bgpd/platform.ts";
import { Speaker } from "../bgpd/speaker.ts";

const accept = { importPolicies: [], exportPolicies: [], importDefault: "accept", exportDefault: "accept", prefixLimit: 0, prefixWarning: 0, nextHopSelf: false, allowAsIn: 0 } as const;

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
    routeReflectorClient: false,
    families: { "ipv4-unicast": { ...accept, importPolicies: [], exportPolicies: [] } },
  };
}

const sinks = Number(process.env.DUT_SINKS ?? 1);
const config: SpeakerConfig = {
  asn: 65000,
  routerId: "10.0.1.1",
  listen: { port: 179 },
  neighbors: [neighbor("feed", "10.0.1.2", 65001), ...Array.from({ length: sinks }, (_, i) => neighbor(`sink${i + 1}`, `10.0.1.${11 + i}`, 65101 + i))],
  policies: {},
  networks: [],
  multipath: { ebgp: 1, ibgp: 1, asPathRelax: false },
  decision: { alwaysCompareMed: false, preferOldest: false },
  fib: { enabled: false, table: 254, protocol: 201, metric: 0 },
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

const speaker = new Speaker({ clock: systemClock, log, kernel: { netlink: openRtnetlink(), watch: listener => watchKernel({}, listener) } });
speaker.apply(config);
process.once("SIGTERM", () => void speaker.close({ graceful: true, flush: false }).then(() => process.exit(0)));
