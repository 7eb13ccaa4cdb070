/** Which Secrets a node needs: those that its own sessions name. An agent asks for no other, by name. */
import { selects } from "../../platform/label-selector.ts";
import type { Resources, Selector } from "../resources/kinds.ts";

/** Names, in order. `labels`: of the node. */
export function neededSecrets({ fabrics, peers }: Pick<Resources, "fabrics" | "peers">, labels: Record<string, string>): string[] {
  const chosen = (selector: Selector | undefined) => selector !== undefined && selects(selector, labels);
  const names = new Set<string>();
  for (const { spec } of fabrics.values())
    if (spec.mesh.passwordSecretRef && chosen(spec.nodeSelector)) names.add(spec.mesh.passwordSecretRef.name);
  for (const peer of peers.values()) {
    if (!chosen(peer.spec.nodeSelector)) continue;
    // What it inherits may be a password, too.
    const seen = new Set<string>();
    for (
      let one: typeof peer | undefined = peer;
      one && !seen.has(one.metadata.name);
      one = one.spec.from ? peers.get(one.spec.from) : undefined
    ) {
      seen.add(one.metadata.name);
      if (one.spec.passwordSecretRef) names.add(one.spec.passwordSecretRef.name);
    }
  }
  return [...names].sort();
}
