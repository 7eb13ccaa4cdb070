/**
 * The drawing for a terminal: routers above, nodes below, each link a horizontal line between them. A line that only passes another one
 * interrupts it (─│─), one that joins it does not (─┴─), so the picture can be read without colours. Where boxes with all addresses would be
 * too wide, they hold names alone, and the addresses stand in a table below.
 */
import type { Paint } from "../../cli/render/paint.ts";
import { table, width } from "../../cli/render/table.ts";
import type { Picture, PictureBox, PictureLink } from "./picture.ts";

interface Style {
  /** Columns between two boxes. */
  gap: number;
  /** Columns between a box's frame and its text. */
  padding: number;
  texts(box: PictureBox): string[];
}

const full: Style = { gap: 3, padding: 1, texts: allTexts };
const compact: Style = { gap: 1, padding: 0, texts: box => (box.asn === undefined ? [] : [`AS ${box.asn}`]) };

interface Placed {
  lines: string[];
  left: number;
  width: number;
  box: PictureBox;
}

/** Where an interface leaves its box. */
interface Drop {
  box: string;
  link: number;
  column: number;
}

/** The drops of a tier towards the band of links above it, and towards the one below. */
interface Drops {
  up: Drop[];
  down: Drop[];
}

/** Lines without trailing blanks; wider than `columns` only where that cannot be helped. */
export function drawTerminal(picture: Picture, paint: Paint, columns = Number.POSITIVE_INFINITY): string[] {
  const spacious = draw(picture, paint, full);
  if (spacious.width <= columns) return [...spacious.lines, "", ...legend(picture, paint)];
  return [...draw(picture, paint, compact).lines, "", ...legend(picture, paint), "", ...details(picture, paint)];
}

function draw(picture: Picture, paint: Paint, style: Style): { lines: string[]; width: number } {
  const tiers = picture.tiers.map(boxes => place(boxes, style));
  const total = Math.max(...tiers.map(extent));
  for (const tier of tiers) centre(tier, total);
  const drops: Drops[] = [];
  const taken = new Set<number>();
  for (const [at, tier] of tiers.entries()) {
    // The drops of two tiers meet in the band between them.
    const up = columns(tier, link => picture.links[link].below === at - 1, taken);
    taken.clear();
    drops.push({ up, down: columns(tier, link => picture.links[link].below === at, taken) });
  }
  const last = Math.max(total - 1, ...drops.flatMap(({ up, down }) => [...up, ...down]).map(({ column }) => column));
  const rows: string[] = band(picture, -1, [], drops[0].up, last, paint);
  for (const [at, tier] of tiers.entries()) {
    rows.push(...tierRows(tier, drops[at], style, paint));
    rows.push(...band(picture, at, drops[at].down, drops[at + 1]?.up ?? [], last, paint));
  }
  return { lines: rows.map(row => row.trimEnd()), width: last + 4 + Math.max(...picture.links.map(({ name }) => width(name))) };
}

function allTexts(box: PictureBox): string[] {
  return [
    ...(box.subtitle === "" ? [] : [box.subtitle]),
    ...box.interfaces.flatMap(each => labelled(each.interface, each.addresses)),
    ...(box.subnets.length > 0 ? labelled("pods", box.subnets) : []),
    ...box.pods.flatMap(pod => labelled(` • ${pod.name}`, pod.addresses)),
  ];
}

/** The first value behind the label, the others below it. */
function labelled(label: string, values: string[]): string[] {
  const [first = "", ...others] = values;
  return [`${label}  ${first}`.trimEnd(), ...others.map(value => `${" ".repeat(width(label))}  ${value}`)];
}

function legend({ links }: Picture, paint: Paint): string[] {
  const longest = Math.max(...links.map(({ name }) => width(name)));
  return links.map(({ name, subnets }) => `${paint("accent", name.padEnd(longest))}  ${subnets.join("  ")}`);
}

/** What compact boxes leave out. */
function details({ tiers }: Picture, paint: Paint): string[] {
  const rows = tiers.flat().flatMap(box => {
    const parts = [
      ...box.interfaces.map(each => [each.interface, ...each.addresses]),
      ...(box.subnets.length > 0 ? [["pods", ...box.subnets]] : []),
      ...box.pods.map(pod => [pod.name, ...pod.addresses]),
    ];
    return parts.map((cells, at) => ({ title: at === 0 ? box.title : "", subtitle: at === 0 ? box.subtitle : "", cells }));
  });
  const widest = Math.max(...rows.map(({ cells }) => cells.length));
  return table(
    rows,
    [
      { title: "", text: row => row.title, tone: () => "strong" },
      { title: "", text: row => row.subtitle, tone: () => "dim" },
      ...Array.from({ length: widest }, (_, at) => ({ title: "", text: (row: (typeof rows)[number]) => row.cells[at] ?? "" })),
    ],
    paint,
  );
}

