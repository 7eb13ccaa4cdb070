/** Tables with aligned columns and no lines, as `ip` and `kubectl` print them: easy to read, to grep and to cut. */
import { type Paint, printable, type Tone } from "./paint.ts";

const collator = new Intl.Collator("en", { numeric: true });

/** Order of names for people: node2 before node10. */
export const compareNames = (a: string, b: string): number => collator.compare(a, b);

export interface Column<Row> {
  title: string;
  align?: "left" | "right";
  text(row: Row): string;
  tone?(row: Row): Tone;
}

/** Lines without trailing blanks; none where there are no rows. Columns in which every row is empty are left out. */
export function table<Row>(rows: readonly Row[], columns: readonly Column<NoInfer<Row>>[], paint: Paint, indent = ""): string[] {
  if (rows.length === 0) return [];
  const used = columns
    .map(column => ({ column, cells: rows.map(row => printable(column.text(row))) }))
    .filter(({ cells }) => cells.some(cell => cell !== ""));
  const widths = used.map(({ column, cells }) => Math.max(width(column.title), ...cells.map(width)));
  const line = (cells: { text: string; tone: Tone; right: boolean }[]) => {
    const last = cells.findLastIndex(cell => cell.text !== "");
    const padded = cells.slice(0, last + 1).map((cell, index) => {
      const blanks = " ".repeat(widths[index] - width(cell.text));
      const coloured = paint(cell.tone, cell.text);
      if (cell.right) return blanks + coloured;
      return index === last ? coloured : coloured + blanks;
    });
    return indent + padded.join("  ");
  };
  const titled = columns.some(column => column.title !== "");
  const head = used.map(({ column }) => ({ text: column.title, tone: "dim" as Tone, right: column.align === "right" }));
  const body = rows.map((row, at) =>
    used.map(({ column, cells }) => ({
      text: cells[at],
      tone: column.tone?.(row) ?? ("plain" as Tone),
      right: column.align === "right",
    })),
  );
  return [...(titled ? [line(head)] : []), ...body.map(line)];
}

/** Columns a text takes on a terminal: one for each character; marks that combine take none. */
export function width(text: string): number {
  let columns = 0;
  for (const character of text) if (!/\p{M}/u.test(character)) columns++;
  return columns;
}

/** `label   value` lines; a value of several lines is indented below the first. */
export function pairs(entries: readonly (readonly [label: string, value: string | undefined])[], paint: Paint, indent = ""): string[] {
  const shown = entries.filter((entry): entry is readonly [string, string] => entry[1] !== undefined && entry[1] !== "");
  const labels = Math.max(0, ...shown.map(([label]) => width(label)));
  return shown.flatMap(([label, value]) =>
    value.split("\n").map((text, at) => {
      const name = at === 0 ? label : "";
      return `${indent}${paint("dim", name)}${" ".repeat(labels - width(name))}  ${text}`;
    }),
  );
}
