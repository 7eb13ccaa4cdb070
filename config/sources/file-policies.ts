/** Policies, pods and namespaces of files: each reading as a whole, told as differences. */
import type { PolicySink } from "../../netfilter/policy/types.ts";
import type { Node } from "../resources/core.ts";
import { type PolicyObject, readPolicyNode } from "../resources/policy-documents.ts";
import type { ServiceObject } from "../resources/service-documents.ts";
import { deleteObject, type PolicyFeed, setObject } from "./policy-feed.ts";

/** Files that are named in a message. */
const MAX_NAMED = 5;

type Told = PolicyObject | ServiceObject | Node;

export class FilePolicies implements PolicyFeed {
  /** With their JSON, by "Kind/namespace/name". */
  #objects = new Map<string, { object: Told; text: string }>();
  #sink: PolicySink | undefined;
  #heard = false;
  /** Files of which nothing is known, as of the last reading; until they all were read once. */
  #unread: readonly string[] | undefined = [];
  #expects = false;
  readonly optional = true;

  follow(sink: PolicySink, expects = false): void {
    this.#sink = sink;
    this.#expects = expects;
    for (const { object } of this.#objects.values()) set(sink, object);
    if (this.missing() === undefined) sink.settle();
  }

  stop(): void {
    this.#sink = undefined;
  }

  missing(): string | undefined {
    if (!this.#heard) return "the files have not been read yet";
    if (!this.#expects || !this.#unread) return undefined;
    return `there were policies before, and what these say cannot be read: ${this.#unread.slice(0, MAX_NAMED).join(", ")}`;
  }

  /** All that there is now, each once. Of Services' objects namespaces are looked at. `unread`: files of which nothing is known. */
  take(all: readonly Told[], unread: readonly string[] = []): void {
    const sink = this.#sink;
    const before = this.#objects;
    const missed = this.missing();
    this.#heard = true;
    if (this.#unread) this.#unread = unread.length > 0 ? unread : undefined;
    this.#objects = new Map();
    let changed = missed !== undefined;
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
    if (changed && this.missing() === undefined) sink?.settle();
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
