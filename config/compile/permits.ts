/**
 * The export policies that Advertisements make: each permits exactly what it announces (RFC 8212), and is asked after the peer's own. Where several
 * announce one prefix to one neighbour, it is announced once, with the communities of all.
 */
import type { PolicyAction, PolicyConfig, RouteKind } from "../../bgpd/config.ts";
import { Families, type Family } from "../../bgpd/family.ts";
import { CommunityKinds } from "../../bgpd/message/attribute-table.ts";
import type { Advertisement, Selector } from "../resources/kinds.ts";
import { type Context, compareText, familyOfPrefix, type ResolvedPeer, someOf } from "./context.ts";
import type { Additions, Lists } from "./neighbors.ts";
import type { Session } from "./sessions.ts";

export interface Item {
  prefix: string;
  kind: RouteKind;
  discard: boolean;
}

/** What one Advertisement announces from this node, and to whom. */
export interface Grant {
  /** Of the Advertisement. */
  name: string;
  attributes: NonNullable<Advertisement["spec"]["attributes"]>;
  items: Item[];
  /** What it announces comes and goes without this plan: addresses of Services, of either family. Here the Services that it selects. */
  dynamic?: Advertisement["spec"]["service"];
  peers: ReadonlySet<ResolvedPeer>;
  /** The mesh hears it as well. */
  mesh: boolean;
}

const scalars = ["localPref", "med", "prepend"] as const;

/** The policies, who asks them after those in `before`, and who hears what. `grants`: by name. */
export function permit(
  context: Context,
  grants: Grant[],
  sessions: readonly Session[],
  before: Lists,
): { policies: Record<string, PolicyConfig> } & Pick<Additions, "lists" | "hears"> {
  const policies: Record<string, PolicyConfig> = {};
  const lists: Lists = new Map(before);
  const hears = new Map<ResolvedPeer | undefined, string[]>();
  // All sessions of a Peer hear the same, and all of the mesh.
  const groups = new Map<ResolvedPeer | undefined, Session[]>();
  for (const session of sessions) {
    const group = groups.get(session.peer);
    if (group) group.push(session);
    else groups.set(session.peer, [session]);
  }
  for (const grant of grants) {
    policies[policyName([grant])] = announcing([grant]);
    reportGrant(
      context,
      grant,
      [...groups].flatMap(([peer, group]) => (mayHear(grant, peer) ? group : [])),
    );
  }
  for (const [peer, group] of groups) {
    const heard = grants.filter(grant => mayHear(grant, peer));
    if (heard.length === 0) continue;
    hears.set(
      peer,
      heard.map(({ name }) => `Advertisement/${name}`),
    );
    for (const family of Families) {
      const here = heard.filter(grant => grant.dynamic || itemsOf(grant, family).length > 0);
      if (here.length === 0 || !group.some(({ neighbor }) => neighbor.families[family])) continue;
      const added = [...sharedPolicies(context, here, family, policies), ...here.map(grant => policyName([grant]))];
      for (const { neighbor } of group) {
        const config = neighbor.families[family];
        const own = config && before.get(config);
        if (own) lists.set(config, { ...own, exportPolicies: [...own.exportPolicies, ...added] });
      }
    }
  }
  return { policies, lists, hears };
}

function mayHear({ peers, mesh }: Grant, peer: ResolvedPeer | undefined): boolean {
  return peer ? peers.has(peer) : mesh;
}

/** For the prefixes that several of these announce: a policy for each set of Advertisements. Returns their names. */
function sharedPolicies(context: Context, heard: readonly Grant[], family: Family, policies: Record<string, PolicyConfig>): string[] {
  if (heard.length < 2) return [];
  const by = new Map<string, Grant[]>();
  const items = new Map<string, Item>();
  for (const grant of heard) {
    for (const item of itemsOf(grant, family)) {
      by.set(item.prefix, [...(by.get(item.prefix) ?? []), grant]);
      items.set(item.prefix, item);
    }
  }
  const sets = new Map<string, { grants: Grant[]; items: Item[] }>();
  for (const [prefix, grants] of by) {
    if (grants.length < 2) continue;
    const name = policyName(grants);
    const set = sets.get(name) ?? { grants, items: [] };
    sets.set(name, set);
    set.items.push(items.get(prefix) as Item);
  }
  const dynamic = heard.filter(grant => grant.dynamic);
  reportTooMany(context, dynamic);
  for (const grants of combinations(dynamic)) {
    const name = policyName(grants);
    sets.set(name, sets.get(name) ?? { grants, items: [] });
  }
  for (const [name, set] of sets) {
    policies[name] ??= announcing(set.grants);
    reportContradictions(context, set.grants, set.items);
  }
  // What more of them announce is asked about first: what fewer do is true of it as well.
  const bySize = [...sets].sort(([a, one], [b, other]) => other.grants.length - one.grants.length || compareText(a, b));
  return bySize.map(([name]) => name);
}

/** Advertisements of Services that may announce one address together: each set of these has a policy, and there are 2^n of them. */
const MAX_TOGETHER = 5;

/** Of two and more. Which of them occur is not known yet. */
function combinations(grants: readonly Grant[]): Grant[][] {
  let sets: Grant[][] = [[]];
  for (const grant of grants.slice(0, MAX_TOGETHER)) sets = sets.flatMap(set => [set, [...set, grant]]);
  return sets.filter(({ length }) => length > 1);
}

