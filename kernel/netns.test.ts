import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { expect, onTestFinished, test } from "vitest";
import { isNetns, netnsInode, OWN_NETNS, openNetns, withNetns } from "./netns.ts";
import { openRtnetlink } from "./rtnetlink.ts";
import { readSysctl, writeSysctl } from "./sysctl.ts";
import { describeKernel, testNetns } from "./testnetns.ts";

describeKernel("network namespaces", () => {
  test("withNetns runs there and comes back", () => {
    const { path } = testNetns();
    const home = netnsInode(OWN_NETNS);
    const there = withNetns(path, () => netnsInode(OWN_NETNS));
    expect(there).toBe(netnsInode(path));
    expect(there).not.toBe(home);
    expect(netnsInode(OWN_NETNS)).toBe(home);
  });

  test("withNetns comes back when the function throws, and passes the error on", () => {
    const { path } = testNetns();
    const home = netnsInode(OWN_NETNS);
    expect(() =>
      withNetns(path, () => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(netnsInode(OWN_NETNS)).toBe(home);
  });

  test("stays can be nested", () => {
    const outer = testNetns();
    const inner = testNetns();
    const seen = withNetns(outer.path, () => [withNetns(inner.path, () => netnsInode(OWN_NETNS)), netnsInode(OWN_NETNS)]);
    expect(seen).toEqual([netnsInode(inner.path), netnsInode(outer.path)]);
  });

  test("a promise is refused, also a rejecting one", () => {
    const { path } = testNetns();
    expect(() => withNetns(path, () => Promise.reject(new Error("late")))).toThrow("must be synchronous");
  });

  test("gone and not-a-namespace are told apart", () => {
    const { path } = testNetns();
    const directory = mkdtempSync(join(tmpdir(), "podlane-netns-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const plain = join(directory, "file");
    writeFileSync(plain, "");
    expect([isNetns(path), isNetns(plain), isNetns(join(directory, "absent"))]).toEqual([true, false, false]);
    expect(() => openNetns(join(directory, "absent"))).toThrow(expect.objectContaining({ code: "ENOENT" }));
    expect(() => openNetns(plain)).toThrow(expect.objectContaining({ code: "EINVAL", message: `${plain} is not a network namespace` }));
    expect(() => openRtnetlink({ netns: join(directory, "absent") })).toThrow(expect.objectContaining({ code: "ENOENT" }));
  });

  test("a socket stays in its namespace after the path is gone", () => {
    const name = `pl-${process.pid}-gone`;
    execFileSync("ip", ["netns", "add", name]);
    const netlink = openRtnetlink({ netns: `/run/netns/${name}` });
    onTestFinished(() => netlink.close());
    execFileSync("ip", ["netns", "delete", name]);
    expect(netlink.links().map(link => link.name)).toEqual(["lo"]);
    expect([...netlink.routes()].flat()).toEqual([]);
  });

  test("a worker thread returns to its own namespace, whatever the main thread does", async () => {
    const { path } = testNetns();
    const home = netnsInode(OWN_NETNS);
    const source = `
      const { parentPort, workerData } = require("node:worker_threads");
      import(workerData.module).then(({ withNetns, netnsInode, OWN_NETNS }) => {
        const there = withNetns(workerData.path, () => netnsInode(OWN_NETNS));
        parentPort.postMessage([there, netnsInode(OWN_NETNS)]);
      });`;
    const module = new URL("./netns.ts", import.meta.url).href;
    const worker = new Worker(source, { eval: true, workerData: { path, module } });
    onTestFinished(async () => {
      await worker.terminate();
    });
    const answer = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    expect(answer).toEqual([netnsInode(path), home]);
  });
});

describeKernel("sysctl", () => {
  test("belongs to the namespace the thread is in", () => {
    const { path } = testNetns();
    const home = readSysctl("net.ipv4.ip_default_ttl");
    withNetns(path, () => writeSysctl("net.ipv4.ip_default_ttl", "77"));
    expect(withNetns(path, () => readSysctl("net.ipv4.ip_default_ttl"))).toBe("77");
    expect(readSysctl("net.ipv4.ip_default_ttl")).toBe(home);
  });

  test("reaches a link with a dot in its name", () => {
    const { path, netlink, run } = testNetns();
    netlink.addLink({ kind: "veth", name: "a.100", peer: { name: "b.100" } });
    withNetns(path, () => writeSysctl(["net", "ipv4", "conf", "a.100", "rp_filter"], "2"));
    expect(run("cat", ["/proc/sys/net/ipv4/conf/a.100/rp_filter"]).trim()).toBe("2");
  });

  test("names the parameter that is missing, and never leaves /proc/sys/net", () => {
    expect(() => readSysctl(["net", "ipv4", "conf", "nolink0", "rp_filter"])).toThrow(
      expect.objectContaining({ code: "ENOENT", message: expect.stringContaining("net.ipv4.conf.nolink0.rp_filter") }),
    );
    for (const name of [["net", "..", "kernel", "hostname"], ["net", "ipv4/../../kernel", "x"], ["net", ""], ["net"]]) {
      expect(() => readSysctl(name)).toThrow("is not a kernel parameter");
    }
    expect(() => readSysctl("kernel.hostname")).toThrow("is not a kernel parameter");
    expect(() => writeSysctl("net.ipv4.ip_forward", "1\n0")).toThrow("line break");
  });

  test("the kernel's refusal is passed on", () => {
    const { path } = testNetns();
    expect(() => withNetns(path, () => writeSysctl("net.ipv4.ip_default_ttl", "999"))).toThrow(
      expect.objectContaining({ code: "EINVAL", message: expect.stringContaining("net.ipv4.ip_default_ttl: cannot set to 999") }),
    );
  });
});
