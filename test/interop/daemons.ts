/**
 * One language for four daemons: what a test wants of a neighbour becomes the configuration of FRR, BIRD, GoBGP or OpenBGPD, and what the
 * daemon's own command line shows becomes one form. What a daemon cannot do it lists in `lacks`.
 */
import { type Neighbour, startBird, startFrr, startFrrWithZebra, startGobgp, startOpenbgpd } from "../neighbours.ts";

/** A route the daemon originates. */
export interface Origination {
  prefix: string;
  origin?: "igp" | "egp" | "incomplete";
  /** Behind the daemon's own AS, nearest first. OpenBGPD repeats its own AS this often instead. */
  path?: number[];
  med?: number;
  communities?: string[];
  largeCommunities?: string[];
  /** Route targets "65002:7". */
  routeTargets?: string[];
  aggregator?: { asn: number; address: string };
  atomicAggregate?: boolean;
}

export interface DaemonPeer {
  address: string;
  asn: number;
  passive?: boolean;
  /** The daemon reflects to it. */
  client?: boolean;
  /** BIRD is a route server for it (RFC 7947). */
  routeServerClient?: boolean;
  /** Default true. */
  fourOctetAsn?: boolean;
}

export interface DaemonPlan {
  asn: number;
  /** Router id and session address. */
  address: string;
  /** Next hop in IPv6. */
  address6: string;
  peers: DaemonPeer[];
  /** Seconds; default 9. */
  holdTime?: number;
  announces?: Origination[];
  /** FRR: prefixes that it makes of what lies in them, with an AS_SET of its paths. */
  aggregates?: string[];
  /** Clusters a reflector belongs to. */
  clusterId?: string;
  /** FRR and BIRD: writes what it learns into its namespace's kernel. */
  kernel?: boolean;
  /** FRR (with `kernel`) and BIRD: the sessions stand on BFD as well, three times 100 ms. */
  bfd?: boolean;
  /** As many /32 routes from 10.128.0.0 on, of several attribute sets. */
  many?: number;
}

/** A route as the daemon shows it; only what is there. AS_PATH as text; communities in the order of the daemon. */
export interface Seen {
  asPath: string;
  nextHop: string;
  origin: string;
  med?: number;
  localPref?: number;
  communities?: string[];
  largeCommunities?: string[];
  extendedCommunities?: string[];
  aggregator?: string;
  originatorId?: string;
  clusterList?: string[];
}

export interface Daemon {
  readonly process: Neighbour;
  /** Its best path, undefined where it has none. */
  route(prefix: string): Promise<Seen | undefined>;
  /** Number of prefixes it holds of a family (4 or 6). */
  count(family: 4 | 6): Promise<number>;
  established(peer: string): Promise<boolean>;
  withdraw(prefix: string): Promise<void>;
  /** Asks the peer for its routes again, as its operator does. */
  askRefresh(peer: string): Promise<void>;
}

export interface DaemonKind {
  readonly name: "frr" | "bird" | "gobgp" | "openbgpd";
  /** A session for each family: OpenBGPD 7.7 on Linux puts ::1 into the next hop of IPv6 routes that it sends on an IPv4 session. */
  readonly sessionPerFamily: boolean;
  start(namespace: string, plan: DaemonPlan): Promise<Daemon>;
}

const v6 = (prefix: string) => prefix.includes(":");
const words = (text: string | undefined) => text?.split(" ").filter(word => word !== "");

/** 10.128.0.0/32 and so on, in blocks of 100 that share their attributes. */
export function manyPrefix(index: number): string {
  return `10.${128 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}/32`;
}

// FRR

