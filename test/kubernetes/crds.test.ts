/** The generated manifests and samples against a real API server; and both it and the reading of files refuse the same bad objects. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { checkObject } from "../../config/resources/check-object.ts";
import { apiVersion } from "../../config/resources/common.ts";
import { Kinds, kindRows } from "../../config/resources/kinds.ts";
import { formatPath } from "../../config/resources/validate.ts";
import { rejected } from "../../config/testdata/rejected.ts";
import { type ApiServer, missingApiServer, startApiServer } from "./api-server.ts";
import { installCrds } from "./install-crds.ts";
import { variants } from "./variants.ts";

/** Any other number makes other objects. */
const SEED = Number(process.env.PODLANE_SEED ?? 1);
const folder = join(import.meta.dirname, "../../crds");
const missing = missingApiServer();

interface Condition {
  type: string;
  status: string;
  message: string;
}

describe("crds against a real API server", () => {
  let server: ApiServer;

  beforeEach(context => context.skip(missing !== undefined, missing));

  beforeAll(async () => {
    if (missing) return;
    server = await startApiServer();
    await installCrds(server);
  }, 120_000);

  afterAll(() => server?.stop());

  async function conditions(plural: string): Promise<Condition[]> {
    const { body } = await server.call("GET", `/apis/apiextensions.k8s.io/v1/customresourcedefinitions/${plural}.podlane.io`);
    return body.status?.conditions ?? [];
  }

  const create = (object: { kind: string }, query = "") =>
    server.call("POST", `/apis/${apiVersion}/${Kinds[object.kind as keyof typeof Kinds].plural}?fieldValidation=Strict${query}`, object);

  test("all kinds are structural, with status, in the category podlane", async () => {
    for (const { plural } of kindRows) {
      expect((await conditions(plural)).filter(({ type }) => type === "NonStructuralSchema")).toEqual([]);
    }
    const { body } = await server.call("GET", `/apis/${apiVersion}`);
    const names = body.resources.map(({ name }: { name: string }) => name);
    for (const { plural, status } of kindRows)
      expect(names).toEqual(expect.arrayContaining([plural, ...(status ? [`${plural}/status`] : [])]));
    expect(body.resources[0].categories).toEqual(["podlane"]);
  });

  test("every sample is taken, with the defaults that files get", async () => {
    for (const file of await readdir(join(folder, "samples"))) {
      for (const document of parseAllDocuments(await readFile(join(folder, "samples", file), "utf8"))) {
        const object = document.toJS();
        const answer = await create(object);
        expect(answer.status, `${file} ${object.metadata.name}: ${JSON.stringify(answer.body)}`).toBe(201);
        const { object: read, faults } = checkObject(object);
        expect(faults).toEqual([]);
        expect(read && "spec" in read && read.spec).toEqual(answer.body.spec);
      }
    }
  });

  test.each(rejected)("$kind: $what is refused by the server and in files", async ({ kind, spec, field, message }) => {
    const object = { apiVersion, kind, metadata: { name: "bad" }, spec };
    const { status, body } = await create(object, "&dryRun=All");
    expect([400, 422], JSON.stringify(body)).toContain(status);
    const { faults } = checkObject(object);
    expect(faults.map(fault => ({ field: formatPath(fault.path), message: fault.message }))).toContainEqual({
      field,
      message: expect.stringMatching(message),
    });
  });

  test("samples with one thing changed at random: both take or refuse the same, with the same defaults", async () => {
    const samples = await Promise.all(
      (await readdir(join(folder, "samples"))).map(file => readFile(join(folder, "samples", file), "utf8")),
    );
    const objects = samples.flatMap(text => parseAllDocuments(text).map(document => document.toJS()));
    const taken = { both: 0, neither: 0 };
    for (const object of variants(objects, SEED, 300)) {
      const answer = await create(object, "&dryRun=All");
      const { object: read, faults } = checkObject(object);
      const files =
        faults.length === 0 ? "taken" : `refused: ${faults.map(({ path, message }) => `${formatPath(path)} ${message}`).join("; ")}`;
      const api = answer.status === 201 ? "taken" : `refused: ${answer.body.message}`;
      const what = `${JSON.stringify(object)}\nfiles: ${files}\nAPI server: ${api}`;
      expect(files === "taken", what).toBe(api === "taken");
      taken[api === "taken" ? "both" : "neither"]++;
      if (api === "taken") expect(read && "spec" in read && read.spec, what).toEqual(answer.body.spec);
    }
    // It says something only where both happen.
    expect(Math.min(taken.both, taken.neither)).toBeGreaterThan(50);
  }, 60_000);

  test("a NodeState takes a status", async () => {
    const object = { apiVersion, kind: "NodeState", metadata: { name: "node1" } };
    const created = await create(object);
    expect(created.status, JSON.stringify(created.body)).toBe(201);
    const status = {
      observedGeneration: 1,
      asn: 4294967295,
      sessions: [
        { name: "tor-a", address: "192.0.2.1", state: "Established", reason: "up", since: "2026-01-01T00:00:00Z", received: 1000000 },
      ],
      conditions: [
        {
          type: "Ready",
          status: "True",
          reason: "Converged",
          message: "",
          lastTransitionTime: "2026-01-01T00:00:00Z",
          observedGeneration: 1,
        },
      ],
    };
    const { metadata } = created.body;
    const answer = await server.call("PUT", `/apis/${apiVersion}/nodestates/node1/status?fieldValidation=Strict`, {
      ...object,
      metadata,
      status,
    });
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
    expect(answer.body.status).toEqual(status);
  });
});
