/** Policies, pods and namespaces of files: each reading as a whole, told as differences. */
import type { PolicySink } from "../../netfilter/policy/types.ts";
import type { Node } from "../resources/core.ts";
import { type PolicyObject, readPolicyNode } from "../resources/policy-documents.ts";
import type { ServiceObject } from "../resources/service-documents.ts";
import { deleteObject, type PolicyFeed, setObject } from "./policy-feed.ts";

type Told = PolicyObject | ServiceObject | Node;

export class FilePolicies implements PolicyFeed {
  /** With their JSON, by "Kind/namespace/name". */
  #objects = new Map<string, { object: Told; text: string }>();
  #sink: PolicySink | undefined;
  #known = false;

  follow(sink: PolicySink): void {
    this.#sink = sink;
    for (const { object } of this.#objects.values()) set(sink, object);
    if (this.#known) sink.settle();
  }

  stop(): void {
    this.#sink = undefined;
  }

  missing(): string | undefined {
    return this.#known ? undefined : "the files have not been read yet";
  }

  /** All that there is now, each once. Of Services' objects namespaces are looked at. */
  take(all: readonly Told[]): void {
    const sink = this.#sink;
    const before = this.#objects;
    this.#objects = new Map();
    let changed = !this.#known;
    this.#known = true;
    for (const object of all) {
      if (object.kind === "Service" || object.kind === "EndpointSlice") continue;
      const { metadata } = object;
      const key = `${object.kind}/${"namespace" in metadata ? metadata.namespace : ""}/${metadata.name}`;
      const text = JSON.stringify(object);
      this.#objects.set(key, { object, text });
      if (before.get(key)?.text === text) continue;
      changed = true;
      if (sink) set(sink, object);
    }
    for (const [key, { object }] of before) {
      if (this.#objects.has(key)) continue;
      changed = true;
      if (sink) forget(sink, object);
    }
    if (changed) sink?.settle();
  }
}

function set(sink: PolicySink, object: Told): void {
  if ("read" in object) setObject(sink, object as PolicyObject);
  else if (object.kind === "Node") sink.setNode(readPolicyNode(object as Node));
  else sink.setNamespace({ name: object.metadata.name, labels: (object as ServiceObject).metadata.labels ?? {} });
}

function forget(sink: PolicySink, object: Told): void {
  if ("read" in object) deleteObject(sink, object as PolicyObject);
  else if (object.kind === "Node") sink.deleteNode(object.metadata.name);
  else sink.deleteNamespace(object.metadata.name);
}
