/**
 * The drawing as SVG: routers in the upper tier, a bar for each switch of its own in the middle, nodes with their pods below. One colour per
 * link, from the line to the address it gives. No outside fonts or scripts: the file stands alone.
 */
import type { Picture, PictureBox, PictureLink } from "./picture.ts";

const colours = [
  ...["#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2"],
  ...["#65a30d", "#db2777", "#92400e", "#4f46e5", "#0f766e", "#64748b"],
];
const LINE = 18;
const MARGIN = 40;
const BOX_GAP = 36;
const TIER_GAP = 110;
const CHARACTER_WIDTH = 7.0;
/** Of a character of the title. */
const TITLE_WIDTH = 11.5;
const CHIP_LINE = 15;

interface Frame {
  box: PictureBox;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** The line of a link, and the dots where it meets the boxes: those are drawn over the boxes. */
interface Wire {
  path: string;
  dots: string[];
}

/** A whole SVG document. */
export function drawSvg(picture: Picture): string {
  const tiers = picture.tiers.map(boxes => frames(boxes, 0));
  const legendWidth = Math.max(...picture.links.map(link => 32 + legendText(link).length * CHARACTER_WIDTH));
  const inner = Math.max(...tiers.map(rowWidth), picture.title.length * TITLE_WIDTH, legendWidth, 420);
  for (const tier of tiers) spread(tier, inner);
  const bars: { index: number; y: number }[] = [];
  let y = setBars(picture, -1, bars, 92);
  for (const [at, tier] of tiers.entries()) y = setBars(picture, at, bars, setRow(tier, y));
  // Lines that hang below the last tier need the room.
  const hanging = picture.links.some(link => link.below === tiers.length - 1);
  const legend = y - TIER_GAP + (hanging ? 90 : 44);
  const width = inner + 2 * MARGIN;
  const height = legend + picture.links.length * 22 + 16;
  const all = new Map(tiers.flat().map(frame => [frame.box.id, frame]));
  const wires = picture.links.flatMap((link, index) =>
    link.kind === "switch" ? barLines(link, index, bars.find(bar => bar.index === index)?.y ?? 0, all) : spokes(link, index, all),
  );
  const parts = [
    `<rect width="${width}" height="${height}" fill="#f8fafc"/>`,
    text(MARGIN, 44, picture.title, { size: 20, weight: 600, fill: "#0f172a" }),
    ...wires.map(wire => wire.path),
    ...bars.map(bar => barShape(picture.links[bar.index], bar.index, bar.y, inner)),
    ...tiers
      .flat()
      .map(frame =>
        frame.box.router ? boxShape(frame, "#0f172a", "#ffffff", "#cbd5e1") : boxShape(frame, "#ffffff", "#0f172a", "#475569"),
      ),
    ...wires.flatMap(wire => wire.dots),
    ...picture.links.map((link, index) => legendLine(link, index, legend + index * 22)),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, 'DejaVu Sans', sans-serif" font-size="12">\n<title>${escapeText(picture.title)}</title>\n${parts.join("\n")}\n</svg>\n`;
}

function boxTexts(box: PictureBox): string[] {
  return [
    `${box.title}  ${box.subtitle}  `,
    ...box.interfaces.map(each => `    ${each.interface}  ${each.addresses.join("  ")}`),
    ...(box.subnets.length > 0 ? [`pods  ${box.subnets.join("  ")}`] : []),
  ];
}

function frames(boxes: PictureBox[], y: number): Frame[] {
  let x = MARGIN;
  return boxes.map(box => {
    const chips = box.pods.length === 0 ? 0 : Math.min(2, box.pods.length) * chipWidth(box) + 12;
    const width = Math.max(170, chips + 20, 32 + Math.max(...boxTexts(box).map(each => each.length)) * CHARACTER_WIDTH);
    const rows = Math.ceil(box.pods.length / 2);
    const height = 44 + box.interfaces.length * LINE + (box.subnets.length > 0 ? LINE + 6 : 0) + rows * (chipHeight(box) + 8);
    const frame = { box, x, y, width, height };
    x += width + BOX_GAP;
    return frame;
  });
}

function chipWidth(box: PictureBox): number {
  return 24 + Math.max(...box.pods.flatMap(pod => [pod.name, ...pod.addresses]).map(each => each.length)) * 6.4;
}

/** A line for the name and one for each address. */
function chipHeight(box: PictureBox): number {
  return 25 + CHIP_LINE * Math.max(1, ...box.pods.map(pod => pod.addresses.length));
}

function rowWidth(row: Frame[]): number {
  const last = row.at(-1);
  return last === undefined ? 0 : last.x + last.width - MARGIN;
}

function spread(row: Frame[], inner: number): void {
  const share = (inner - rowWidth(row)) / (row.length + 1);
  for (const [index, frame] of row.entries()) frame.x += share * (index + 1);
}

/** Places a row and returns where the next one may begin. */
function setRow(row: Frame[], y: number): number {
  for (const frame of row) frame.y = y;
  return row.length === 0 ? y : y + Math.max(...row.map(frame => frame.height)) + TIER_GAP;
}

/** Places the bars of a band, from `y` on, and returns where the next row may begin. */
function setBars({ links }: Picture, at: number, bars: { index: number; y: number }[], y: number): number {
  const here = links.flatMap((link, index) => (link.kind === "switch" && link.below === at ? [index] : []));
  for (const [number, index] of here.entries()) bars.push({ index, y: y + number * 46 });
  return here.length === 0 ? y : y + here.length * 46 + TIER_GAP - 60;
}

/** Where on a box's edge the line of a link arrives: interfaces side by side. */
function anchor(frame: Frame, link: number, side: "top" | "bottom"): { x: number; y: number } {
  const index = frame.box.interfaces.findIndex(each => each.link === link);
  const x = frame.x + (frame.width * (index + 1)) / (frame.box.interfaces.length + 1);
  return { x, y: side === "top" ? frame.y : frame.y + frame.height };
}

/** From the first member to each of the others: the router that the switch is part of, or one end of a cable. */
function spokes(link: PictureLink, index: number, all: ReadonlyMap<string, Frame>): Wire[] {
  const [hub, ...others] = link.members.map(id => all.get(id)).filter(frame => frame !== undefined);
  return others.flatMap(frame => {
    if (frame.y === hub.y) {
      const a = anchor(hub, index, "bottom");
      const b = anchor(frame, index, "bottom");
      return [
        { path: curve(index, `M${a.x} ${a.y} C${a.x} ${a.y + 60} ${b.x} ${b.y + 60} ${b.x} ${b.y}`), dots: [dot(index, a), dot(index, b)] },
      ];
    }
    const [upper, lower] = hub.y < frame.y ? [hub, frame] : [frame, hub];
    const a = anchor(upper, index, "bottom");
    const b = anchor(lower, index, "top");
    const middle = (a.y + b.y) / 2;
    return [
      { path: curve(index, `M${a.x} ${a.y} C${a.x} ${middle} ${b.x} ${middle} ${b.x} ${b.y}`), dots: [dot(index, a), dot(index, b)] },
    ];
  });
}

function barLines(link: PictureLink, index: number, y: number, all: ReadonlyMap<string, Frame>): Wire[] {
  return link.members
    .map(id => all.get(id))
    .filter(frame => frame !== undefined)
    .flatMap(frame => {
      const side = frame.y > y ? "top" : "bottom";
      const end = anchor(frame, index, side);
      return [{ path: curve(index, `M${end.x} ${y + 14} L${end.x} ${end.y}`), dots: [dot(index, end)] }];
    });
}

function barShape(link: PictureLink, index: number, y: number, inner: number): string {
  const colour = colours[index % colours.length];
  return [
    `<rect x="${MARGIN}" y="${y}" width="${inner}" height="28" rx="6" fill="${colour}"/>`,
    text(MARGIN + 14, y + 18, `${link.name}   ${link.subnets.join("   ")}`, { size: 12, weight: 600, fill: "#ffffff" }),
  ].join("\n");
}

function boxShape(frame: Frame, fill: string, ink: string, pale: string): string {
  const { box, x, y, width, height } = frame;
  const parts = [
    `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="10" fill="${fill}" stroke="#0f172a" stroke-opacity="0.25"/>`,
    `<text x="${x + 16}" y="${y + 26}" font-size="15" font-weight="600" fill="${ink}">${escapeText(box.title)}<tspan dx="10" font-size="12" font-weight="400" fill="${pale}">${escapeText(box.subtitle)}</tspan></text>`,
  ];
  let at = y + 48;
  for (const each of box.interfaces) {
    parts.push(`<circle cx="${x + 21}" cy="${at - 4}" r="4" fill="${colours[each.link % colours.length]}"/>`);
    parts.push(text(x + 32, at, `${each.interface}  ${each.addresses.join("  ")}`, { size: 12, fill: pale }));
    at += LINE;
  }
  if (box.subnets.length > 0) {
    parts.push(text(x + 16, at + 2, `pods  ${box.subnets.join("  ")}`, { size: 12, fill: ink, weight: 600 }));
    at += LINE + 6;
  }
  const chip = box.pods.length === 0 ? 0 : (width - 32 - 8) / Math.min(2, box.pods.length);
  for (const [index, pod] of box.pods.entries()) {
    const chipX = x + 16 + (index % 2) * (chip + 8);
    const chipY = at - 10 + Math.floor(index / 2) * (chipHeight(box) + 8);
    parts.push(
      `<rect x="${chipX}" y="${chipY}" width="${box.pods.length === 1 ? width - 32 : chip}" height="${chipHeight(box)}" rx="6" fill="#dcfce7" stroke="#16a34a" stroke-opacity="0.5"/>`,
    );
    parts.push(text(chipX + 10, chipY + 17, pod.name, { size: 12, weight: 600, fill: "#14532d" }));
    for (const [n, address] of pod.addresses.entries()) {
      parts.push(text(chipX + 10, chipY + 32 + n * CHIP_LINE, address, { size: 11, fill: "#166534" }));
    }
  }
  return parts.join("\n");
}

function legendText(link: PictureLink): string {
  const kinds = { "point-to-point": "cable", switch: "switch", inside: `switch in ${link.members[0]}` };
  return `${link.name}   ${link.subnets.join("   ")}   (${kinds[link.kind]})`;
}

function legendLine(link: PictureLink, index: number, y: number): string {
  return `<rect x="${MARGIN}" y="${y - 10}" width="22" height="4" rx="2" fill="${colours[index % colours.length]}"/>\n${text(MARGIN + 32, y - 3, legendText(link), { size: 12, fill: "#475569" })}`;
}

function curve(index: number, path: string): string {
  return `<path d="${path}" fill="none" stroke="${colours[index % colours.length]}" stroke-width="2.5" stroke-linecap="round"/>`;
}

function dot(index: number, at: { x: number; y: number }): string {
  return `<circle cx="${at.x}" cy="${at.y}" r="5" fill="${colours[index % colours.length]}" stroke="#ffffff" stroke-width="1.5"/>`;
}

function text(x: number, y: number, content: string, style: { size: number; fill: string; weight?: number }): string {
  const weight = style.weight === undefined ? "" : ` font-weight="${style.weight}"`;
  return `<text x="${x}" y="${y}" font-size="${style.size}"${weight} fill="${style.fill}" xml:space="preserve">${escapeText(content)}</text>`;
}

function escapeText(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
