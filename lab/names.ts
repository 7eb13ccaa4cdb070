/** Shipped topologies and how the word on the command line becomes a file or a running lab. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import { listStates } from "./engine/state.ts";

const topologyFolder = new URL("./topologies/", import.meta.url).pathname;

export interface Shipped {
  name: string;
  title: string;
  file: string;
}

export function shippedTopologies(): Shipped[] {
  return readdirSync(topologyFolder)
    .filter(file => file.endsWith(".yaml"))
    .sort()
    .map(file => {
      const path = `${topologyFolder}${file}`;
      const { title } = parse(readFileSync(path, "utf8")) as { title?: string };
      return { name: file.slice(0, -".yaml".length), title: title ?? "", file: path };
    });
}

/** A name of a shipped topology, or a path. Throws with what there is. */
export function topologyFile(word: string): string {
  const shipped = shippedTopologies();
  const found = shipped.find(each => each.name === word);
  if (found !== undefined && !word.includes("/")) return found.file;
  if (existsSync(word)) return word;
  throw new Error(`there is no topology "${word}": name a YAML file, or one of ${shipped.map(each => each.name).join(", ")}`);
}

/** The running lab meant by `name`; without a name the only one there is. Throws when there is none or a choice. */
export function runningLab(name?: string): string {
  const ids = listStates();
  if (name !== undefined) {
    if (ids.includes(name)) return name;
    throw new Error(`no lab "${name}" is there; ${ids.length === 0 ? "none is: `npm run lab` makes one" : `there is ${ids.join(", ")}`}`);
  }
  if (ids.length === 1) return ids[0];
  throw new Error(ids.length === 0 ? "no lab is there: `npm run lab` makes one" : `several labs are there, say which: ${ids.join(", ")}`);
}