const frr: DaemonKind = {
  name: "frr",
  sessionPerFamily: false,
  async start(namespace, plan) {
    const { announces = [], holdTime = 9, peers, many = 0 } = plan;
    const families = [4, 6].map(family => {
      const own = announces.filter(each => v6(each.prefix) === (family === 6));
      const routes = own.map(each => `  network ${each.prefix} route-map m${announces.indexOf(each)}`);
      const bulk = family === 4 ? Array.from({ length: many }, (_, i) => `  network ${manyPrefix(i)} route-map bulk${i % 5}`) : [];
      const active = peers.flatMap(peer => [
        `  neighbor ${peer.address} activate`,
        ...(peer.client ? [`  neighbor ${peer.address} route-reflector-client`] : []),
        ...(family === 6 && peer.asn !== plan.asn ? [`  neighbor ${peer.address} route-map next-hop out`] : []),
      ]);
      const aggregates = (plan.aggregates ?? []).filter(prefix => v6(prefix) === (family === 6));
      routes.push(...aggregates.map(prefix => `  aggregate-address ${prefix} as-set`));
      return [` address-family ipv${family} unicast`, ...active, ...routes, ...bulk, " exit-address-family"];
    });
    const maps = announces.flatMap((each, i) => [`route-map m${i} permit 10`, ...frrSets(each, plan)]);
    const bulk = [0, 1, 2, 3, 4].flatMap(i => [`route-map bulk${i} permit 10`, ` set metric ${i}`, ` set community 65000:${i}`]);
    const config = [
      `router bgp ${plan.asn}`,
      ` bgp router-id ${plan.address}`,
      ...(plan.clusterId ? [` bgp cluster-id ${plan.clusterId}`] : []),
      " no bgp ebgp-requires-policy",
      " no bgp network import-check",
      " no bgp default ipv4-unicast",
      ...peers.flatMap(peer => [
        ` neighbor ${peer.address} remote-as ${peer.asn}`,
        ` neighbor ${peer.address} timers ${Math.floor(holdTime / 3)} ${holdTime}`,
        ` neighbor ${peer.address} timers connect 1`,
        ` neighbor ${peer.address} advertisement-interval 0`,
        ...(peer.passive ? [` neighbor ${peer.address} passive`] : []),
        ...(plan.bfd ? [` neighbor ${peer.address} bfd 3 100 100`] : []),
        ...(peer.fourOctetAsn === false ? [` neighbor ${peer.address} dont-capability-negotiate`] : []),
      ]),
      ...families.flat(),
      ...maps,
      ...bulk,
      "route-map next-hop permit 10",
      ` set ipv6 next-hop global ${plan.address6}`,
    ];
    const text = config.join("\n");
    return new Frr(await (plan.kernel ? startFrrWithZebra(namespace, text, { bfd: plan.bfd }) : startFrr(namespace, text)));
  },
};

function frrSets(each: Origination, plan: DaemonPlan): string[] {
  const sets: [unknown, string][] = [
    [each.origin, `origin ${each.origin}`],
    [each.path, `as-path prepend ${each.path?.join(" ")}`],
    [each.med, `metric ${each.med}`],
    [each.communities, `community ${each.communities?.join(" ")}`],
    [each.largeCommunities, `large-community ${each.largeCommunities?.join(" ")}`],
    [each.routeTargets, `extcommunity rt ${each.routeTargets?.join(" ")}`],
    [each.aggregator, `aggregator as ${each.aggregator?.asn} ${each.aggregator?.address}`],
    [each.atomicAggregate, "atomic-aggregate"],
    [v6(each.prefix), `ipv6 next-hop global ${plan.address6}`],
  ];
  return sets.filter(([wanted]) => wanted !== undefined && wanted !== false).map(([, text]) => ` set ${text}`);
}

interface FrrPath {
  bestpath?: { overall?: boolean };
  aspath?: { string: string };
  origin: string;
  metric?: number;
  locPrf?: number;
  community?: { string: string };
  largeCommunity?: { string: string };
  extendedCommunity?: { string: string };
  aggregatorAs?: number;
  aggregatorId?: string;
  originatorId?: string;
  clusterList?: { list: string[] };
  nexthops?: { ip: string; scope?: string }[];
}

class Frr implements Daemon {
  readonly process: Neighbour;

