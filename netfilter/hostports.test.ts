/** Ports of the node with real connections: from outside, from the node itself, from the pod itself; by address; and who must not come through. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { expect, it, onTestFinished } from "vitest";
import { describeKernel, type TestNetns, testNetns } from "../kernel/testnetns.ts";
import { hostPortChanges, type PublishedPod } from "./hostports.ts";
import { transaction } from "./json.ts";
import { nft } from "./nft.ts";

/** Answers each connection with the address that it comes from. */
const SERVER = `require("net").createServer(socket => socket.on("error", () => {}).end(socket.remoteAddress + "\\n"))
  .listen(Number(process.argv[1]), process.argv[2], () => console.log("ready"))`;

function serve({ path }: TestNetns, port: number, address = "::"): Promise<void> {
  const child: ChildProcess = spawn("nsenter", [`--net=${path}`, process.execPath, "-e", SERVER, String(port), address]);
  onTestFinished(() => void child.kill("SIGKILL"));
  return new Promise((resolve, reject) => {
    child.stdout!.once("data", () => resolve());
    child.once("exit", code => reject(new Error(`the server ended with ${code}`)));
  });
}

/** What the server says; "" where nobody answers. */
function ask({ path }: TestNetns, address: string, port: number): string {
  const script = `exec 3<>/dev/tcp/${address}/${port} && head -1 <&3`;
  return spawnSync("nsenter", [`--net=${path}`, "timeout", "2", "bash", "-c", script], { encoding: "utf8" }).stdout.trim();
}

describeKernel("ports of the node", () => {
  it("lead to the pod from outside, from the node and from the pod itself, in both families", async () => {
    const [node, pod, outside] = [testNetns(), testNetns(), testNetns()];
    // Neighbours are not asked for from an address that is still being tried.
    for (const { run } of [node, pod, outside])
      run("sysctl", ["-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"]);
    for (const [name, other] of [
      ["pla", pod],
      ["up0", outside],
    ] as const) {
      node.ip(`link add ${name} type veth peer name eth0 netns ${other.name}`);
      node.ip(`link set ${name} up`);
      other.ip("link set eth0 up");
    }
    node.run("sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.pla.route_localnet=1"]);
    for (const [netns, device, addresses] of [
      [node, "pla", ["10.0.0.1/24", "fd00::1/64"]],
      [node, "up0", ["192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"]],
      [pod, "eth0", ["10.0.0.10/24", "fd00::10/64"]],
      [outside, "eth0", ["192.0.2.9/24", "2001:db8::9/64"]],
    ] as const) {
      for (const address of addresses) netns.ip(`addr add ${address} dev ${device}${address.includes(":") ? " nodad" : ""}`);
    }
    pod.ip("route add default via 10.0.0.1");
    pod.ip("-6 route add default via fd00::1");
    await Promise.all([serve(pod, 80), serve(pod, 81), serve(node, 9000, "127.0.0.1")]);
    const published: PublishedPod = {
      addresses: ["10.0.0.10", "fd00::10"],
      link: "pla",
      ports: [
        { protocol: "tcp", hostPort: 8080, containerPort: 80 },
        { protocol: "tcp", hostPort: 8081, containerPort: 81, hostIP: "192.0.2.2" },
      ],
    };
    const differences = hostPortChanges([published], { services: ["10.96.0.0/16", "fd96::/112"] }).map(({ object }) => ({
      before: undefined,
      after: object,
    }));
    const run = nft(["ip", "netns", "exec", node.name, "nft"]);
    expect(ask(outside, "192.0.2.1", 8080)).toBe("");
    await run(transaction(differences));
    expect(ask(outside, "192.0.2.1", 8080)).toBe("::ffff:192.0.2.9");
    expect(ask(outside, "2001:db8::1", 8080)).toBe("2001:db8::9");
    expect(ask(node, "192.0.2.1", 8080)).not.toBe("");
    expect(ask(node, "2001:db8::1", 8080)).not.toBe("");
    expect(ask(node, "127.0.0.1", 8080)).toBe("::ffff:10.0.0.1");
    // The pod to itself by the node.
    expect(ask(pod, "192.0.2.1", 8080)).toBe("::ffff:10.0.0.1");
    expect(ask(pod, "2001:db8::1", 8080)).toBe("fd00::1");
    // A Service's port, at an address that kube-proxy has put on the node (IPVS).
    node.ip("addr add 10.96.0.1/32 dev lo");
    await serve(node, 8080, "10.96.0.1");
    expect(ask(node, "10.96.0.1", 8080)).toBe("10.96.0.1");
    // Of one address alone.
    expect(ask(outside, "192.0.2.2", 8081)).toBe("::ffff:192.0.2.9");
    expect(ask(outside, "192.0.2.1", 8081)).toBe("");
    // The port of somebody else, by way of the node.
    expect(ask(outside, "10.0.0.10", 80)).toBe("");
    // A pod does not reach what listens on the node's loopback address.
    pod.ip("addr flush dev lo");
    pod.ip("route add 127.0.0.1/32 via 10.0.0.1 table 100");
    pod.ip("rule add to 127.0.0.1 lookup 100 priority 0");
    pod.run("sysctl", ["-qw", "net.ipv4.conf.all.route_localnet=1"]);
    expect(ask(pod, "127.0.0.1", 9000)).toBe("");
    node.run("nft", ["flush", "chain", "inet", "podlane", "port-guard"]);
    expect(ask(pod, "127.0.0.1", 9000)).not.toBe("");
    await run(transaction(differences.map(({ after }) => ({ before: after, after: undefined }))));
    expect(ask(outside, "192.0.2.1", 8080)).toBe("");
  });
});
