/** Attribute sets as people read them: the view of bgpd/snapshot.ts, filled by the rows of the attribute table; single values in text.ts. */
import { hexOf } from "../../net/octets.ts";
import { AttributeRows } from "./attribute-table.ts";
import type { AttributesView, PathAttributes } from "./types.ts";

export {
  formatAsPath,
  formatCommunity,
  formatExtendedCommunity,
  formatId,
  formatLargeCommunity,
  parseCommunity,
  parseLargeCommunity,
  WellKnownCommunity,
} from "./text.ts";

export function attributesView(attributes: PathAttributes): AttributesView {
  const view: AttributesView = { origin: "", asPath: "", nextHop: "" };
  for (const row of AttributeRows) row.format?.(attributes, view);
  if (attributes.unknown?.length) {
    view.unknown = attributes.unknown.map(({ flags, code, value }) => `${code} flags 0x${flags.toString(16)} value 0x${hexOf(value)}`);
  }
  return view;
}
