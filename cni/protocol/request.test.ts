import { describe, expect, test } from "vitest";
import type { CniConfig } from "./config.ts";
import { CniError } from "./error.ts";
import { parseRequest, type RawRequest, versionOf } from "./request.ts";

const env = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "abc", CNI_NETNS: "/run/netns/x", CNI_IFNAME: "eth0", CNI_PATH: "/opt/cni/bin" };
const config = { cniVersion: "1.1.0", name: "pods", type: "podlane" };

function request(overEnv: Record<string, string | undefined> = {}, overConfig: object = {}): RawRequest {
  return { env: { ...env, ...overEnv }, stdin: JSON.stringify({ ...config, ...overConfig }) };
}

function failure(raw: RawRequest): CniError {
  try {
    parseRequest(raw);
  } catch (error) {
    if (error instanceof CniError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("the environment (code 4 names the variables)", () => {
  test.each([
    [{ CNI_COMMAND: undefined }, "CNI_COMMAND is missing"],
    [{ CNI_COMMAND: "add" }, 'CNI_COMMAND "add" is not one of ADD, DEL'],
    [{ CNI_CONTAINERID: undefined }, "CNI_CONTAINERID is missing"],
    [{ CNI_CONTAINERID: "", CNI_IFNAME: "" }, "CNI_CONTAINERID, CNI_IFNAME are missing"],
    [{ CNI_CONTAINERID: "../../etc" }, 'CNI_CONTAINERID "../../etc" is not'],
    [{ CNI_CONTAINERID: "-a" }, "CNI_CONTAINERID"],
    [{ CNI_CONTAINERID: "a".repeat(256) }, "CNI_CONTAINERID"],
    [{ CNI_IFNAME: "a".repeat(16) }, "longer than 15 octets"],
    [{ CNI_IFNAME: "é".repeat(8) }, "longer than 15 octets"],
    [{ CNI_IFNAME: "." }, 'CNI_IFNAME "."'],
    [{ CNI_IFNAME: ".." }, 'CNI_IFNAME ".."'],
    [{ CNI_IFNAME: "a/b" }, "CNI_IFNAME"],
    [{ CNI_IFNAME: "a:b" }, "CNI_IFNAME"],
    [{ CNI_IFNAME: "a b" }, "CNI_IFNAME"],
    [{ CNI_IFNAME: "eth%d" }, 'CNI_IFNAME "eth%d"'],
    [{ CNI_NETNS: "" }, "CNI_NETNS is missing"],
    [{ CNI_NETNS: "run/netns/x" }, "CNI_NETNS"],
    [{ CNI_ARGS: "nonsense" }, 'CNI_ARGS has "nonsense", which is not KEY=VALUE'],
    [{ CNI_ARGS: "=x" }, "CNI_ARGS"],
    [{ CNI_ARGS: "FOO=1;BAR=2" }, "CNI_ARGS has unknown keys FOO, BAR"],
    [{ CNI_ARGS: "IgnoreUnknown=maybe" }, "IgnoreUnknown=maybe"],
    [{ CNI_ARGS: "IP=10.0.0.256" }, '"10.0.0.256" is not an IPv4 or IPv6 address'],
    [{ CNI_ARGS: "MAC=01:00:5e:00:00:01" }, "not a unicast hardware address"],
    [{ CNI_ARGS: `IgnoreUnknown=1;${Array.from({ length: 70 }, (_, i) => `K${i}=1`).join(";")}` }, "at most 64"],
  ])("%j", (over, text) => {
    const error = failure(request(over));
    expect(error.code).toBe(4);
    expect(error.message).toContain(text);
  });

  test("Kubernetes' CNI_ARGS are understood", () => {
    const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=u-1;X=y";
    expect(parseRequest(request({ CNI_ARGS: args }))).toMatchObject({ pod: { namespace: "default", name: "web-0", uid: "u-1" } });
  });

  test("an id may be as long as a file's name", () => {
    const containerId = "a".repeat(255);
    expect(parseRequest(request({ CNI_CONTAINERID: containerId }))).toMatchObject({ target: { containerId } });
  });

  test("DEL needs no namespace, whatever stands there", () => {
    for (const netns of [undefined, "", "not-a-path", "/gone"]) {
      const parsed = parseRequest(request({ CNI_COMMAND: "DEL", CNI_NETNS: netns, CNI_ARGS: "rubbish" }));
      expect(parsed).toMatchObject({ command: "DEL", target: { containerId: "abc", ifname: "eth0" } });
    }
  });

  test("STATUS and GC need no container", () => {
    for (const command of ["STATUS", "GC"]) {
      expect(parseRequest({ env: { CNI_COMMAND: command }, stdin: JSON.stringify(config) })).toMatchObject({ command });
    }
  });
});

describe("the configuration", () => {
  test.each([
    ["", 6, "no network configuration"],
    ["{", 6, "not JSON"],
    ["[]", 6, "not a JSON object"],
    ["null", 6, "not a JSON object"],
    [" ".repeat((1 << 20) + 1), 6, "longer than"],
    [JSON.stringify({ name: "x" }), 1, "has no cniVersion"],
    [JSON.stringify({ ...config, cniVersion: "0.2.0" }), 1, '"0.2.0": not supported'],
    [JSON.stringify({ ...config, cniVersion: "9.0.0" }), 1, '"9.0.0": not supported'],
    [JSON.stringify({ ...config, cniVersion: 1 }), 1, "not supported"],
  ])("%.60s -> %d", (stdin, code, text) => {
    const error = failure({ env, stdin });
    expect(error.code).toBe(code);
    expect(error.message).toContain(text);
  });

  test.each([
    [{ name: undefined }, 7, '"name" must be'],
    [{ name: "-x" }, 7, '"name" must be'],
    [{ name: "a/b" }, 7, '"name" must be'],
    [{ dns: [] }, 7, '"dns" must be an object'],
    [{ dns: { nameservers: "10.0.0.10" } }, 7, '"dns.nameservers" must be a list'],
    [{ dns: { domain: 5 } }, 7, '"dns.domain" must be a string'],
    [{ runtimeConfig: { dns: { servers: [1] } } }, 7, '"runtimeConfig.dns.servers[0]" must be a string'],
    [{ runtimeConfig: 5 }, 7, '"runtimeConfig" must be an object'],
    [{ runtimeConfig: { ips: "10.0.0.1" } }, 7, '"runtimeConfig.ips" must be a list'],
    [{ runtimeConfig: { ips: [1] } }, 7, '"runtimeConfig.ips[0]" must be a string'],
    [{ runtimeConfig: { ips: ["10.0.0.1/33"] } }, 7, "runtimeConfig.ips[0]"],
    [{ runtimeConfig: { mac: "02:00" } }, 7, "runtimeConfig.mac"],
    [{ runtimeConfig: { mac: "00:00:00:00:00:00" } }, 7, "runtimeConfig.mac"],
    [{ args: { cni: { ips: ["x"] } } }, 7, "args.cni.ips[0]"],
    [{ ipam: { type: "host-local" } }, 2, 'does not support "ipam": {"type":"host-local"}'],
    [{ bridge: "cni0" }, 2, 'does not support "bridge": "cni0"'],
    [{ ipMasq: true }, 2, 'does not support "ipMasq": true'],
    [{ runtimeConfig: { bandwidth: [] } }, 7, '"runtimeConfig.bandwidth" must be an object'],
    [{ runtimeConfig: { bandwidth: { ingressRate: "1M" } } }, 7, '"runtimeConfig.bandwidth.ingressRate" must be'],
    [{ runtimeConfig: { bandwidth: { egressRate: -1 } } }, 7, '"runtimeConfig.bandwidth.egressRate" must be'],
    [{ runtimeConfig: { bandwidth: { egressRate: 999 } } }, 7, "0 or at least 1000 bits in a second"],
    [{ runtimeConfig: { bandwidth: { ingressRate: 1e6, ingressBurst: 0.5 } } }, 7, '"runtimeConfig.bandwidth.ingressBurst" must be'],
    [{ runtimeConfig: { portMappings: {} } }, 7, "runtimeConfig.portMappings"],
    [{ runtimeConfig: { portMappings: [{ hostPort: 70000, containerPort: 80 }] } }, 7, "runtimeConfig.portMappings[0].hostPort"],
    [{ runtimeConfig: { portMappings: [{ hostPort: 80 }] } }, 7, "runtimeConfig.portMappings[0].containerPort"],
    [{ runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, protocol: "icmp" }] } }, 7, "portMappings[0].protocol"],
    [{ runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 80, hostIP: "x" }] } }, 7, "portMappings[0].hostIP"],
    [{ "cni.dev/valid-attachments": {} }, 7, "cni.dev/valid-attachments"],
    [{ "cni.dev/valid-attachments": [{ containerID: 1, ifname: "eth0" }] }, 7, "cni.dev/valid-attachments[0].containerID"],
  ])("%j -> %d", (over, code, text) => {
    const error = failure(request({}, over));
    expect(error.code).toBe(code);
    expect(error.message).toContain(text);
    expect(error.message.length).toBeLessThan(300);
  });

  test("a bandwidth of 0 is no limit, and each direction is for itself", () => {
    const read = (bandwidth: object) =>
      (parseRequest(request({}, { runtimeConfig: { bandwidth } })) as { config: CniConfig }).config.bandwidth;
    expect([read({}), read({ ingressRate: 0, egressBurst: 5 })]).toEqual([undefined, undefined]);
    expect(read({ ingressRate: 1e9, ingressBurst: 2 ** 32 - 1, egressRate: 5000 })).toEqual({
      ingress: { rate: 1e9, burst: 2 ** 32 - 1 },
      egress: { rate: 5000, burst: 0 },
    });
  });

  test("ports of the node are read, and those that name none are left out", () => {
    const portMappings = [
      { hostPort: 8080, containerPort: 80, protocol: "TCP", hostIP: "2001:DB8::1" },
      { hostPort: 53, containerPort: 5353, protocol: "udp", hostIP: "" },
      { hostPort: 0, containerPort: 80 },
    ];
    const { config } = parseRequest(request({}, { runtimeConfig: { portMappings } })) as { config: CniConfig };
    expect(config.ports).toEqual([
      { protocol: "tcp", hostPort: 8080, containerPort: 80, hostIP: "2001:db8::1" },
      { protocol: "udp", hostPort: 53, containerPort: 5353 },
    ]);
  });

  test("empty values that Go writes for absent fields are no fault", () => {
    expect(parseRequest(request({}, { ipam: {}, bridge: "", mtu: 0, hairpinMode: false, prevResult: null }))).toMatchObject({
      command: "ADD",
    });
  });

  test("DEL is not hindered by what ADD would refuse", () => {
    const stdin = { prevResult: "corrupt", ipam: { type: "x" }, runtimeConfig: 5, dns: [] };
    expect(parseRequest(request({ CNI_COMMAND: "DEL" }, stdin))).toMatchObject({ command: "DEL", config: { name: "pods" } });
  });

  test.each([
    ["CHECK", "0.3.1", 1],
    ["CHECK", "0.4.0", undefined],
    ["GC", "1.0.0", 1],
    ["STATUS", "1.0.0", 1],
    ["STATUS", "1.1.0", undefined],
    ["ADD", "0.3.0", undefined],
  ])("%s in version %s", (command, cniVersion, code) => {
    const raw = request({ CNI_COMMAND: command }, { cniVersion });
    if (code === undefined) expect(parseRequest(raw)).toMatchObject({ command });
    else expect(failure(raw)).toMatchObject({ code, message: expect.stringContaining(`${command} needs cniVersion`) });
  });

  test("what was asked for is gathered from every source, each address once", () => {
    const sources = {
      runtimeConfig: { ips: ["10.0.0.5/24", "fd00::5"], mac: "02:00:00:00:00:01" },
      args: { cni: { ips: ["10.0.0.5"] } },
    };
    const parsed = parseRequest(request({ CNI_ARGS: "IP=10.0.0.5" }, sources));
    expect(parsed).toMatchObject({ config: { ips: [Uint8Array.of(10, 0, 0, 5), { length: 16 }], mac: Uint8Array.of(2, 0, 0, 0, 0, 1) } });
    expect(parseRequest(request({ CNI_ARGS: "IP=10.0.0.5" }))).toMatchObject({ config: { ips: [Uint8Array.of(10, 0, 0, 5)] } });
  });

  test.each([
    { runtimeConfig: { ips: ["10.0.0.5"], mac: "02:00:00:00:00:01" } },
    { args: { cni: { ips: ["10.0.0.5"], mac: "02:00:00:00:00:01" } } },
  ])("CNI_ARGS gives way to the same thing in the configuration: %j", over => {
    const parsed = parseRequest(request({ CNI_ARGS: "IP=10.0.0.6,fd00::6;MAC=02:00:00:00:00:02" }, over));
    expect(parsed).toMatchObject({ config: { ips: [Uint8Array.of(10, 0, 0, 5)], mac: Uint8Array.of(2, 0, 0, 0, 0, 1) } });
    expect(parsed.command === "ADD" && parsed.config.ips).toHaveLength(1);
  });

  test.each([
    [
      { dns: { nameservers: ["10.0.0.10"], domain: "a", search: ["b"], options: ["c"], other: 1 } },
      { nameservers: ["10.0.0.10"], domain: "a", search: ["b"], options: ["c"] },
    ],
    // The capability has other names than the result (CNI CONVENTIONS "dns").
    [
      { dns: { domain: "a" }, runtimeConfig: { dns: { servers: ["10.0.0.10"], searches: ["b"], options: ["c"] } } },
      { nameservers: ["10.0.0.10"], search: ["b"], options: ["c"] },
    ],
    [{ dns: { domain: "a", search: null }, runtimeConfig: { dns: {} } }, { domain: "a" }],
  ])("name servers %j", (over, dns) => {
    const parsed = parseRequest(request({}, over));
    expect(parsed.command === "ADD" && parsed.config.dns).toEqual(dns);
  });

  test.each([
    [{}, undefined],
    [{ "cni.dev/valid-attachments": null }, undefined],
    [{ "cni.dev/valid-attachments": [] }, []],
    [{ "cni.dev/attachments": [] }, []],
    [
      { "cni.dev/valid-attachments": [{ containerID: "a", ifname: "eth0" }], "cni.dev/attachments": [] },
      [{ containerId: "a", ifname: "eth0" }],
    ],
  ])("valid attachments %j", (over, expected) => {
    const parsed = parseRequest(request({ CNI_COMMAND: "GC" }, over));
    expect(parsed.command === "GC" && parsed.config.validAttachments).toEqual(expected);
  });
});

test("the version of an answer is that of the question, also when that is not spoken", () => {
  expect(versionOf('{"cniVersion":"0.4.0"}')).toBe("0.4.0");
  expect(versionOf('{"cniVersion":"9.9.9"}')).toBe("9.9.9");
  expect(versionOf("{")).toBe("1.1.0");
  expect(versionOf(JSON.stringify({ cniVersion: "x".repeat(100) }))).toBe("1.1.0");
});
