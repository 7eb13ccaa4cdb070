/**
 * Traffic between pods of two nodes behind a router: plain routes that the router knows, podlane's tunnels, and tunnels made by ip(8) and bridge(8) the way
 * flannel does. One TCP stream in each family, the ways taking turns: throughput, and CPU of both ends for each gigabyte.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { openKernel } from "../kernel/index.ts";
import { parseAddress, parsePrefix } from "../net/address.ts";
import { Overlay } from "../overlay/overlay.ts";
import { systemClock } from "../platform/clock.ts";
import { count, describeMachine, machine, median, needRoot, printTable, program, round, UsageError, type Values } from "./common.ts";
import { compile, programPath } from "./compile.ts";

const USAGE = `usage: npm run bench -- overlay [--rounds N] [--milliseconds N] [--offload on|off] [--json]

  --rounds         streams of each way and family, 1..100; default 7
  --milliseconds   of one stream, 50..60000; default 1500
  --offload        whether tunnels leave checksums to the device below; default on
  --json           one JSON object instead of a table

Needs root (it makes network namespaces) and a C compiler.`;

type Way = "plain routes" | "podlane" | "ip and bridge";
const ways: readonly Way[] = ["plain routes", "podlane", "ip and bridge"];
const PORT = "5201";
const VXLAN = { vni: 20179, port: 4789 };

interface Figures {
  way: Way;
  family: 4 | 6;
  mtu: number;
  /** Gigabits a second, median, least and most. */
  throughput: number;
  range: [number, number];
  /** Seconds of both ends' CPU for each gigabyte. */
  cpu: number;
}

/** Of each end: its pod, its node, and the other's. */
const ends = [1, 2].map(n => ({
  node: `10.0.${n}.2`,
  router: `10.0.${n}.1`,
  pods: { 4: `10.244.${n}.0/24`, 6: `fd00:10:244:${n}::/64` },
  gateway: { 4: `10.244.${n}.1`, 6: `fd00:10:244:${n}::1` },
  pod: { 4: `10.244.${n}.9`, 6: `fd00:10:244:${n}::9` },
}));
const families = [4, 6] as const;

/** pod1 - node1 - router - node2 - pod2. */
class Bench implements Disposable {
  readonly #prefix = `plo-${process.pid}`;
  readonly #names = ["pod1", "node1", "router", "node2", "pod2"];
  #undo: () => void = () => {};

  constructor() {
    for (const name of this.#names) execFileSync("ip", ["netns", "add", this.name(name)]);
    for (const [a, b] of [
      ["pod1", "node1"],
      ["node1", "router"],
      ["router", "node2"],
      ["node2", "pod2"],
    ])
      this.ip(`link add to-${b} netns ${this.name(a)} type veth peer name to-${a} netns ${this.name(b)}`);
    for (const [index, { node, router, gateway, pod }] of ends.entries()) {
      const n = index + 1;
      this.at(`node${n}`, `addr add ${node}/24 dev to-router`, `addr add ${gateway[4]}/24 dev to-pod${n}`);
      this.at(`node${n}`, `addr add ${gateway[6]}/64 dev to-pod${n} nodad`, "link set to-router up", `link set to-pod${n} up`);
      this.at(
        "router",
        `addr add ${router}/24 dev to-node${n}`,
        `addr add fd00:${n}::1/64 dev to-node${n} nodad`,
        `link set to-node${n} up`,
      );
      this.at(
        `node${n}`,
        `route add default via ${router}`,
        `addr add fd00:${n}::2/64 dev to-router nodad`,
        `-6 route add default via fd00:${n}::1`,
      );
      this.at(`pod${n}`, `addr add ${pod[4]}/24 dev to-node${n}`, `addr add ${pod[6]}/64 dev to-node${n} nodad`, `link set to-node${n} up`);
      this.at(`pod${n}`, `route add default via ${gateway[4]}`, `-6 route add default via ${gateway[6]}`);
    }
    for (const name of ["node1", "router", "node2"])
      for (const key of ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"])
        execFileSync("ip", ["netns", "exec", this.name(name), "sysctl", "-qw", `${key}=1`]);
  }

  name(machine: string): string {
    return `${this.#prefix}-${machine}`;
  }

  ip(words: string): void {
    execFileSync("ip", words.split(" "), { stdio: ["ignore", "ignore", "inherit"] });
  }

  at(machine: string, ...commands: string[]): void {
    for (const words of commands) this.ip(`-n ${this.name(machine)} ${words}`);
  }

  /** What pods may send; the way before is taken away. */
  use(way: Way, offload: boolean): number {
    this.#undo();
    for (const n of [1, 2]) this.at(`node${n}`, "route flush proto 201", "-6 route flush proto 201");
    this.#undo = {
      "plain routes": () => this.#plain(),
      podlane: () => this.#tunnels(offload),
      "ip and bridge": () => this.#byCommands(offload),
    }[way]();
    const mtu = way === "plain routes" ? 1500 : 1450;
    for (const n of [1, 2]) this.at(`pod${n}`, `link set to-node${n} mtu ${mtu}`);
    return mtu;
  }

  #plain(): () => void {
    for (const [index, { pods, node }] of ends.entries()) {
      this.at("router", `route replace ${pods[4]} via ${node}`, `-6 route replace ${pods[6]} via fd00:${index + 1}::2`);
    }
    return () => {
      for (const { pods } of ends) this.at("router", `route del ${pods[4]}`, `-6 route del ${pods[6]}`);
    };
  }

