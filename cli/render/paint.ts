/** Colours for a terminal, and the forms in which numbers and times appear in tables. */
import { styleText } from "node:util";

export type Tone = "plain" | "good" | "bad" | "warn" | "dim" | "strong" | "accent";

/** Colours a text, or leaves it as it is. */
export type Paint = (tone: Tone, text: string) => string;

const styles = {
  good: "green",
  bad: "red",
  warn: "yellow",
  dim: "dim",
  strong: "bold",
  accent: "cyan",
} as const;

export const plain: Paint = (_tone, text) => text;

export const coloured: Paint = (tone, text) =>
  tone === "plain" || text === "" ? text : styleText(styles[tone], text, { validateStream: false });

/** Colours only where a person looks at a terminal and has not asked for none (https://no-color.org). */
export function paintFor(stream: { isTTY?: boolean }, environment: NodeJS.ProcessEnv): Paint {
  if (environment.NO_COLOR || environment.TERM === "dumb") return plain;
  return stream.isTTY ? coloured : plain;
}

/** "1,234,567". */
export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** Two units at most: "3 d 4 h", "12 min 5 s", "0 s". */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const units: [string, number][] = [
    ["d", Math.floor(seconds / 86400)],
    ["h", Math.floor(seconds / 3600) % 24],
    ["min", Math.floor(seconds / 60) % 60],
    ["s", seconds % 60],
  ];
  const first = units.findIndex(([, amount]) => amount > 0);
  if (first < 0) return "0 s";
  return units
    .slice(first, first + 2)
    .filter(([, amount]) => amount > 0)
    .map(([unit, amount]) => `${amount} ${unit}`)
    .join(" ");
}

/** Control characters of foreign text (a neighbour's shutdown message, a file name) made visible, so that they cannot steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, character => `\\u{${character.codePointAt(0)!.toString(16)}}`);
}