function place(boxes: PictureBox[], { gap, padding, texts }: Style): Placed[] {
  let left = 0;
  return boxes.map(box => {
    const lines = texts(box);
    const inner = Math.max(width(box.title), 2 * box.interfaces.length + 1, ...lines.map(width));
    const placed = { box, lines, left, width: inner + 2 * padding + 2 };
    left += placed.width + gap;
    return placed;
  });
}

function extent(boxes: Placed[]): number {
  const last = boxes.at(-1);
  return last === undefined ? 0 : last.left + last.width;
}

function centre(boxes: Placed[], total: number): void {
  const free = total - extent(boxes);
  // Spread: as much room at both ends as between two boxes.
  const share = Math.floor(free / (boxes.length + 1));
  for (const [index, box] of boxes.entries()) box.left += share * (index + 1);
}

/** Where each interface of the links that count leaves its box; no two in the same column, so that no line hides another. */
function columns(boxes: Placed[], counts: (link: number) => boolean, taken: Set<number>): Drop[] {
  return boxes.flatMap(({ box, left, width: size }) => {
    const interfaces = box.interfaces.filter(({ link }) => counts(link));
    return interfaces.map((each, index) => {
      let column = left + Math.round(((index + 1) * size) / (interfaces.length + 1));
      const end = left + size - 2;
      while (taken.has(column) && column < end) column++;
      while (taken.has(column) && column > left + 1) column--;
      taken.add(column);
      return { box: box.id, link: each.link, column };
    });
  });
}

function tierRows(boxes: Placed[], { up, down }: Drops, { padding }: Style, paint: Paint): string[] {
  const height = Math.max(...boxes.map(({ lines }) => lines.length)) + 3;
  return Array.from({ length: height }, (_, row) => {
    let text = "";
    let at = 0;
    for (const placed of boxes) {
      text += " ".repeat(placed.left - at);
      if (row === 0) text += frame(placed, up, "┌┴┐");
      else if (row === height - 1) text += frame(placed, down, "└┬┘");
      else text += boxRow(placed, row, padding, paint);
      at = placed.left + placed.width;
    }
    return text;
  });
}

/** `[first, mark, last]`: the corners, and what stands where a line joins. */
function frame({ left, width: size, box }: Placed, drops: Drop[], [first, mark, last]: string): string {
  const marks = new Set(drops.filter(drop => drop.box === box.id).map(drop => drop.column - left));
  const cells = Array.from({ length: size }, (_, at) => (at === 0 ? first : at === size - 1 ? last : marks.has(at) ? mark : "─"));
  return cells.join("");
}

/** The title stands within, not in the frame, where lines may join. */
function boxRow({ width: size, box, lines }: Placed, row: number, padding: number, paint: Paint): string {
  const text = row === 1 ? box.title : (lines[row - 2] ?? "");
  const blanks = " ".repeat(Math.max(0, size - 2 - 2 * padding - width(text)));
  const room = " ".repeat(padding);
  return `│${room}${row === 1 ? paint("strong", text) : text}${blanks}${room}│`;
}

/** The links between the tier `at` and the next one, a row each. */
function band({ links }: Picture, at: number, upper: Drop[], lower: Drop[], last: number, paint: Paint): string[] {
  return links.flatMap((link, index) => (link.below === at ? [linkRow(link, index, upper, lower, last, paint)] : []));
}

function linkRow({ name }: PictureLink, link: number, upper: Drop[], lower: Drop[], last: number, paint: Paint): string {
  const own = new Map([...upper, ...lower].filter(drop => drop.link === link).map(drop => [drop.column, drop]));
  const passing = new Set([...upper.filter(drop => drop.link > link), ...lower.filter(drop => drop.link < link)].map(drop => drop.column));
  const ends = [...own.keys()].sort((a, b) => a - b);
  const from = ends[0] ?? 0;
  const to = ends.at(-1) ?? 0;
  let text = "";
  for (let column = 0; column <= last; column++) {
    const drop = own.get(column);
    if (drop) text += corner(column, from, to, upper.includes(drop));
    else if (passing.has(column)) text += "│";
    else text += column > from && column < to ? "─" : " ";
  }
  return `${paint("accent", text)}  ${paint("dim", name)}`;
}

function corner(column: number, from: number, to: number, up: boolean): string {
  if (from === to) return up ? "┴" : "┬";
  if (column === from) return up ? "└" : "┌";
  if (column === to) return up ? "┘" : "┐";
  return up ? "┴" : "┬";
}
