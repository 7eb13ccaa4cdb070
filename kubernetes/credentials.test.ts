import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { inCluster } from "./credentials.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "podlane-account-"));
  for (const name of ["namespace", "ca.crt", "token"]) writeFileSync(join(folder, name), `${name}\n`);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test.each<[NodeJS.ProcessEnv, string | undefined, string]>([
  [{ KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "6443" }, undefined, "https://10.96.0.1:6443"],
  [{ KUBERNETES_SERVICE_HOST: "fd00:96::1", KUBERNETES_SERVICE_PORT: "443" }, undefined, "https://[fd00:96::1]"],
  [{ KUBERNETES_SERVICE_HOST: "10.96.0.1" }, "https://192.0.2.10:6443/", "https://192.0.2.10:6443"],
  [{}, "https://api.example.net:6443", "https://api.example.net:6443"],
])("with %j and %s the server is %s", async (environment, given, server) => {
  const credentials = await inCluster(given, environment, folder);
  expect(credentials.server).toBe(server);
  expect(credentials.namespace).toBe("namespace");
});

test("a token that was rotated is the new one", async () => {
  const credentials = await inCluster("https://192.0.2.1", {}, folder);
  expect(await credentials.token()).toBe("token");
  writeFileSync(join(folder, "token"), "another");
  expect(await credentials.token()).toBe("another");
});

test.each<[string, NodeJS.ProcessEnv, string | undefined, RegExp]>([
  ["no cluster", {}, undefined, /this is no pod of a cluster.*--kubeconfig/],
  ["no URL", {}, "192.0.2.1", /"192.0.2.1" is not like https:/],
  ["no TLS", {}, "http://192.0.2.1:8080", /is not like https:/],
])("%s is said in words", async (_, environment, server, words) => {
  await expect(inCluster(server, environment, folder)).rejects.toThrow(words);
});

test("an account that is not mounted is said in words", async () => {
  rmSync(join(folder, "namespace"));
  await expect(inCluster("https://192.0.2.1", {}, folder)).rejects.toThrow(
    /the service account cannot be read: .*automountServiceAccountToken/,
  );
});
