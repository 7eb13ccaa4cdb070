/**
 * Steps as they happen: on a terminal one line each, first with a dot, then ticked with its time; elsewhere (a pipe, CI) one plain line
 * when the step is done.
 */
import type { Paint } from "../../cli/render/paint.ts";
import type { Progress } from "../engine/lab.ts";

export interface Output {
  isTTY?: boolean;
  columns?: number;
  write(text: string): unknown;
}

export function terminalProgress(output: Output, paint: Paint): Progress {
  // Steps may stand within a step: the inner ones are indented, and the outer line cannot be overwritten any more.
  let depth = 0;
  let written = 0;
  let open = false;
  return {
    async step(title, work) {
      const indent = "  ".repeat(depth + 1);
      // An outer step's line is ended before the first inner one begins.
      if (output.isTTY && depth > 0 && open) output.write("\n");
      open = true;
      // A line that wraps could not be overwritten.
      const room = Math.max(1, (output.columns ?? 80) - indent.length - 3);
      if (output.isTTY) output.write(`${indent}${paint("dim", "·")} ${title.slice(0, room)}`);
      depth++;
      written++;
      const mine = written;
      const begin = performance.now();
      let detail = "";
      const finish = (mark: string) => {
        depth--;
        const time = paint("dim", formatTime(performance.now() - begin));
        const start = output.isTTY ? (mine === written ? "\r\u001b[K" : "") : "";
        open = false;
        output.write(`${start}${indent}${mark} ${title}${detail === "" ? "" : `  ${paint("dim", detail)}`}  ${time}\n`);
      };
      try {
        const result = await work(text => {
          detail = text;
        });
        finish(paint("good", "✔"));
        return result;
      } catch (error) {
        finish(paint("bad", "✘"));
        throw error;
      }
    },
    note(text) {
      output.write(`${text}\n`);
    },
  };
}

export function formatTime(milliseconds: number): string {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
