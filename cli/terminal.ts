/** Where a command writes. */
import type { Paint } from "./render/paint.ts";

export interface Terminal {
  /** Writes to standard output. */
  print(text: string): void;
  paint: Paint;
  /** Milliseconds since the epoch. */
  now(): number;
}
