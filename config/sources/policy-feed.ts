/** Where policies, and the pods and namespaces that they are about, come from. */
import type { PolicySink } from "../../netfilter/policy/types.ts";
import type { PolicyObject } from "../resources/policy-documents.ts";

export interface PolicyFeed {
  /** From now on what is known goes there, and each change of it. What is settled is whole: nothing is before all was heard once. */
  /** `expects`: there were policies before, so what could not be read at all may be some: nothing is settled without it. */
  follow(sink: PolicySink, expects?: boolean): void;
  /** Nobody asks any more. */
  stop(): void;
  /** What was not heard yet, in words; undefined: all was heard once. */
  missing(): string | undefined;
  /** Many have none there: where there never were policies, nobody waits for them. */
  readonly optional?: true;
}

export function setObject(sink: PolicySink, object: PolicyObject): void {
  if (object.kind === "Pod") sink.setPod(object.read);
  else if (object.kind === "NetworkPolicy") sink.setPolicy(object.read);
  else sink.setClusterPolicy(object.read);
}

export function deleteObject(sink: PolicySink, { kind, read }: PolicyObject): void {
  if (kind === "Pod") sink.deletePod(read.key);
  else if (kind === "NetworkPolicy") sink.deletePolicy(read.key);
  else sink.deleteClusterPolicy(read.key);
}