  constructor(process: Neighbour) {
    this.process = process;
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const text = await this.process.query(`show bgp ipv${v6(prefix) ? 6 : 4} unicast ${prefix} json`);
    const { paths = [] } = JSON.parse(text) as { paths?: FrrPath[] };
    const best = paths.find(path => path.bestpath?.overall);
    if (!best) return undefined;
    return defined({
      asPath: best.aspath?.string === "Local" ? "" : (best.aspath?.string ?? ""),
      nextHop: best.nexthops?.find(hop => hop.scope !== "link-local")?.ip ?? "",
      origin: best.origin.toLowerCase(),
      med: best.metric,
      localPref: best.locPrf,
      communities: words(best.community?.string),
      largeCommunities: words(best.largeCommunity?.string),
      extendedCommunities: words(best.extendedCommunity?.string)?.map(text => text.toLowerCase()),
      aggregator: best.aggregatorAs && `${best.aggregatorAs} ${best.aggregatorId}`,
      originatorId: best.originatorId,
      clusterList: best.clusterList?.list,
    });
  }

  async count(family: 4 | 6): Promise<number> {
    const text = await this.process.query(`show bgp ipv${family} unicast statistics json`);
    const answer = JSON.parse(text) as Record<string, { totalPrefixes?: number }[] | undefined>;
    return Object.values(answer)[0]?.[0]?.totalPrefixes ?? 0;
  }

  async established(peer: string): Promise<boolean> {
    const text = await this.process.query(`show bgp neighbors ${peer} json`);
    return (JSON.parse(text) as Record<string, { bgpState?: string }>)[peer]?.bgpState === "Established";
  }

  async withdraw(prefix: string): Promise<void> {
    const family = v6(prefix) ? 6 : 4;
    await this.process.query(`configure terminal\nrouter bgp\naddress-family ipv${family} unicast\nno network ${prefix}`);
  }

  async askRefresh(peer: string): Promise<void> {
    for (const family of ["ipv4", "ipv6"]) await this.process.query(`clear bgp ${family} unicast ${peer} soft in`);
  }
}

// BIRD

const bird: DaemonKind = {
  name: "bird",
  sessionPerFamily: false,
  async start(namespace, plan) {
    const { announces = [], holdTime = 9, peers, many = 0 } = plan;
    const channel = (family: 4 | 6, peer: DaemonPeer) =>
      `ipv${family} { import all; export filter { ${birdMeds(plan, family)} if source = RTS_BGP || source = RTS_STATIC then accept; reject; }; next hop ${
        peer.asn === plan.asn ? "keep" : "self"
      };${family === 6 ? ` next hop address ${plan.address6};` : ""} };`;
    const bulk = Array.from({ length: many }, (_, i) => {
      const sets = `bgp_community.add((65000,${i % 5}));`;
      return `route ${manyPrefix(i)} blackhole { ${sets} };`;
    });
    const config = [
      `router id ${plan.address}; protocol device {} protocol direct { ipv4; ipv6; }`,
      ...(plan.kernel
        ? [4, 6].map(n => `protocol kernel { merge paths on; ipv${n} { import none; export where source = RTS_BGP; }; }`)
        : []),
      ...(plan.bfd ? ['protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }'] : []),
      ...announces.map(
        (each, i) => `protocol static own${i} { ipv${v6(each.prefix) ? 6 : 4}; route ${each.prefix} blackhole { ${birdSets(each)} }; }`,
      ),
      ...(many > 0 ? [`protocol static bulk { ipv4; ${bulk.join("\n")} }`] : []),
      ...peers.map(
        (peer, i) => `protocol bgp peer${i} {
          local ${plan.address} as ${plan.asn}; neighbor ${peer.address} as ${peer.asn};
          ${plan.bfd ? "bfd on;" : ""} hold time ${holdTime}; connect retry time 1; connect delay time 1; error wait time 1, 4;
          ${peer.passive ? "passive on;" : ""} ${peer.client ? "rr client;" : ""} ${peer.routeServerClient ? "rs client;" : ""}
          ${peer.fourOctetAsn === false ? "enable as4 off;" : ""}
          ${plan.clusterId ? `rr cluster id ${plan.clusterId};` : ""}
          ${channel(4, peer)} ${channel(6, peer)}
        }`,
      ),
    ];
    return new Bird(await startBird(namespace, config.join("\n")), plan);
  },
};

