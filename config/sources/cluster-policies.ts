/** Which kinds of cluster-wide policies the API server has now: their CustomResourceDefinitions may be there or not, and in one version or another. */
import type { ApiClient } from "../../kubernetes/client.ts";
import type { ApiError } from "../../kubernetes/types.ts";
import { POLICY_GROUP, PolicyKinds } from "../resources/policy-documents.ts";

export const clusterKinds = ["ClusterNetworkPolicy", "AdminNetworkPolicy", "BaselineAdminNetworkPolicy"] as const;
export type ClusterKind = (typeof clusterKinds)[number];

const plurals: Record<ClusterKind, string> = {
  ClusterNetworkPolicy: "clusternetworkpolicies",
  AdminNetworkPolicy: "adminnetworkpolicies",
  BaselineAdminNetworkPolicy: "baselineadminnetworkpolicies",
};

/** Collection by kind, with the apiVersion of what is in it. Rejects with ApiError. */
export async function installedKinds(client: ApiClient): Promise<Map<ClusterKind, { path: string; name: string; apiVersion: string }>> {
  const group = await client.get(`/apis/${POLICY_GROUP}`).catch((error: ApiError) => {
    if (error.status === 404) return undefined;
    throw error;
  });
  const served = new Set(Array.isArray(group?.versions) ? group.versions.map(one => one?.groupVersion) : []);
  const found = new Map<ClusterKind, { path: string; name: string; apiVersion: string }>();
  const versions = [...new Set(clusterKinds.flatMap(kind => PolicyKinds[kind].apiVersions))].filter(version => served.has(version));
  for (const apiVersion of versions) {
    const { resources } = await client.get(`/apis/${apiVersion}`);
    const names = new Set(Array.isArray(resources) ? resources.map(one => one?.name) : []);
    for (const kind of clusterKinds) {
      const plural = plurals[kind];
      if (found.has(kind) || !names.has(plural) || !PolicyKinds[kind].apiVersions.includes(apiVersion)) continue;
      found.set(kind, { path: `/apis/${apiVersion}/${plural}`, name: `${plural}.${POLICY_GROUP}`, apiVersion });
    }
  }
  return found;
}
