/** A kubeconfig of somebody who works with a test's API server. */
import { writeFile } from "node:fs/promises";
import type { Credentials } from "../../kubernetes/credentials.ts";

/** Its contexts: `test`, which is the current one, and `nowhere`, where nobody listens. */
export async function writeKubeconfig(file: string, credentials: Credentials): Promise<void> {
  const ca = Buffer.from(await credentials.certificateAuthority()).toString("base64");
  const cluster = (name: string, server: string) => ({ name, cluster: { server, "certificate-authority-data": ca } });
  const context = (name: string) => ({ name, context: { cluster: name, user: "user" } });
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [cluster("test", credentials.server), cluster("nowhere", "https://127.0.0.1:1")],
    users: [{ name: "user", user: { token: await credentials.token() } }],
    contexts: [context("test"), context("nowhere")],
    "current-context": "test",
  };
  await writeFile(file, JSON.stringify(config), { mode: 0o600 });
}