function birdSets(each: Origination): string {
  const pair = (text: string) => `(${text.replaceAll(":", ",")})`;
  return [
    ...(each.origin ? [`bgp_origin = ORIGIN_${each.origin.toUpperCase()};`] : []),
    ...(each.path ?? []).toReversed().map(asn => `bgp_path.prepend(${asn});`),
    ...(each.communities ?? []).map(community => `bgp_community.add(${pair(community)});`),
    ...(each.largeCommunities ?? []).map(community => `bgp_large_community.add(${pair(community)});`),
    ...(each.routeTargets ?? []).map(target => `bgp_ext_community.add((rt,${target.replace(":", ",")}));`),
  ].join(" ");
}

/** BIRD sends a MED only where the export filter has set it. */
function birdMeds({ announces = [], many = 0 }: DaemonPlan, family: 4 | 6): string {
  const own = announces.filter(each => v6(each.prefix) === (family === 6) && each.med !== undefined);
  const bulk = family === 4 && many > 0 ? [0, 1, 2, 3, 4].map(n => `if (65000,${n}) ~ bgp_community then bgp_med = ${n};`) : [];
  return [...own.map(each => `if net = ${each.prefix} then bgp_med = ${each.med};`), ...bulk].join(" ");
}

class Bird implements Daemon {
  readonly process: Neighbour;
  readonly #plan: DaemonPlan;

  constructor(process: Neighbour, plan: DaemonPlan) {
    this.process = process;
    this.#plan = plan;
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const text = await this.process.query(`show route primary all ${prefix}`).catch(notFound);
    // "BGP.as_path" of BIRD 2 is "bgp_path" in BIRD 3.
    if (!/\bBGP\.as_path|\b(BGP\.|bgp_)origin/.test(text)) return undefined;
    const field = (name: string) => new RegExp(`^\\s+(?:BGP\\.|bgp_)${name}:[ ]?(.*?)\\s*$`, "m").exec(text)?.[1];
    const tuples = (name: string) =>
      field(name)
        ?.match(/\([^)]*\)/g)
        ?.map(tuple => tuple.slice(1, -1).replaceAll(/,\s*/g, ":"));
    const number = (name: string) => (field(name) === undefined ? undefined : Number(field(name)));
    return defined({
      asPath: field("(?:as_)?path") ?? "",
      nextHop: field("next_hop")?.split(" ")[0] ?? "",
      origin: field("origin")?.toLowerCase() ?? "",
      med: number("med"),
      localPref: number("local_pref"),
      communities: tuples("community"),
      largeCommunities: tuples("large_community"),
      extendedCommunities: tuples("ext_community"),
      aggregator: /^(\S+) AS(\d+)$/
        .exec(field("aggregator") ?? "")
        ?.slice(1)
        .reverse()
        .join(" "),
      originatorId: field("originator_id"),
      clusterList: words(field("cluster_list")),
    });
  }

  async count(family: 4 | 6): Promise<number> {
    const text = await this.process.query(`show route table master${family} count`);
    return Number(/for (\d+) networks/.exec(text)?.[1] ?? Number.NaN);
  }

  async established(peer: string): Promise<boolean> {
    const text = await this.process.query(`show protocols all ${this.#protocol(peer)}`);
    return /BGP state:\s+Established/.test(text);
  }

  async withdraw(prefix: string): Promise<void> {
    await this.process.query(`disable own${this.#plan.announces?.findIndex(each => each.prefix === prefix)}`);
  }

  async askRefresh(peer: string): Promise<void> {
    const protocol = this.#protocol(peer);
    await this.process.query(`reload in ${protocol}`).catch((error: Error) => {
      if (!error.message.includes("No such command")) throw error;
      // So since BIRD 3.4, where "reload filters" is another command.
      return this.process.query(`reload bgp in ${protocol}`);
    });
  }

  #protocol(peer: string): string {
    return `peer${this.#plan.peers.findIndex(each => each.address === peer)}`;
  }
}

// GoBGP