  #tunnels(offload: boolean): () => void {
    const parts = ends.map((own, index) => {
      const other = ends[1 - index];
      const kernel = openKernel({ netns: `/run/netns/${this.name(`node${index + 1}`)}` });
      const overlay = new Overlay({ kernel, clock: systemClock, log: { info() {}, warn() {} } });
      const sources = Object.values(own.gateway);
      const nodes = [{ name: "other", addresses: [other.node], aliases: [other.gateway[6]] }];
      overlay.apply({ mode: "Always", ...VXLAN, checksumOffload: offload ? "On" : "Off", local: [own.node], sources, nodes });
      for (const family of families) {
        const hop = overlay.around(parseAddress(family === 4 ? other.node : other.gateway[6]), false);
        if (!hop) throw new Error(overlay.problems()[0]?.message ?? "there is no tunnel");
        const { address: destination, length } = parsePrefix(other.pods[family]);
        kernel.netlink.replaceRoute({ family, destination, length, protocol: 201, nextHops: [hop] });
      }
      return { kernel, overlay };
    });
    return () => {
      for (const { kernel, overlay } of parts) {
        overlay.close();
        kernel.netlink.deleteLink(kernel.netlink.link("podlane.vx4")!.index);
        kernel.close();
      }
    };
  }

  /** A device with the first address of the range, a neighbour, a forwarding entry and a route for each other node. */
  #byCommands(offload: boolean): () => void {
    const macs = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
    for (const [index, own] of ends.entries()) {
      const [n, other, mac] = [index + 1, ends[1 - index], macs[1 - index]];
      const [net4, net6] = families.map(family => other.pods[family].split("/")[0]);
      this.at(
        `node${n}`,
        `link add flannel.1 address ${macs[index]} type vxlan id ${VXLAN.vni} dstport ${VXLAN.port} local ${own.node} nolearning`,
      );
      const kernel = openKernel({ netns: `/run/netns/${this.name(`node${n}`)}` });
      kernel.netlink.setChecksumOffload("flannel.1", offload);
      kernel.close();
      const addresses = families.map(family => own.pods[family].split("/")[0]);
      this.at(
        `node${n}`,
        "link set flannel.1 mtu 1450 up",
        `addr add ${addresses[0]}/32 dev flannel.1`,
        `addr add ${addresses[1]}/128 dev flannel.1 nodad`,
      );
      this.at(
        `node${n}`,
        `neigh replace ${net4} lladdr ${mac} dev flannel.1 nud permanent`,
        `-6 neigh replace ${net6} lladdr ${mac} dev flannel.1 nud permanent`,
      );
      execFileSync("bridge", ["-n", this.name(`node${n}`), "fdb", "append", mac, "dev", "flannel.1", "dst", other.node]);
      this.at(
        `node${n}`,
        `route replace ${other.pods[4]} via ${net4} dev flannel.1 onlink`,
        `-6 route replace ${other.pods[6]} via ${net6} dev flannel.1 onlink`,
      );
    }
    return () => {
      for (const n of [1, 2]) this.at(`node${n}`, "link del flannel.1");
    };
  }

  /** From pod1 to pod2. */
  async stream(family: 4 | 6, milliseconds: number): Promise<{ octets: number; seconds: number; cpu: number }> {
    const address = ends[1].pod[family];
    const start = (machine: string, ...words: string[]) =>
      spawn("ip", ["netns", "exec", this.name(machine), programPath("stream"), ...words], { stdio: ["ignore", "pipe", "inherit"] });
    const taker = start("pod2", "take", address, PORT);
    const lines = createInterface(taker.stdout)[Symbol.asyncIterator]();
    await lines.next();
    const sender = start("pod1", "send", address, PORT, String(milliseconds / 1000));
    let text = "";
    sender.stdout.on("data", chunk => {
      text += chunk;
    });
    const [status] = await once(sender, "close");
    const last = (await lines.next()).value;
    if (status !== 0 || last === undefined) throw new Error(`the stream to ${address} failed`);
    const [sent, taken] = [JSON.parse(text), JSON.parse(last)];
    return { octets: taken.octets, seconds: taken.seconds, cpu: sent.cpu + taken.cpu };
  }

  [Symbol.dispose](): void {
    this.#undo();
    for (const name of this.#names) execFileSync("ip", ["netns", "delete", this.name(name)]);
  }
}

