/** The API server as the user of `podlane` reaches it: by kubeconfig, as kubectl does, with its refusals in words. */
import { version } from "../agent/version.ts";
import { ApiClient } from "../kubernetes/client.ts";
import { fromKubeconfig, type KubeconfigAccess } from "../kubernetes/kubeconfig.ts";
import { ApiError } from "../kubernetes/types.ts";
import { CliError } from "./error.ts";

/** Of `--kubeconfig` and `--context`. */
export interface ApiOptions {
  kubeconfig?: string;
  context?: string;
}

/** Throws CliError. */
export async function openApi({ kubeconfig, context }: ApiOptions): Promise<{ client: ApiClient; access: KubeconfigAccess }> {
  const access = await fromKubeconfig(kubeconfig, context).catch((error: Error) => {
    throw new CliError(error.message, "--kubeconfig names a file, --context one of its contexts: kubectl config get-contexts lists them");
  });
  return { client: new ApiClient(access.transport, version), access };
}

/** `needs`: what the user must be allowed, such as "list nodes"; `missing`: what a 404 means, where that is known. */
export function explainApiError(error: unknown, server: string, needs: string, missing?: CliError): unknown {
  if (!(error instanceof ApiError)) return error;
  switch (error.status) {
    case 0:
      return new CliError(
        `the API server ${server} does not answer: ${error.message}`,
        "see whether kubectl reaches it; --context and --kubeconfig choose another one",
      );
    case 401:
      return new CliError(`the API server ${server} does not know who you are: ${error.message}`, "log in again; see kubectl auth whoami");
    case 403:
      return new CliError(
        `you may not ${needs}: ${error.message.replace(/^403 /, "")}`,
        `whoever administers the cluster can give you a role that may ${needs}`,
      );
    case 404:
      if (missing) return missing;
  }
  return new CliError(`the API server ${server} refuses: ${error.message}`, `what was asked for: ${needs}`);
}
