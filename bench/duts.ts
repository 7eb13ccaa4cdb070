/**
 * The speakers under test, each configured alike: AS 65000 at 10.0.1.1, passive eBGP sessions with the feed and the receivers, everything
 * accepted and passed on. Nothing is written to the kernel unless that is what is measured.
 */
import { join } from "node:path";
import { missing, neighbourVersion, startBird, startFrr, startGobgp, startOpenbgpd } from "../test/neighbours.ts";
import { nodeOptions } from "./common.ts";
import { Driven } from "./processes.ts";
import { addresses } from "./traffic.ts";

export const dutNames = ["podlane", "bird", "frr", "gobgp", "openbgpd"] as const;
export type DutName = (typeof dutNames)[number];

export interface Dut {
  readonly pid: number;
  stop(): Promise<void>;
  /** What it printed: to explain a failure. */
  log(): string;
  /** Longest time in ms the event loop stood still since the last call. Only podlane with `gaps`. */
  longestGap?(limit: number): Promise<number>;
}

export interface DutOptions {
  sinks: number;
  /** Write what is learned to the kernel's main table: podlane and BIRD only. */
  kernel?: boolean;
  /** Watch the event loop. */
  gaps?: boolean;
}

/** Why it cannot run here; undefined = it can. */
export function dutMissing(name: DutName): string | undefined {
  return name === "podlane" ? undefined : missing(name);
}

export function dutVersion(name: DutName): string {
  return name === "podlane" ? `Node ${process.version}` : (neighbourVersion(name) ?? "unknown");
}

export function startDut(name: DutName, namespace: string, options: DutOptions): Promise<Dut> {
  const sinks = Array.from({ length: options.sinks }, (_, i) => addresses.sink(i));
  switch (name) {
    case "podlane":
      return Promise.resolve(startPodlane(namespace, options));
    case "bird":
      return startBird(namespace, birdConfig(sinks, options.kernel ?? false));
    case "frr":
      return startFrr(namespace, frrConfig(sinks));
    case "gobgp":
      return startGobgp(namespace, gobgpConfig(sinks));
    case "openbgpd":
      return startOpenbgpd(namespace, openbgpdConfig(sinks));
  }
}

interface Side {
  address: string;
  asn: number;
}

const { speaker, feed } = addresses;

function startPodlane(namespace: string, { sinks, kernel, gaps }: DutOptions): Dut {
  const env = { DUT_SINKS: String(sinks), DUT_KERNEL: kernel ? "1" : "", DUT_GAPS: gaps ? "1" : "" };
  const driven = new Driven("podlane", namespace, [process.execPath, ...nodeOptions, join(import.meta.dirname, "dut.ts")], env);
  return {
    pid: driven.pid,
    stop: () => driven.stop(),
    log: () => driven.errors,
    async longestGap(limit) {
      driven.signal("SIGUSR2");
      return (await driven.next("gap", limit)).milliseconds as number;
    },
  };
}

function birdConfig(sinks: Side[], kernel: boolean): string {
  // The feed hears nothing: BIRD is spared even the thought of sending it its own routes.
  const session = (name: string, { address, asn }: Side, exported: string) =>
    `protocol bgp ${name} { local ${speaker} as 65000; neighbor ${address} as ${asn}; passive on; ipv4 { import all; export ${exported}; }; }`;
  const table = kernel ? ["protocol kernel { scan time 3600; ipv4 { import none; export all; }; }"] : [];
  const sessions = [session("feed", feed, "none"), ...sinks.map((sink, i) => session(`sink${i}`, sink, "all"))];
  return [`router id ${speaker};`, "protocol device {}", ...table, ...sessions, ""].join("\n");
}

function frrConfig(sinks: Side[]): string {
  const session = ({ address, asn }: Side) => [
    ` neighbor ${address} remote-as ${asn}`,
    ` neighbor ${address} passive`,
    ` neighbor ${address} timers 80 240`,
    ` neighbor ${address} advertisement-interval 0`,
  ];
  return [
    "router bgp 65000",
    ` bgp router-id ${speaker}`,
    " no bgp ebgp-requires-policy",
    " no bgp default ipv4-unicast",
    ...[feed, ...sinks].flatMap(session),
    " address-family ipv4 unicast",
    ...[feed, ...sinks].map(({ address }) => `  neighbor ${address} activate`),
    " exit-address-family",
    "",
  ].join("\n");
}

function gobgpConfig(sinks: Side[]): string {
  const session = ({ address, asn }: Side) =>
    `  - {config: {neighbor-address: ${address}, peer-as: ${asn}}, timers: {config: {hold-time: 240}}, transport: {config: {passive-mode: true}}}`;
  const global = ["global:", `  config: {as: 65000, router-id: ${speaker}}`];
  return [...global, "neighbors:", ...[feed, ...sinks].map(session), ""].join("\n");
}

function openbgpdConfig(sinks: Side[]): string {
  const session = ({ address, asn }: Side) => `neighbor ${address} {\n  remote-as ${asn}\n  passive\n  holdtime 240\n}`;
  const accept = ["allow from any", "allow to any"];
  return ["AS 65000", `router-id ${speaker}`, ...[feed, ...sinks].map(session), ...accept, ""].join("\n");
}
