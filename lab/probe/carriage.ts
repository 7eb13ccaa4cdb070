/**
 * How packets travel between nodes: captured on the sender's node, while its pod sends echo requests as large as its MTU allows, which nobody may fragment.
 * tshark names the protocols of each frame and the addresses of every IP header in it.
 */
import { spawn } from "node:child_process";
import type { Lab } from "../engine/lab.ts";
import { inNamespace, run, runIn, until } from "../engine/system.ts";
import type { Carriage } from "../topology/schema.ts";

/** A frame with an echo request in it. */
export interface Frame {
  as: "plain" | "vxlan";
  /** Of each IP header, the outermost first. */
  ends: { source: string; destination: string }[];
}

export interface Carried {
  address: string;
  /** Octets of the IP packet. */
  size: number;
  frame: Frame;
}

const fields = ["frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "icmp.type", "icmpv6.type"];
const REQUESTS: readonly string[] = ["8", "128"];

/** Every address of the receivers once. Throws where one does not answer, or packets travel otherwise than wanted. */
export async function watchCarriage(lab: Lab, { from, to, as }: Carriage, within: number, abort?: AbortSignal): Promise<Carried[]> {
  const sender = lab.plan.pods.find(({ name }) => name === from);
  const [link] = lab.machine(sender?.node ?? "").interfaces;
  const mtu = await mtuOf(lab.namespace(from));
  const wanted = to.flatMap(name => lab.addressPairs(from, name).map(({ address }) => address));
  const capture = startCapture(lab.namespace(sender?.node ?? ""), link.interface);
  const found = new Map<string, Carried>();
  const missing = () => wanted.filter(address => !found.has(address));
  try {
    const all = async () => {
      const answered = await Promise.all(
        missing().map(async address => [address, await pingWhole(lab.namespace(from), address, mtu)] as const),
      );
      for (const frame of capture.frames()) {
        const address = frame.ends.at(-1)?.destination;
        const isAnswered = answered.some(([one, good]) => good && one === address);
        if (address !== undefined && isAnswered && frame.as === as) found.set(address, { address, size: mtu, frame });
      }
      return missing().length === 0;
    };
    if (await until(all, within * 1000, 200, abort)) return wanted.map(address => found.get(address)!);
    const seen = capture.frames().map(frame => `${frame.ends.at(-1)?.destination} ${frame.as}`);
    throw new Error(
      `after ${within} s no packets of ${mtu} octets of ${from} went ${as} to ${missing().join(", ")} and were answered; captured: ${[...new Set(seen)].join(", ") || "nothing"}${capture.error()}`,
    );
  } finally {
    capture.stop();
  }
}

export function describeCarried(carried: readonly Carried[]): string {
  return carried
    .map(({ address, size, frame }) => {
      const [outer] = frame.ends;
      const inside = frame.ends.length > 1 ? ` inside ${outer.source} to ${outer.destination}` : "";
      return `${size} octets to ${address}${inside}`;
    })
    .join("; ");
}

async function mtuOf(namespace: string): Promise<number> {
  return JSON.parse(await run("ip", ["-n", namespace, "-j", "link", "show", "dev", "eth0"]))[0].mtu as number;
}

/** Whether an echo of the whole MTU is answered. Headers: IP, and 8 octets of ICMP. */
async function pingWhole(namespace: string, address: string, mtu: number): Promise<boolean> {
  const payload = mtu - 8 - (address.includes(":") ? 40 : 20);
  const words = ["-n", "-c", "1", "-W", "1", "-M", "do", "-s", String(payload), address];
  return runIn(namespace, "ping", words).then(
    () => true,
    () => false,
  );
}

/** frames(): all so far. */
function startCapture(namespace: string, device: string) {
  const words = [
    "-n",
    "-l",
    "-i",
    device,
    "-f",
    "udp port 4789 or icmp or icmp6",
    "-T",
    "fields",
    ...fields.flatMap(field => ["-e", field]),
  ];
  const child = spawn(...inNamespace(namespace, "tshark", words), { stdio: ["ignore", "pipe", "pipe"] });
  const text = { out: "", error: "" };
  child.stdout.on("data", (chunk: Buffer) => {
    text.out += chunk.toString("latin1");
  });
  child.stderr.on("data", (chunk: Buffer) => {
    text.error += chunk.toString("latin1");
  });
  child.on("error", error => {
    text.error += error.message;
  });
  return {
    frames: () => readFrames(text.out),
    error: () => (child.exitCode === null && child.signalCode === null ? "" : `; tshark ended: ${text.error.trim().split("\n").at(-1)}`),
    stop: () => void child.kill("SIGTERM"),
  };
}

/** Whole lines of tshark's output. */
export function readFrames(text: string): Frame[] {
  return text
    .slice(0, text.lastIndexOf("\n") + 1)
    .split("\n")
    .flatMap(line => {
      const [protocols = "", ...values] = line.split("\t");
      const [source4, destination4, source6, destination6, ...types] = values.map(value => (value === "" ? [] : value.split(",")));
      if (!types.flat().some(type => REQUESTS.includes(type))) return [];
      const ends = protocols.split(":").flatMap(protocol => {
        const pair = protocol === "ip" ? [source4, destination4] : protocol === "ipv6" ? [source6, destination6] : [];
        const [source, destination] = pair.map(list => list.shift());
        return source !== undefined && destination !== undefined ? [{ source, destination }] : [];
      });
      return [{ as: protocols.split(":").includes("vxlan") ? ("vxlan" as const) : ("plain" as const), ends }];
    });
}