function itemsOf({ items }: Grant, family: Family): Item[] {
  return items.filter(({ prefix }) => familyOfPrefix(prefix) === family);
}

function policyName(grants: readonly Grant[]): string {
  return `advertisement:${grants.map(({ name }) => name).join("+")}`;
}

/** By what announces it, and not by its prefix: one prefix more is no change of the policy. */
function announcing(grants: readonly Grant[]): PolicyConfig {
  const sources = grants.map(({ name }) => `Advertisement/${name}`);
  return { source: sources.join(", "), rules: [{ name: "announce", match: { sources }, action: actionOf(grants) }] };
}

/** Communities of all; of the scalars the first that is given. */
function actionOf(grants: readonly Grant[]): PolicyAction {
  const all = grants.map(({ attributes }) => attributes);
  const first = <Field extends (typeof scalars)[number]>(field: Field) => all.find(one => one[field] !== undefined)?.[field];
  const [localPref, med, prepend] = [first("localPref"), first("med"), first("prepend")];
  const communities = CommunityKinds.map(({ attribute }) => [attribute, [...new Set(all.flatMap(one => one[attribute] ?? []))]] as const);
  return {
    result: "accept",
    ...(localPref !== undefined || med !== undefined
      ? { set: { ...(localPref === undefined ? {} : { localPref }), ...(med === undefined ? {} : { med }) } }
      : {}),
    ...Object.fromEntries(communities.filter(([, add]) => add.length > 0).map(([attribute, add]) => [attribute, { add }])),
    ...(prepend ? { prepend: { asn: "self", count: prepend } } : {}),
  };
}

function reportContradictions({ problems }: Context, grants: readonly Grant[], items: readonly Item[]): void {
  for (const field of scalars) {
    const first = grants.find(({ attributes }) => attributes[field] !== undefined);
    if (!first) continue;
    for (const other of grants) {
      const [used, ignored] = [first.attributes[field], other.attributes[field]];
      if (ignored === undefined || ignored === used) continue;
      const about = ["AttributesContradict", `Advertisement/${other.name}`, `spec.attributes.${field}`] as const;
      const values = `with ${field} ${used} by Advertisement/${first.name} and ${ignored} by this one: ${used} is used`;
      const remedy = "give both the same value, or let one of them announce it";
      if (items.length > 0) {
        const what = someOf(items.map(({ prefix }) => prefix).sort(compareText));
        problems.error(...about, `${what} is announced to the same neighbour ${values}`, remedy);
      } else if (selectSame(first, other)) {
        const message = `both select the same Services, and what these have may be announced to the same neighbour ${values}`;
        problems.warning(...about, message, remedy);
      }
    }
  }
}

/** Surely: other selectors may never meet in a Service, and which Services there are is not known here. */
function selectSame({ dynamic: one }: Grant, { dynamic: other }: Grant): boolean {
  if (!one || !other || !one.addresses.some(kind => other.addresses.includes(kind))) return false;
  return selectionText(one) === selectionText(other);
}

function selectionText({ selector, namespaceSelector, loadBalancerClasses }: NonNullable<Grant["dynamic"]>): string {
  const sorted = (of: Selector | undefined) => of && [Object.entries(of.matchLabels ?? {}).sort(), of.matchExpressions ?? []];
  return JSON.stringify([sorted(selector), sorted(namespaceSelector), loadBalancerClasses && [...loadBalancerClasses].sort()]);
}

/** What they add to an address that others announce as well is not sent. */
function reportTooMany({ problems }: Context, dynamic: readonly Grant[]): void {
  for (const { name, attributes } of dynamic.slice(MAX_TOGETHER)) {
    if (Object.keys(attributes).length === 0) continue;
    problems.warning(
      "AttributesNotMerged",
      `Advertisement/${name}`,
      "spec.attributes",
      `a neighbour hears ${dynamic.length} Advertisements of type Service, and attributes of the first ${MAX_TOGETHER} by name are merged: an address that another one announces too goes there without these`,
      `have no neighbour hear more than ${MAX_TOGETHER}, or let each address be announced by one of them alone`,
    );
  }
}

/** What has no effect. */
function reportGrant({ problems }: Context, grant: Grant, listeners: readonly Session[]): void {
  const { name, attributes } = grant;
  const object = `Advertisement/${name}`;
  if (attributes.localPref !== undefined && listeners.every(({ external }) => external)) {
    problems.warning(
      "NoEffect",
      object,
      "spec.attributes.localPref",
      "has no effect: LOCAL_PREF is not sent to external peers",
      "use med, prepend or communities",
    );
  }
  for (const family of Families) {
    const some = itemsOf(grant, family);
    if (some.length === 0 || listeners.some(({ neighbor }) => neighbor.families[family])) continue;
    const message = `no session with the selected peers carries ${family}: ${some.map(({ prefix }) => prefix).join(", ")} is not announced`;
    problems.warning(
      "FamilyNotCarried",
      object,
      "spec.peerSelector",
      message,
      `add ${family} to spec.families of a Peer, or a Peer with an address of that family`,
    );
  }
}
