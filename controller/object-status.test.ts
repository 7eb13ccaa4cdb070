import { describe, expect, test } from "vitest";
import { readDocuments } from "../config/resources/documents.ts";
import { collect } from "../config/resources/kinds.ts";
import type { ApiObject } from "../kubernetes/types.ts";
import { findingsOf, statusOf } from "./object-status.ts";
import { isSilent, reportOf, summaryOf } from "./reports.ts";

const cluster = `
apiVersion: podlane.io/v1alpha1
kind: Fabric
metadata: { name: main }
spec: { nodeSelector: {}, asn: 64512 }
---
apiVersion: podlane.io/v1alpha1
kind: Peer
metadata: { name: tor-a }
spec: { nodeSelector: {}, address: 192.0.2.1, asn: 65001, passwordSecretRef: { name: keys } }
---
apiVersion: podlane.io/v1alpha1
kind: Peer
metadata: { name: tor-b }
spec: { from: base, nodeSelector: {}, address: 192.0.2.2, asn: 65001 }
---
apiVersion: podlane.io/v1alpha1
kind: Peer
metadata: { name: tor-c }
spec: { nodeSelector: {}, address: 192.0.2.3, asn: 65001, import: { policies: [gone] } }
---
apiVersion: podlane.io/v1alpha1
kind: Peer
metadata: { name: tor-d }
spec: { nodeSelector: {}, address: 192.0.2.4, asn: 65001, import: { policies: [gone] } }
---
${["n1", "n2", "n3"].map(name => `apiVersion: v1\nkind: Node\nmetadata: { name: ${name} }`).join("\n---\n")}
`;

function state(name: string, ready: boolean, up: number, problems: object[] = []): ApiObject {
  const session = (source: string, state: string) => ({ source, state });
  const sessions = [...Array(up).fill(session("Peer/tor-a", "Established")), session("Peer/tor-a", "Idle")];
  const conditions = [{ type: "Ready", status: ready ? "True" : "False" }];
  return { metadata: { name }, status: { conditions, sessions: [...sessions, { source: "Peer/tor-a", shutdown: true }], problems } };
}

describe("the status of objects", () => {
  const { objects, problems } = readDocuments(cluster, "test");
  expect(problems).toEqual([]);
  const findings = findingsOf(collect(objects.map(({ object }) => object)).resources, [
    { severity: "error", reason: "UnknownField", object: "Peer/new", field: "spec.colour", message: "unknown", remedy: "update" },
  ]);
  const missing = { reason: "PasswordNotAvailable", object: "Peer/tor-a", message: "there is no Secret keys: the session stays shut down" };
  const reports = new Map(
    [state("n1", true, 1), state("n2", true, 1, [missing]), state("n3", true, 1, [missing])].map(one => [one.metadata.name, reportOf(one)]),
  );
  const summary = summaryOf(reports, new Set(["n3"]));
  const of = (kind: string, name: string) => {
    const { conditions, ...rest } = statusOf(kind, name, findings, summary);
    return { ...rest, conditions: conditions.map(({ status, reason }) => `${status} ${reason}`) };
  };

  test("counts sessions and nodes, and of a node that is silent what is of the past does not count", () => {
    expect(of("Fabric", "main")).toEqual({ nodes: 3, nodesReady: 2, conditions: ["True Accepted", "True ResolvedRefs"] });
    expect(of("Peer", "tor-a")).toEqual({ sessions: "2/6", conditions: ["True Accepted", "False PasswordNotAvailable"] });
    const { conditions } = statusOf("Peer", "tor-a", findings, summary);
    expect(conditions[1].message).toBe("2 nodes, n2 first: there is no Secret keys: the session stays shut down");
  });

  test("says of each object what it names in vain, also where several name it", () => {
    expect(of("Peer", "tor-b").conditions).toEqual(["False InheritanceFailed", "False InheritanceFailed"]);
    expect(of("Peer", "tor-c").conditions).toEqual(["False ReferenceNotFound", "False ReferenceNotFound"]);
    expect(of("Peer", "tor-d").conditions).toEqual(["False ReferenceNotFound", "False ReferenceNotFound"]);
    expect(statusOf("Peer", "tor-d", findings, summary).conditions[1].message).toMatch(
      /^spec\.import\.policies\[0\]: there is no Policy gone.*\. create the policy, or take the name out$/,
    );
  });

  test("says what is not used as it stands", () => {
    expect(of("Peer", "new").conditions).toEqual(["False UnknownField", "True ResolvedRefs"]);
    expect(statusOf("Peer", "new", findings, summary).conditions[0].message).toBe("spec.colour: unknown. update");
  });
});

test("an AddressPool with addresses of another one says which, and whose they are", () => {
  const text = ["a", "b"]
    .map(
      name => `
apiVersion: podlane.io/v1alpha1
kind: AddressPool
metadata: { name: ${name} }
spec: { addresses: [192.0.2.0/24] }`,
    )
    .join("\n---");
  const { objects } = readDocuments(text, "test");
  const findings = findingsOf(collect(objects.map(({ object }) => object)).resources, []);
  const accepted = (name: string) => statusOf("AddressPool", name, findings, summaryOf(new Map(), new Set())).conditions[0];
  expect(accepted("a").status).toBe("True");
  expect(accepted("b")).toMatchObject({ status: "False", reason: "RangesOverlap", message: expect.stringContaining("AddressPool/a") });
});

test("a report passes over what no agent writes", () => {
  for (const status of [undefined, null, 7, { conditions: {}, sessions: "x", problems: [7, null] }, { conditions: [[]], sessions: [{}] }])
    expect(reportOf({ metadata: { name: "n" }, status })).toEqual({ ready: false, sessions: new Map(), references: [] });
  const many = {
    reason: "PasswordNotAvailable",
    object: "Secret/keys",
    message: "no Secret: Peer/a spec.password: down; Fabric/main spec.mesh: down",
  };
  expect(reportOf({ metadata: { name: "n" }, status: { problems: [many] } }).references.map(({ object }) => object)).toEqual([
    "Peer/a",
    "Fabric/main",
  ]);
  expect(isSilent({ metadata: { name: "n" }, status: { conditions: [{ type: "Ready", status: "Unknown" }] } })).toBe(true);
});
