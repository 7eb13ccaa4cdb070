/**
 * The drawing for a terminal: routers above, nodes below, each link a horizontal line between them. A line that only passes another one
 * interrupts it (─│─), one that joins it does not (─┴─), so the picture can be read without colours.
 */
import type { Paint } from "../../cli/render/paint.ts";
import { width } from "../../cli/render/table.ts";
import type { Picture, PictureBox } from "./picture.ts";

interface Placed {
  lines: string[];
  left: number;
  width: number;
  box: PictureBox;
}

const gap = 3;

/** Lines without trailing blanks. */
export function drawTerminal(picture: Picture, paint: Paint): string[] {
  const routers = place(picture.routers.map(box => ({ box, lines: routerLines(box) })));
  const nodes = place(picture.nodes.map(box => ({ box, lines: nodeLines(box) })));
  const total = Math.max(extent(routers), extent(nodes));
  centre(routers, total);
  centre(nodes, total);
  const upper = columns(routers, new Set());
  const lower = columns(nodes, new Set(upper.map(each => each.column)));
  const names = picture.links.map(link => link.name);
  const rows: string[] = [];
  rows.push(...tier(routers, upper, "below", paint));
  const right = Math.max(total, ...[...upper, ...lower].map(each => each.column + 1)) + 2;
  rows.push(...busRows(picture, upper, lower, right, names, paint));
  rows.push(...tier(nodes, lower, "above", paint));
  const longest = Math.max(...names.map(width));
  rows.push("", ...picture.links.map(({ name, subnets }) => `${paint("accent", name.padEnd(longest))}  ${subnets.join("  ")}`));
  return rows.map(row => row.trimEnd());
}

function routerLines(box: PictureBox): string[] {
  return [box.subtitle, ...box.interfaces.map(each => `${each.interface}  ${each.addresses[0] ?? ""}`)];
}

function nodeLines(box: PictureBox): string[] {
  return [
    ...(box.subtitle === "" ? [] : [box.subtitle]),
    ...box.interfaces.map(each => `${each.interface}  ${each.addresses[0] ?? ""}`),
    ...(box.subnets.length > 0 ? [`pods  ${box.subnets[0]}`] : []),
    ...box.pods.map(pod => ` • ${pod.name}${pod.addresses.length > 0 ? `  ${pod.addresses[0]}` : ""}`),
  ];
}

function place(boxes: { box: PictureBox; lines: string[] }[]): Placed[] {
  let left = 0;
  return boxes.map(({ box, lines }) => {
    const inner = Math.max(width(box.title) + 4, 2 * box.interfaces.length + 3, ...lines.map(width));
    const placed = { box, lines, left, width: inner + 4 };
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

interface Drop {
  box: string;
  link: number;
  column: number;
}

/** Where each interface leaves its box; no two in the same column, so that no line hides another. */
function columns(boxes: Placed[], taken: Set<number>): Drop[] {
  return boxes.flatMap(({ box, left, width: size }) =>
    box.interfaces.map((each, index) => {
      let column = left + Math.round(((index + 1) * size) / (box.interfaces.length + 1));
      const end = left + size - 2;
      while (taken.has(column) && column < end) column++;
      while (taken.has(column) && column > left + 1) column--;
      taken.add(column);
      return { box: box.id, link: each.link, column };
    }),
  );
}

function tier(boxes: Placed[], drops: Drop[], side: "above" | "below", paint: Paint): string[] {
  if (boxes.length === 0) return [];
  const height = Math.max(...boxes.map(({ lines }) => lines.length)) + 3;
  return Array.from({ length: height }, (_, row) => {
    let text = "";
    let at = 0;
    for (const placed of boxes) {
      const marks = new Set(drops.filter(drop => drop.box === placed.box.id).map(drop => drop.column - placed.left));
      text += " ".repeat(placed.left - at) + boxRow(placed, row, height, marks, side, paint);
      at = placed.left + placed.width;
    }
    return text;
  });
}

function boxRow(placed: Placed, row: number, height: number, marks: Set<number>, side: "above" | "below", paint: Paint): string {
  const { width: size, box, lines } = placed;
  if (row === 0 || row === height - 1) {
    const [first, last, mark] = row === 0 ? ["┌", "┐", "┴"] : ["└", "┘", "┬"];
    const joined = (row === 0) === (side === "above");
    return Array.from({ length: size }, (_, at) => (at === 0 ? first : at === size - 1 ? last : joined && marks.has(at) ? mark : "─")).join(
      "",
    );
  }
  // The title stands within, not in the frame, where lines may join.
  const text = row === 1 ? box.title : (lines[row - 2] ?? "");
  const blanks = " ".repeat(Math.max(0, size - 4 - width(text)));
  return `│ ${row === 1 ? paint("strong", text) : text}${blanks} │`;
}

function busRows(picture: Picture, upper: Drop[], lower: Drop[], right: number, names: string[], paint: Paint): string[] {
  return picture.links.map((_, link) => {
    const own = new Map([...upper, ...lower].filter(drop => drop.link === link).map(drop => [drop.column, drop]));
    const passing = new Set(
      [...upper.filter(drop => drop.link > link), ...lower.filter(drop => drop.link < link)].map(drop => drop.column),
    );
    const ends = [...own.keys()].sort((a, b) => a - b);
    const from = ends[0] ?? 0;
    const to = ends.at(-1) ?? 0;
    const isUpper = (column: number) => upper.some(drop => drop.column === column && drop.link === link);
    let text = "";
    for (let column = 0; column < right; column++) {
      if (own.has(column)) text += corner(column, from, to, isUpper(column));
      else if (passing.has(column)) text += "│";
      else text += column > from && column < to ? "─" : " ";
    }
    return `${paint("accent", text)}  ${paint("dim", names[link])}`;
  });
}

function corner(column: number, from: number, to: number, up: boolean): string {
  if (from === to) return up ? "┴" : "┬";
  if (column === from) return up ? "└" : "┌";
  if (column === to) return up ? "┘" : "┐";
  return up ? "┴" : "┬";
}