async function run(values: Values): Promise<void> {
  needRoot();
  const rounds = count(values, "rounds", 7, 100);
  const milliseconds = count(values, "milliseconds", 1500, 60_000, 50);
  const offload = values.offload ?? "on";
  if (offload !== "on" && offload !== "off") throw new UsageError(`--offload ${offload}: on or off is wanted`);
  compile("stream");
  const facts = machine();
  const found = new Map<string, { way: Way; family: 4 | 6; mtu: number; gigabits: number[]; cpu: number[] }>();
  using bench = new Bench();
  for (let n = 0; n < rounds; n++) {
    for (const way of ways) {
      const mtu = bench.use(way, offload === "on");
      for (const family of families) {
        const { octets, seconds, cpu } = await bench.stream(family, milliseconds);
        const one = found.get(`${way} ${family}`) ?? { way, family, mtu, gigabits: [], cpu: [] };
        found.set(`${way} ${family}`, one);
        one.gigabits.push((octets * 8) / seconds / 1e9);
        one.cpu.push(cpu / (octets / 1e9));
      }
    }
  }
  const figures = [...found.values()].map(
    ({ way, family, mtu, gigabits, cpu }): Figures => ({
      way,
      family,
      mtu,
      throughput: round(median(gigabits), 2),
      range: [round(Math.min(...gigabits), 2), round(Math.max(...gigabits), 2)],
      cpu: round(median(cpu), 3),
    }),
  );
  if (values.json) {
    console.log(JSON.stringify({ machine: facts, rounds, milliseconds, offload, figures }));
    return;
  }
  console.log(`${describeMachine(facts)}\nmedians of ${rounds} streams of ${milliseconds} ms, checksum offload ${offload}\n`);
  printTable(
    ["way", "family", "MTU", "Gbit/s", "(least–most)", "CPU s/GB"],
    figures.map(one => [one.way, `IPv${one.family}`, String(one.mtu), String(one.throughput), one.range.join("–"), String(one.cpu)]),
    2,
  );
}

const options = { rounds: { type: "string" }, milliseconds: { type: "string" }, offload: { type: "string" } } as const;
if (import.meta.main) await program("overlay", USAGE, options, run);
