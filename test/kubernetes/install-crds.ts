/** The CustomResourceDefinitions of crds/ in an API server, ready to be used. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { apiVersion } from "../../config/resources/common.ts";
import { kindRows } from "../../config/resources/kinds.ts";
import { until } from "../../lab/kubernetes/until.ts";
import type { ApiServer } from "./api-server.ts";

const folder = join(import.meta.dirname, "../../crds");
const DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

export async function installCrds(server: Pick<ApiServer, "call">): Promise<void> {
  for (const { plural } of kindRows) {
    const manifest = parse(await readFile(join(folder, `podlane.io_${plural}.yaml`), "utf8"));
    const { status, body } = await server.call("POST", `${DEFINITIONS}?fieldValidation=Strict`, manifest);
    if (status !== 201) throw new Error(`${plural}: ${status} ${JSON.stringify(body, null, 1)}`);
  }
  for (const { plural } of kindRows) {
    await until(`${plural} are established`, async () => {
      const { body } = await server.call("GET", `${DEFINITIONS}/${plural}.podlane.io`);
      const established = body.status?.conditions?.some(
        (one: { type: string; status: string }) => one.type === "Established" && one.status === "True",
      );
      // Established comes a moment before the new path is served.
      return established && (await server.call("GET", `/apis/${apiVersion}/${plural}`)).status === 200;
    });
  }
}

/** A server that has just started takes its time until it knows what it serves, and removes nothing before. */
const REMOVAL = 90_000;

export async function uninstallCrds(server: Pick<ApiServer, "call">): Promise<void> {
  for (const { plural } of kindRows) await server.call("DELETE", `${DEFINITIONS}/${plural}.podlane.io`);
  for (const { plural } of kindRows)
    await until(
      `${plural} are gone`,
      async () => (await server.call("GET", `${DEFINITIONS}/${plural}.podlane.io`)).status === 404,
      REMOVAL,
    );
}
