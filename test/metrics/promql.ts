/** What a PromQL expression names: metrics with the labels that are asked of them, and labels that results are grouped by. Enough for deploy/, not a parser. */

export interface Named {
  metrics: { name: string; labels: string[] }[];
  /** Of by, without, on, ignoring, group_left, group_right. */
  grouped: string[];
}

export function namesIn(expression: string): Named {
  const metrics = [...expression.matchAll(/\b((?:podlane_\w+)|up)\b(?!\s*\()(?:\s*\{([^}]*)\})?/g)].map(([, name, selector = ""]) => ({
    name,
    labels: [...selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)\s*"/g)].map(match => match[1]),
  }));
  const lists = expression.matchAll(/\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g);
  const grouped = [...lists].flatMap(([, list]) => list.split(",").map(label => label.trim())).filter(label => label !== "");
  return { metrics, grouped };
}