const gobgp: DaemonKind = {
  name: "gobgp",
  sessionPerFamily: false,
  async start(namespace, plan) {
    const { announces = [], holdTime = 9 } = plan;
    const config = {
      global: { config: { as: plan.asn, "router-id": plan.address } },
      neighbors: plan.peers.map(peer => ({
        config: { "neighbor-address": peer.address, "peer-as": peer.asn },
        timers: {
          config: {
            "connect-retry": 1,
            "idle-hold-time-after-reset": 1,
            "hold-time": holdTime,
            "keepalive-interval": Math.floor(holdTime / 3),
          },
        },
        transport: { config: { "passive-mode": peer.passive === true, "local-address": plan.address } },
        "afi-safis": ["ipv4-unicast", "ipv6-unicast"].map(name => ({ config: { "afi-safi-name": name } })),
      })),
    };
    const daemon = new Gobgp(await startGobgp(namespace, JSON.stringify(config)));
    try {
      for (const each of announces) await daemon.announce(each, v6(each.prefix) ? plan.address6 : plan.address);
    } catch (error) {
      await daemon.process.stop();
      throw error;
    }
    return daemon;
  },
};

interface GobgpPath {
  best?: boolean;
  attrs: {
    type: number;
    value?: unknown;
    as_paths?: { asns: number[] }[];
    nexthop?: string;
    metric?: number;
    communities?: number[];
    as?: number;
    address?: string;
  }[];
}

class Gobgp implements Daemon {
  readonly process: Neighbour;

  constructor(process: Neighbour) {
    this.process = process;
  }

  async announce(each: Origination, nextHop: string): Promise<void> {
    const sets: [unknown, string][] = [
      [each.origin, `origin ${each.origin}`],
      [each.path, `aspath ${each.path?.join(",")}`],
      [true, `nexthop ${nextHop}`],
      [each.med, `med ${each.med}`],
      [each.communities, `community ${each.communities?.join(",")}`],
      [each.largeCommunities, `large-community ${each.largeCommunities?.join(",")}`],
      [each.routeTargets, `rt ${each.routeTargets?.join(" ")}`],
      [each.aggregator, `aggregator ${each.aggregator?.asn}:${each.aggregator?.address}`],
    ];
    const text = sets.filter(([wanted]) => wanted !== undefined).map(([, set]) => set);
    await this.process.query(`global rib add ${each.prefix} ${text.join(" ")} -a ipv${v6(each.prefix) ? 6 : 4}`);
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const text = await this.process.query(`global rib ${prefix} -a ipv${v6(prefix) ? 6 : 4} -j`).catch(notFound);
    if (!text.trim().startsWith("{")) return undefined;
    const [path] = Object.values(JSON.parse(text) as Record<string, GobgpPath[]>)[0] ?? [];
    if (!path) return undefined;
    const of = (type: number) => path.attrs.find(attribute => attribute.type === type);
    const large = of(32)?.value as { ASN: number; LocalData1: number; LocalData2: number }[] | undefined;
    return defined({
      asPath: (of(2)?.as_paths ?? []).flatMap(segment => segment.asns).join(" "),
      nextHop: of(3)?.nexthop ?? of(14)?.nexthop ?? "",
      origin: ["igp", "egp", "incomplete"][Number(of(1)?.value)],
      med: of(4)?.metric,
      localPref: of(5)?.value as number | undefined,
      communities: of(8)?.communities?.map(value => `${value >>> 16}:${value & 0xffff}`),
      largeCommunities: large?.map(each => `${each.ASN}:${each.LocalData1}:${each.LocalData2}`),
      aggregator: of(7) && `${of(7)?.as} ${of(7)?.address}`,
    });
  }

  async count(family: 4 | 6): Promise<number> {
    const text = await this.process.query(`global rib summary -a ipv${family} -j`);
    return (JSON.parse(text) as { num_destination?: number }).num_destination ?? 0;
  }

  async established(peer: string): Promise<boolean> {
    const text = await this.process.query(`neighbor ${peer} -j`);
    return (JSON.parse(text) as { state?: { session_state?: number } }).state?.session_state === 6;
  }

  async withdraw(prefix: string): Promise<void> {
    await this.process.query(`global rib del ${prefix} -a ipv${v6(prefix) ? 6 : 4}`);
  }

  async askRefresh(peer: string): Promise<void> {
    await this.process.query(`neighbor ${peer} softresetin`);
  }
}

