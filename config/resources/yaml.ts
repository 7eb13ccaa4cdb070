/**
 * YAML (and JSON, which is YAML) to documents, in time that grows with the text and not with its square: what a document may hold is bounded, and
 * repeated keys are found by a set for each mapping, where the parser compares each key with all others.
 */
import { type Document, isAlias, isMap, isNode, isScalar, LineCounter, type Node, parseAllDocuments, visit } from "yaml";

export const Limits = {
  /** Octets of one file. */
  fileSize: 4 * 1024 * 1024,
  /** Documents in one file. */
  documents: 5000,
  /** Nesting of one document. */
  depth: 40,
  /** Keys of one mapping: a Node has some dozen labels. */
  keys: 10_000,
  /** Aliases of one document, and nodes that resolving them may make. */
  aliases: 100,
  anchors: 1000,
} as const;

export interface YamlFault {
  message: string;
  remedy: string;
  /** Where in the text. */
  offset?: number;
}

/** `fault`: nothing of the text can be used. */
export function parseYaml(text: string): { documents: Document.Parsed[]; lines: LineCounter; fault?: YamlFault } {
  const lines = new LineCounter();
  const refuse = (message: string, remedy: string) => ({ documents: [], lines, fault: { message, remedy } });
  if (text.length > Limits.fileSize) return refuse(`the file is larger than ${Limits.fileSize} octets`, "split it into several files");
  if (hasMoreDocuments(text, Limits.documents)) {
    return refuse(`the file has more than ${Limits.documents} documents`, "split it into several files");
  }
  try {
    // The parser's own check of repeated keys takes the square of their number.
    const options = { lineCounter: lines, prettyErrors: true, uniqueKeys: false, version: "1.2", logLevel: "silent" } as const;
    const documents = parseAllDocuments(text, options);
    return { documents: Array.isArray(documents) ? documents : [], lines };
  } catch (error) {
    // Nested so deep that the parser's stack ends.
    return refuse(`cannot be parsed: ${(error as Error).message}`, "correct the text");
  }
}

/** By their separators, before anything is made of them. */
function hasMoreDocuments(text: string, limit: number): boolean {
  let count = text.startsWith("---") ? 0 : 1;
  for (let at = 0; at >= 0; at = text.indexOf("\n---", at)) {
    if (at > 0 || text.startsWith("---")) count++;
    if (count > limit) return true;
    at++;
  }
  return false;
}

/** The first thing for which a document cannot be used: its syntax, a key that is there twice, or too much of something. */
export function documentFault(document: Document.Parsed): YamlFault | undefined {
  const [error] = document.errors;
  if (error) {
    const [message] = error.message.split("\n");
    const text = message.replace(/ at line \d+, column \d+:?$/, "");
    return {
      message: `not valid YAML: ${text}`,
      remedy: "correct the text; what the file said before stays in force",
      offset: error.pos[0],
    };
  }
  let fault: YamlFault | undefined;
  let aliases = 0;
  let anchors = 0;
  visit(document, (_key, node, path) => {
    if (!isNode(node)) return undefined;
    fault = bounded(node);
    return fault ? visit.BREAK : undefined;

    function bounded(at: Node): YamlFault | undefined {
      const here = (message: string, remedy: string, offset = at.range?.[0]): YamlFault => ({ message, remedy, offset });
      // A mapping's pair and its value are two steps.
      if (path.length > 2 * Limits.depth + 2) return here(`is nested deeper than ${Limits.depth} levels`, "flatten it");
      if (isAlias(at) && ++aliases > Limits.aliases) return here(`has more than ${Limits.aliases} aliases`, "write the parts out");
      if ("anchor" in at && at.anchor && ++anchors > Limits.anchors)
        return here(`has more than ${Limits.anchors} anchors`, "write the parts out");
      return isMap(at) ? keyFault(at.items as { key: unknown }[], here) : undefined;
    }
  });
  return fault;
}

function keyFault(
  items: readonly { key: unknown }[],
  here: (message: string, remedy: string, offset?: number) => YamlFault,
): YamlFault | undefined {
  if (items.length > Limits.keys) return here(`a mapping has ${items.length} keys, at most ${Limits.keys} are read`, "take some out");
  const seen = new Set<unknown>();
  for (const { key } of items) {
    if (!isScalar(key)) continue;
    if (seen.has(key.value)) {
      const text = JSON.stringify(String(key.value).slice(0, 60));
      return here(
        `not valid YAML: the key ${text} is there twice`,
        "take one out; what the file said before stays in force",
        key.range?.[0],
      );
    }
    seen.add(key.value);
  }
  return undefined;
}
