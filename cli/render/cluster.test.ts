import { expect, test } from "vitest";
import { ClusterReport, isWrong, versionsOf } from "../cluster-report.ts";
import { renderCluster, renderClusterProblems, renderVersions } from "./cluster.ts";
import { plain } from "./paint.ts";

const now = Date.UTC(2026, 4, 4, 12);

const ready = (status: string, message = "attaches pods, and its sessions are up") => ({
  ...{ type: "Ready", status, reason: "Any", message },
  lastTransitionTime: "2026-05-04T11:00:00Z",
});
const session = (name: string, state: string, since = "2026-05-04T11:30:00Z") => ({ name, state, reason: "hold timer expired", since });
const problem = (severity: "error" | "warning", object: string, message: string, reason?: string) => ({
  ...{ severity, reason, object, field: "spec" },
  ...{ message, remedy: "mend it" },
});
const good = { conditions: [ready("True")], sessions: [session("tor", "Established")], learned: { installed: 1203 }, version: "0.2.0" };

function report(states: Record<string, object>, nodes = Object.keys(states)) {
  const all = new ClusterReport();
  for (const [name, status] of Object.entries(states)) all.add({ metadata: { name }, status });
  return all.result(nodes);
}

const mixed = report(
  {
    n1: good,
    n2: { ...good, problems: [problem("warning", "Peer/tor", "nothing is announced", "NothingAnnounced")], version: "0.1.0" },
    n3: { ...good, sessions: [session("tor", "Established"), session("n7", "Active", "2026-05-04T11:59:50Z")] },
    n4: { ...good, conditions: [ready("False", "no session is up")], sessions: [session("tor", "Idle")], drain: { state: "Draining" } },
    n5: {},
    n6: { ...good, problems: [problem("error", "Node/n6", "it has no address", "NoInternalIP")], drain: { state: "None" } },
    n10: { ...good, learned: { ipv4: 5, ipv6: 4 } },
    old: good,
  },
  ["n1", "n2", "n3", "n4", "n5", "n6", "n8", "n10"],
);

test("nodes, the worst first", () => {
  expect(renderCluster(mixed, now, plain)).toMatchInlineSnapshot(`
    "nodes     5 of 8 ready; 1 without a report
    sessions  5 of 7 established
    problems  1 error, 1 warning: see podlane cluster --problems

    NODE  READY    SESSIONS  ROUTES  ERRORS  WARNINGS  DRAIN     VERSION  CHANGED  REASON
    n4    no            0/1   1,203                    Draining  0.2.0     30 min  no session is up
    n8    -               -       -                                             -  no agent has reported for this node
    n5    unknown       0/0       -                                             -  its agent has not said yet whether it is ready
    n6    yes           1/1   1,203       1                      0.2.0     30 min  it has no address
    n3    yes           1/2   1,203                              0.2.0       10 s  n7: hold timer expired
    n2    yes           1/1   1,203                 1            0.1.0     30 min
    old   yes           1/1   1,203                              0.2.0     30 min  its Node object is gone
    n1    yes           1/1   1,203                              0.2.0     30 min
    n10   yes           1/1       9                              0.2.0     30 min
    "
  `);
  expect(isWrong(mixed)).toBe(true);
  expect(renderCluster(report({}), now, plain)).toBe("the cluster has no nodes\n");
});

test("counts of the agent are those of all its sessions and problems, of which the object has some", () => {
  const summary = { established: 4998, wanted: 4999, routes: 9998, errors: 0, warnings: 70 };
  const view = report({ n1: { ...good, learned: undefined, summary } });
  expect(view.nodes).toMatchObject([
    { sessions: { established: 4998, wanted: 4999 }, routes: 9998, problems: { errors: 0, warnings: 70 } },
  ]);
  const shutDown = { ...session("old-tor", "Idle"), shutdown: true };
  expect(report({ n1: { ...good, sessions: [...good.sessions, shutDown] } }).nodes[0].sessions).toEqual({ established: 1, wanted: 1 });
});

test("all is well, apart from a warning", () => {
  const view = report({ n1: good, n2: { ...good, problems: [problem("warning", "Peer/tor", "nothing is announced")] } });
  expect(renderCluster(view, now, plain)).toMatchInlineSnapshot(`
    "nodes     2 of 2 ready
    sessions  2 of 2 established
    problems  1 warning: see podlane cluster --problems

    NODE  READY  SESSIONS  ROUTES  WARNINGS  VERSION  CHANGED
    n2    yes         1/1   1,203         1  0.2.0     30 min
    n1    yes         1/1   1,203            0.2.0     30 min
    "
  `);
  expect(isWrong(view)).toBe(false);
  expect(isWrong(report({ n1: good }, ["n1", "n2"]))).toBe(true);
});

test("a problem of many nodes is told once: by its reason, else by its words", () => {
  const names = Array.from({ length: 5000 }, (_, n) => `node${n}`);
  const view = report(
    Object.fromEntries(
      names.map((name, n) => [
        name,
        {
          ...good,
          problems: [
            problem("warning", "PodNetwork/default", `its pods have an MTU of ${1000 + n}`, "MTUOutdated"),
            problem("warning", `Node/${name}`, `${name} has three ranges`, undefined),
            ...(n < 7 ? [problem("error", "Peer/tor", "the Secret is missing", "PasswordNotAvailable")] : []),
            problem("warning", "Peer/tor", "the Secret is old", undefined),
          ],
        },
      ]),
    ),
  );
  expect(renderClusterProblems(view, plain)).toMatchInlineSnapshot(`
    "error  PasswordNotAvailable  Peer/tor spec
      the Secret is missing (on 7 nodes: node0, node1, node2, node3, node4 and 2 more)
      remedy  mend it

    warning  Node/node0 spec
      node0 has three ranges (on all 5000 nodes)
      remedy  mend it

    warning  Peer/tor spec
      the Secret is old (on all 5000 nodes)
      remedy  mend it

    warning  MTUOutdated  PodNetwork/default spec
      its pods have an MTU of 1000 (on all 5000 nodes)
      remedy  mend it
    "
  `);
  expect(renderClusterProblems(report({ n1: good }), plain)).toBe("no problems\n");
});

test("versions", () => {
  expect(renderVersions(versionsOf(mixed), plain)).toMatchInlineSnapshot(`
    "0.2.0    agents on 6 nodes: n1, n3, n4, n6, n10, old
    unknown  agents on 2 nodes: n5, n8
    0.1.0    agent of node n2
    "
  `);
  expect(renderVersions([{ version: "0.1.0", nodes: ["n1"] }], plain)).toBe("0.1.0  agent of node n1\n");
});
