/** The page docs/objects.md out of the schema: every field with its type, bounds, default and meaning. */
import { apiVersion } from "./common.ts";
import { type KindRow, kindRows } from "./kinds.ts";
import { NOT_YET_TEXT, type SchemaNode } from "./schema.ts";

export function reference(): string {
  const parts = [intro(), ...kindRows.map(section)];
  return `${parts.join("\n\n")}\n`;
}

function intro(): string {
  const rows = kindRows.map(
    ({ kind, shortNames, description }) => `| [${kind}](#${kind.toLowerCase()}) | ${shortNames.join(", ")} | ${description} |`,
  );
  return [
    "<!-- Generated from config/resources by `npm run crds`. Change the schema, not this page. -->",
    "# The objects",
    `All kinds have \`apiVersion: ${apiVersion}\` and are cluster-scoped. The same documents work as Kubernetes custom resources and as YAML files in the agent's configuration directory. \`kubectl get podlane\` lists them all.`,
    ["| kind | short name | says |", "|---|---|---|", ...rows].join("\n"),
    "Files may hold these v1 objects too; only the fields named here are read: `Node` (metadata.name, labels and annotations, spec.podCIDRs, InternalIP and ExternalIP of status.addresses) and `Secret` (data, stringData). For addresses of Services they may hold `Service` and `Namespace` (v1) and `EndpointSlice` (discovery.k8s.io/v1), for NetworkPolicy `Pod` and `Namespace` (v1), `NetworkPolicy` (networking.k8s.io/v1) and cluster policies (policy.networking.k8s.io, see [network-policy.md](network-policy.md)), as `kubectl get -o yaml` writes them.",
    "Node annotations: `podlane.io/asn` sets the AS number of one node, `podlane.io/router-id` its router id.",
    "In the tables, **bold** fields are required, `[]` marks the entries of a list, and `{}` the values of a map.",
  ].join("\n\n");
}

function section({ kind, description, spec, status }: KindRow): string {
  const lines = [`## ${kind}`, description];
  if (spec) lines.push(table(spec, "spec"), rules(spec));
  else if (status) lines.push(table(status, "status"));
  return lines.filter(Boolean).join("\n\n");
}

function table(schema: SchemaNode, at: string): string {
  return ["| field | type | default | meaning |", "|---|---|---|---|", ...rows(schema, at)].join("\n");
}

function rows(schema: SchemaNode, at: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([key, child]) => {
    const path = `${at}.${key}`;
    const required = schema.required?.includes(key) && child.default === undefined;
    const name = required ? `**${path}**` : path;
    const row = `| ${name} | ${typeOf(child)} | ${defaultOf(child)} | ${escapeBars(child.description ?? "").replace(NOT_YET_TEXT, `**${NOT_YET_TEXT}**`)} |`;
    return [row, ...inner(child, path)];
  });
}

function inner(schema: SchemaNode, path: string): string[] {
  if (isSelector(schema)) return [];
  if (schema.type === "object") return rows(schema, path);
  if (schema.type === "array" && schema.items?.type === "object" && !isSelector(schema.items)) return rows(schema.items, `${path}[]`);
  return [];
}

/** Label selectors are those of Kubernetes: no need to spell them out each time. */
function isSelector({ properties }: SchemaNode): boolean {
  return properties !== undefined && "matchLabels" in properties;
}

function typeOf(schema: SchemaNode): string {
  if (isSelector(schema)) return "label selector";
  switch (schema.type) {
    case "array":
      return `list of ${typeOf(schema.items ?? {})}, ${schema.minItems ? `${schema.minItems}..` : "at most "}${schema.maxItems}`;
    case "integer":
      return `${schema.minimum}..${schema.maximum}`;
    case "string":
      return schema.enum ? schema.enum.map(value => `\`${value}\``).join(", ") : `text, at most ${schema.maxLength}`;
    case "object":
      return schema.patternProperties ? "map of text" : "object";
    default:
      return schema.type ?? "";
  }
}

function defaultOf({ default: value }: SchemaNode): string {
  return value === undefined || typeof value === "object" ? "" : `\`${value}\``;
}

function escapeBars(text: string): string {
  return text.replace(/\|/g, "\\|");
}

/** Checks across fields, in words. */
function rules(schema: SchemaNode): string {
  const found = collect(schema, "spec");
  return found.length > 0 ? ["Checked across fields:", "", ...found].join("\n") : "";
}

function collect(schema: SchemaNode, at: string): string[] {
  const own =
    schema.type === "object" && !isSelector(schema)
      ? (schema["x-kubernetes-validations"] ?? []).map(({ message, fieldPath = "" }) => `- \`${at}${fieldPath}\`: ${message}`)
      : [];
  const children = Object.entries(schema.properties ?? {}).flatMap(([key, child]) =>
    isSelector(child) ? [] : collect(child, `${at}.${key}`),
  );
  const items = schema.items && !isSelector(schema.items) ? collect(schema.items, `${at}[]`) : [];
  return [...own, ...children, ...items];
}