// OpenBGPD

const openbgpd: DaemonKind = {
  name: "openbgpd",
  sessionPerFamily: true,
  async start(namespace, plan) {
    const { announces = [], holdTime = 9 } = plan;
    const config = [
      `AS ${plan.asn}`,
      `router-id ${plan.address}`,
      "connect-retry 1",
      `holdtime ${holdTime}`,
      "holdtime min 3",
      ...announces.map(each => `network ${each.prefix} ${openbgpdSets(each)}`),
      ...plan.peers.flatMap(peer => [
        `neighbor ${peer.address} {`,
        ` remote-as ${peer.asn}`,
        ` local-address ${v6(peer.address) ? plan.address6 : plan.address}`,
        v6(peer.address) ? " announce IPv4 none" : " announce IPv4 unicast",
        v6(peer.address) ? " announce IPv6 unicast" : " announce IPv6 none",
        ...(peer.passive ? [" passive"] : []),
        ...(peer.fourOctetAsn === false ? [" announce as-4byte no"] : []),
        "}",
      ]),
      "allow from any",
      "allow to any",
    ];
    return new Openbgpd(await startOpenbgpd(namespace, `${config.join("\n")}\n`));
  },
};

function openbgpdSets(each: Origination): string {
  const sets = [
    ...(each.origin ? [`origin ${each.origin}`] : []),
    ...(each.path ? [`prepend-self ${each.path.length}`] : []),
    ...(each.med === undefined ? [] : [`med ${each.med}`]),
    ...(each.communities ?? []).map(community => `community ${community}`),
    ...(each.largeCommunities ?? []).map(community => `large-community ${community}`),
    ...(each.routeTargets ?? []).map(target => `ext-community rt ${target}`),
  ];
  return sets.length > 0 ? `set { ${sets.join(" ")} }` : "";
}

interface OpenbgpdRoute {
  aspath?: string;
  exit_nexthop?: string;
  true_nexthop?: string;
  origin: string;
  metric?: number;
  localpref?: number;
  communities?: string[];
  large_communities?: string[];
  extended_communities?: string[];
  attributes?: { type: string; aggregator?: string }[];
}

class Openbgpd implements Daemon {
  readonly process: Neighbour;

  constructor(process: Neighbour) {
    this.process = process;
  }

  async route(prefix: string): Promise<Seen | undefined> {
    const text = await this.process.query(`-j show rib best detail ${prefix}`);
    const [route] = (JSON.parse(text) as { rib?: OpenbgpdRoute[] }).rib ?? [];
    if (!route) return undefined;
    return defined({
      asPath: route.aspath ?? "",
      nextHop: route.exit_nexthop ?? "",
      origin: route.origin.toLowerCase(),
      med: route.metric,
      localPref: route.localpref,
      communities: route.communities,
      largeCommunities: route.large_communities,
      extendedCommunities: route.extended_communities,
    });
  }

  async count(family: 4 | 6): Promise<number> {
    const text = await this.process.query(`-j show rib best ${family === 4 ? "inet" : "inet6"}`);
    return ((JSON.parse(text) as { rib?: unknown[] }).rib ?? []).length;
  }

  async established(peer: string): Promise<boolean> {
    const text = await this.process.query(`-j show neighbor ${peer}`);
    return (JSON.parse(text) as { neighbors?: { state?: string }[] }).neighbors?.[0]?.state === "Established";
  }

  async withdraw(prefix: string): Promise<void> {
    await this.process.query(`network delete ${prefix}`);
  }

  async askRefresh(peer: string): Promise<void> {
    await this.process.query(`neighbor ${peer} refresh`);
  }
}

export const daemons = { frr, bird, gobgp, openbgpd } as const;

function defined(seen: { [K in keyof Seen]: Seen[K] | "" | 0 }): Seen {
  return Object.fromEntries(Object.entries(seen).filter(([, value]) => value !== undefined)) as unknown as Seen;
}

/** Some clients call a missing route a failure; every other failure stays one. */
function notFound(error: Error): string {
  if (/not found|not in table/i.test(error.message)) return "";
  throw error;
}
