/** A small cluster for tables of tests: all pods are attached to one node, and who reaches whom is asked of the ruleset and of explain alike. */
import { expect } from "vitest";
import type { RulesetObject } from "../../ruleset.ts";
import { PolicyIndex } from "../policy-index.ts";
import type { ClusterPolicyObject, NetworkPolicyObject, PolicyPod, PolicyProtocol } from "../types.ts";
import { forward } from "./interpreter.ts";

export type PodText = Partial<Omit<PolicyPod, "ports">> & { ports?: Record<string, number | [PolicyProtocol, number]> };

const Names = { TCP: "tcp", UDP: "udp", SCTP: "sctp" } as const;

export class Scene {
  readonly index = new PolicyIndex();
  /** As the writer would have it in the kernel. */
  readonly kernel = new Map<string, RulesetObject>();
  readonly #pods = new Map<string, PolicyPod>();

  /** By NAMESPACE/NAME; addresses 10.0.0.N and fd00::N in their order, unless it says others. */
  constructor(pods: Record<string, PodText>, namespaces: Record<string, Record<string, string>> = {}) {
    for (const [key, text] of Object.entries(pods)) this.pod(key, text);
    for (const [name, labels] of Object.entries(namespaces)) this.namespace(name, labels);
    this.settle();
  }

  pod(key: string, { ports = {}, ...text }: PodText = {}): PolicyPod {
    const [namespace, name] = key.split("/");
    const number = this.#pods.has(key) ? [...this.#pods.keys()].indexOf(key) + 1 : this.#pods.size + 1;
    const pod: PolicyPod = {
      ...{ key, namespace, name, labels: {}, hostNetwork: false, ended: false, addresses: [`10.0.0.${number}`, `fd00::${number}`] },
      ...text,
      ports: Object.entries(ports).map(([name, port]) => {
        const [protocol, number] = typeof port === "number" ? (["TCP", port] as const) : port;
        return { name, protocol, port: number };
      }),
    };
    this.#pods.set(key, pod);
    this.index.setPod(pod);
    if (!pod.hostNetwork && !pod.ended) this.attach(key, pod.addresses, pod.uid);
    return pod;
  }

  attach(key: string, addresses: readonly string[], uid?: string): void {
    this.index.setAttachment({ key, addresses, hostInterface: `veth-${key}`, ...(uid !== undefined && { uid }) });
  }

  detach(key: string): void {
    this.index.deleteAttachment(`veth-${key}`);
  }

  namespace(name: string, labels: Record<string, string>): void {
    this.index.setNamespace({ name, labels: { "kubernetes.io/metadata.name": name, ...labels } });
  }

  policy(key: string, policy: Partial<NetworkPolicyObject>): this {
    const [namespace, name] = key.split("/");
    this.index.setPolicy({ key, namespace, name, pods: {}, ...policy });
    return this.settle();
  }

  clusterPolicy(name: string, policy: Partial<ClusterPolicyObject>): this {
    const about = { key: `ClusterNetworkPolicy/${name}`, name, tier: "Admin" as const, priority: 10 };
    this.index.setClusterPolicy({ ...about, subject: { namespaces: {} }, ingress: [], egress: [], ...policy });
    return this.settle();
  }

  /** Returns the keys of the objects that have changed. */
  take(): string[] {
    const changes = this.index.take();
    for (const { key, object } of changes) {
      if (object) this.kernel.set(key, object);
      else this.kernel.delete(key);
    }
    return changes.map(({ key }) => key);
  }

  settle(): this {
    this.index.settle();
    return this;
  }

  /** "a/client -> b/server:80", "… :53/UDP": whether it passes, in each family that both ends have. */
  passes(text: string): boolean {
    this.take();
    const [, from, to, port, protocol = "TCP"] = /^(\S+) -> (\S+):(\d+)(?:\/(\w+))?$/.exec(text)!;
    const [sources, destinations] = [this.#addresses(from), this.#addresses(to)];
    const pairs = sources.flatMap(source =>
      destinations.filter(one => one.includes(":") === source.includes(":")).map(one => [source, one]),
    );
    expect(pairs, text).not.toEqual([]);
    const outcomes = pairs.map(([source, destination]) => {
      const packet = { source, destination, protocol: Names[protocol as PolicyProtocol], port: Number(port) };
      const { accepted } = forward(this.kernel.values(), packet);
      const explained = this.index.explain({ from: source, to: destination, protocol: protocol as PolicyProtocol, port: Number(port) });
      expect({ text, source, ...explained }).toMatchObject({ allowed: accepted });
      return accepted;
    });
    expect(new Set(outcomes).size, `${text}: both families alike`).toBe(1);
    return outcomes[0];
  }

  /** Those of the texts that pass. */
  passing(texts: readonly string[]): string[] {
    return texts.filter(text => this.passes(text));
  }

  #addresses(end: string): readonly string[] {
    return this.#pods.get(end)?.addresses ?? [end];
  }
}
