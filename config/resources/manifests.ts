/** CustomResourceDefinitions (apiextensions.k8s.io/v1) out of the schema. */
import { stringify } from "yaml";
import manifest from "../../package.json" with { type: "json" };
import { GROUP, VERSION } from "./common.ts";
import { type KindRow, kindRows } from "./kinds.ts";
import type { SchemaNode } from "./schema.ts";
import { validate } from "./validate.ts";

/** On each CustomResourceDefinition: the podlane that it was generated with. */
const VERSION_ANNOTATION = `${GROUP}/version`;

/** File name -> content, one manifest per kind. */
export function manifests(): Map<string, string> {
  return new Map(
    kindRows.map(row => [
      `${GROUP}_${row.plural}.yaml`,
      `${HEADER}${stringify(definition(row), { lineWidth: 0, aliasDuplicateObjects: false })}`,
    ]),
  );
}

const HEADER = "# Generated from config/resources by `npm run crds`. Change the schema, not this file.\n";

function definition(row: KindRow) {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${row.plural}.${GROUP}`, annotations: { [VERSION_ANNOTATION]: manifest.version } },
    spec: {
      group: GROUP,
      scope: "Cluster",
      names: {
        kind: row.kind,
        listKind: `${row.kind}List`,
        plural: row.plural,
        singular: row.singular,
        shortNames: row.shortNames,
        categories: ["podlane"],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          ...(row.status ? { subresources: { status: {} } } : {}),
          additionalPrinterColumns: row.columns,
          schema: { openAPIV3Schema: rootSchema(row) },
        },
      ],
    },
  };
}

function rootSchema({ description, spec, status }: KindRow) {
  return {
    type: "object",
    description,
    ...(spec ? { required: ["spec"] } : {}),
    properties: {
      apiVersion: { type: "string" },
      kind: { type: "string" },
      metadata: { type: "object" },
      ...(spec ? { spec: structural(spec) } : {}),
      ...(status ? { status: structural(status) } : {}),
    },
  };
}

/** What a structural schema says otherwise: maps are additionalProperties, and a field with a default is not required. */
function structural(node: SchemaNode): Record<string, unknown> {
  const { properties, patternProperties, items, required, ...rest } = node;
  const needed = required?.filter(key => properties?.[key]?.default === undefined);
  const map = patternProperties && Object.values(patternProperties)[0];
  return {
    ...rest,
    // The API server checks a default against the rules before it fills in the defaults inside it.
    ...(typeof node.default === "object" ? { default: validate(node, node.default).value } : {}),
    ...(needed?.length ? { required: needed } : {}),
    ...(properties ? { properties: Object.fromEntries(Object.entries(properties).map(([key, child]) => [key, structural(child)])) } : {}),
    ...(map ? { additionalProperties: structural(map) } : {}),
    ...(items ? { items: structural(items) } : {}),
  };
}
