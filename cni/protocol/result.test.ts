import { expect, test } from "vitest";
import { parseAddress } from "../../net/address.ts";
import { CniError, formatError } from "./error.ts";
import { addressesOf, checkIpVersions, formatResult, readPreviousResult, requirePreviousResult } from "./result.ts";
import { supportedVersions } from "./version.ts";

const attachment = {
  interfaces: [
    { name: "podlane0", mac: Uint8Array.of(2, 0, 0, 0, 0, 1), mtu: 1450 },
    { name: "pl1", mac: Uint8Array.of(2, 0, 0, 0, 0, 2), mtu: 1450 },
    { name: "eth0", mac: Uint8Array.of(2, 0, 0, 0, 0, 3), mtu: 1450, sandbox: "/run/netns/x" },
  ],
  ips: [{ address: parseAddress("10.0.0.2"), length: 24, gateway: parseAddress("10.0.0.1"), interface: 2 }],
  routes: [{ destination: { family: 4 as const, address: new Uint8Array(4), length: 0 }, gateway: parseAddress("10.0.0.1") }],
};

test.each(supportedVersions)("the form of version %s", version => {
  const old = version.startsWith("0.");
  const mtu = version === "1.1.0" ? { mtu: 1450 } : {};
  expect(formatResult(attachment, version, {})).toEqual({
    cniVersion: version,
    interfaces: [
      { name: "podlane0", mac: "02:00:00:00:00:01", ...mtu },
      { name: "pl1", mac: "02:00:00:00:00:02", ...mtu },
      { name: "eth0", mac: "02:00:00:00:00:03", ...mtu, sandbox: "/run/netns/x" },
    ],
    ips: [{ ...(old && { version: "4" }), interface: 2, address: "10.0.0.2/24", gateway: "10.0.0.1" }],
    routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1" }],
    dns: {},
  });
});

test("what earlier plugins reported comes first and unchanged, fields of the future included", () => {
  const previous = readPreviousResult({
    interfaces: [{ name: "other0", socketPath: "/s", pciID: "0000:00:1f.6", future: { a: 1 } }],
    ips: [{ address: "192.0.2.5/32", interface: 0 }],
    routes: [{ dst: "192.0.2.0/24", mtu: 1400, advmss: 1360, priority: 5, table: 100, scope: 253 }],
    dns: { nameservers: ["192.0.2.53"] },
  });
  const result = formatResult(attachment, "1.1.0", {}, previous) as {
    interfaces: object[];
    ips: { interface: number }[];
    routes: object[];
    dns: object;
  };
  expect(result.interfaces[0]).toEqual({ name: "other0", socketPath: "/s", pciID: "0000:00:1f.6", future: { a: 1 } });
  expect(result.ips.map(ip => ip.interface)).toEqual([0, 3]);
  expect(result.routes[0]).toEqual({ dst: "192.0.2.0/24", mtu: 1400, advmss: 1360, priority: 5, table: 100, scope: 253 });
  expect(result.dns).toEqual({ nameservers: ["192.0.2.53"] });
});

test.each([
  ["text", '"prevResult" must be an object'],
  [[], '"prevResult" must be an object'],
  [{ interfaces: {} }, '"prevResult.interfaces" must be a list'],
  [{ interfaces: [{}] }, '"prevResult.interfaces[0].name" must be a string'],
  [{ ips: [{ address: 5 }] }, '"prevResult.ips[0].address" must be a string'],
  [
    { interfaces: [{ name: "a" }], ips: [{ address: "10.0.0.1/8", interface: 1 }] },
    '"prevResult.ips[0].interface" must be an integer from 0 to 0',
  ],
  [{ routes: [{}] }, '"prevResult.routes[0].dst" must be a string'],
  [{ dns: "x" }, '"prevResult.dns" must be an object'],
])("a bad prevResult: %j", (value, text) => {
  expect(() => readPreviousResult(value)).toThrow(expect.objectContaining({ code: 7, message: expect.stringContaining(text) }));
});

test("CHECK without prevResult is refused", () => {
  expect(() => requirePreviousResult(undefined)).toThrow(expect.objectContaining({ code: 7 }));
});

test("a version field that contradicts the address is refused where the field exists", () => {
  const previous = readPreviousResult({ ips: [{ version: "4", address: "fd00::2/64" }] });
  expect(() => checkIpVersions(previous, "0.4.0")).toThrow(/prevResult.ips\[0\].version/);
  checkIpVersions(previous, "1.0.0");
});

test("the addresses of an interface are found in a chained result", () => {
  const previous = readPreviousResult({
    interfaces: [{ name: "eth0" }, { name: "eth0", sandbox: "/run/netns/x" }],
    ips: [{ address: "10.0.0.2/24", interface: 1 }, { address: "10.9.9.9/32" }],
  });
  expect(addressesOf(previous, "eth0")).toEqual(["10.0.0.2/24"]);
  expect(addressesOf(previous, "eth1")).toEqual([]);
});

test("an error has the specification's form; what is no CniError is an I/O error", () => {
  expect(formatError(new CniError(11, "later", "why"), "0.4.0")).toEqual({ cniVersion: "0.4.0", code: 11, msg: "later", details: "why" });
  expect(formatError(new Error("disk"), "1.0.0")).toEqual({ cniVersion: "1.0.0", code: 5, msg: "disk" });
});
