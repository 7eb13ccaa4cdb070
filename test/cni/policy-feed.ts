/**
 * NetworkPolicies of one namespace that are known from the start: each pod by a name that a bench gives is labelled `app: web`, one policy selects these, and the
 * others select pods that are not there.
 */
import type { PolicyFeed } from "../../config/sources/policy-feed.ts";

const NAMESPACE = "default";
const PODS = 1000;

/** `names`: beginnings of the pods' names; a number follows. */
export function policyFeed(policies: number, names: readonly string[]): PolicyFeed {
  return {
    follow(sink) {
      sink.setNamespace({ name: NAMESPACE, labels: {} });
      const plain = { namespace: NAMESPACE, labels: { app: "web" }, addresses: [], hostNetwork: false, ended: false, ports: [] };
      for (const name of names.flatMap(one => Array.from({ length: PODS }, (_, at) => `${one}${at}`)))
        sink.setPod({ ...plain, key: `${NAMESPACE}/${name}`, name });
      const labels = (at: number) => ({ matchLabels: { app: at === 0 ? "web" : `web${at}` } });
      const rule = (at: number) => ({ peers: [{ pods: labels(at) }], ports: [{ protocol: "TCP" as const, port: 80 }] });
      for (let at = 0; at < policies; at++) {
        const name = `policy${at}`;
        sink.setPolicy({
          key: `${NAMESPACE}/${name}`,
          namespace: NAMESPACE,
          name,
          pods: labels(at),
          ingress: [rule(at)],
          egress: [rule(at)],
        });
      }
      sink.settle();
    },
    stop() {},
    missing: () => undefined,
  };
}
