/**
 * Objects from the files of a directory: *.yaml, *.yml, *.json, not recursive. Hot reload is atomic by file: a file that is half-written or
 * broken keeps its last good documents and is reported; one that goes away takes its objects along. Directories that are swapped as a whole
 * through a symbolic link (Kubernetes' ConfigMap mounts with ..data) are followed, because every scan opens the path anew.
 */
import { createHash } from "node:crypto";
import { constants, type FSWatcher, watch } from "node:fs";
import { open, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import type { Problem } from "../plan.ts";
import type { ReadResult } from "../resources/documents.ts";
import { type AnyResource, collect, type Resources } from "../resources/kinds.ts";
import { PolicyKinds, type PolicyObject } from "../resources/policy-documents.ts";
import { ServiceKinds, type ServiceObject } from "../resources/service-documents.ts";
import { Limits } from "../resources/yaml.ts";
import { ServiceIndex } from "../services/service-index.ts";
import { FilePolicies } from "./file-policies.ts";
import { TextReader } from "./reading.ts";
import type { ResourceListener, ResourceSource } from "./source.ts";

export interface DirectoryOptions {
  /** Name of this node, whose endpoints are counted. */
  node?: string;
  /** Quiet time: a file is taken over when it has not been written for so long. Milliseconds. */
  debounce?: number;
  /** A scan of its own as a safety net where the file system reports no changes (network mounts). Milliseconds; 0 = none. */
  interval?: number;
}

const MAX_FILES = 2000;
/** How often a file that is being written is waited for, a quiet time each. */
const MAX_ROUNDS = 20;
const MAX_TOTAL = 64 * 1024 * 1024;

interface Placed {
  object: AnyResource | ServiceObject | PolicyObject;
  place: string;
  /** It has a fault, and was never a good one: what can be read of it. */
  closed?: true;
}

interface FileState {
  hash: string;
  /** The last good reading. */
  good: Placed[];
  problems: Problem[];
  /** Nothing is known of what it says. */
  isLost: boolean;
  /** Of what is good, without what the index of Services and policies take. */
  digest: string;
}

export class DirectorySource implements ResourceSource {
  readonly services: ServiceIndex;
  readonly policies = new FilePolicies();
  readonly #path: string;
  readonly #debounce: number;
  readonly #interval: number;
  readonly #files = new Map<string, FileState>();
  readonly #reader = new TextReader();
  /** File by object. */
  readonly #homes = new Map<string, string>();
  #listener: ResourceListener | undefined;
  #watcher: FSWatcher | undefined;
  #watched = "";
  #timer: NodeJS.Timeout | undefined;
  #ticker: NodeJS.Timeout | undefined;
  #scanning: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #delivered = "";
  /** Files have changed since Services and policies were taken from them. */
  #isStale = true;
  #objects = 0;

  constructor(path: string, { node, debounce = 100, interval = 10_000 }: DirectoryOptions = {}) {
    this.services = new ServiceIndex(node);
    this.#path = path;
    this.#debounce = debounce;
    this.#interval = interval;
  }

  /** Rejects when the directory cannot be read. */
  async start(listener: ResourceListener): Promise<void> {
    this.#listener = listener;
    await readdir(this.#path).catch((error: Error) => {
      throw new Error(`cannot read the configuration directory ${this.#path}: ${error.message}. Create it, or name another with --config`);
    });
    await this.#scan();
    if (this.#interval > 0 && !this.#closed) {
      this.#ticker = setInterval(() => void this.#scan(), this.#interval);
      this.#ticker.unref();
    }
  }

  /** How many are in use. */
  get objects(): number {
    return this.#objects;
  }

  async reload(): Promise<void> {
    await this.#scan();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    this.#watcher?.close();
    this.#watcher = undefined;
    await this.#reader.close();
    await this.#scanning;
  }

  /** One scan at a time; a change during a scan makes another one follow. */
  #scan(): Promise<void> {
    if (this.#scanning) {
      this.#again = true;
      return this.#scanning;
    }
    this.#scanning = this.#scanUntilQuiet().finally(() => {
      this.#scanning = undefined;
    });
    return this.#scanning;
  }

  async #scanUntilQuiet(): Promise<void> {
    let rounds = 0;
    do {
      this.#again = false;
      const settled = await this.#scanOnce(rounds >= MAX_ROUNDS);
      if (settled) continue;
      rounds++;
      this.#again = true;
      await delay(this.#debounce);
    } while (this.#again && !this.#closed);
  }

  /** false: a file was written a moment ago and may not be whole; nothing is delivered. `anyway`: do not wait for it any longer. */
  async #scanOnce(anyway: boolean): Promise<boolean> {
    if (this.#closed) return true;
    // Before reading: what changes while files are read is then seen as an event.
    await this.#watch();
    const problems: Problem[] = [];
    const present = await readAll(this.#path, problems);
    if (this.#closed) return true;
    const fresh = present ? [...present.texts.keys()].filter(name => this.#isFresh(name, present)) : [];
    if (fresh.length > 0 && !anyway) return false;
    if (present) await this.#take(present, problems);
    if (this.#closed) return true;
    this.#deliver(problems);
    return true;
  }

  /** New text that was written less than the quiet time ago. A time of writing in the future is that of a wrong clock. */
  #isFresh(name: string, { texts, ages }: Present): boolean {
    const age = ages.get(name) ?? Number.POSITIVE_INFINITY;
    return age >= 0 && age < this.#debounce && this.#files.get(name)?.hash !== hashOf(texts.get(name) ?? "");
  }

  async #take({ texts, unreadable }: Present, problems: Problem[]): Promise<void> {
    for (const name of this.#files.keys()) {
      if (texts.has(name) || unreadable.has(name)) continue;
      this.#files.delete(name);
      this.#isStale = true;
    }
    for (const [name, text] of texts) {
      const hash = hashOf(text);
      const known = this.#files.get(name);
      if (known?.hash === hash) continue;
      if (text.trim() === "" && known && known.good.length > 0) {
        // Editors and `cp` empty a file before they write it.
        const message = "is empty; what it said before stays in force";
        problems.push({
          severity: "error",
          reason: "EmptyFile",
          object: name,
          field: "",
          message,
          remedy: "write it, or delete it to remove its objects",
        });
        continue;
      }
      const read = await this.#reader.read(text, name);
      if (this.#closed) return;
      // Of many small files none has waited.
      await nextTurn();
      this.#isStale = true;
      this.#files.set(name, { hash, ...lastGood(read, known?.good ?? []) });
    }
  }

  #deliver(problems: Problem[]): void {
    const { resources, services, policies, problems: found } = merge(this.#files, this.#homes);
    if (this.#isStale || this.policies.missing() !== undefined)
      this.policies.take([...policies, ...services, ...resources.nodes.values()], this.#unread(problems));
    if (this.#isStale) this.#takeServices(services);
    this.#objects =
      services.length + policies.length + Object.values(resources).reduce((sum, kind) => sum + (kind instanceof Map ? kind.size : 0), 0);
    const all = [...problems, ...found];
    const state = hashOf(JSON.stringify([[...this.#files].map(([name, { digest }]) => [name, digest]).sort(), all]));
    if (state === this.#delivered) return;
    this.#delivered = state;
    this.#listener?.(resources, all);
  }

  /** Files of which no version was read; of a directory that cannot be read its path. */
  #unread(problems: readonly Problem[]): string[] {
    const refused = problems.filter(({ severity, object }) => severity === "error" && !this.#files.has(object));
    const lost = [...this.#files].filter(([, { isLost }]) => isLost);
    return [...refused.map(({ object }) => object), ...lost.map(([name]) => name)];
  }

  /** Of what is as it was the index tells nobody. */
  #takeServices(objects: readonly ServiceObject[]): void {
    this.#isStale = false;
    const index = this.services;
    const keys = { Service: new Set<string>(), EndpointSlice: new Set<string>(), Namespace: new Set<string>() };
    for (const object of objects) {
      keys[object.kind].add(keyOf(object));
      if (object.kind === "Service") index.setService(object);
      else if (object.kind === "EndpointSlice") index.setSlice(object);
      else index.setNamespace(object);
    }
    index.keepOnly(keys.Service, keys.EndpointSlice, keys.Namespace);
    index.settle();
  }

  /** Follows the directory behind the path, also when a link has been turned to another one. */
  async #watch(): Promise<void> {
    const real = await realpath(this.#path).catch(() => "");
    if (this.#closed || (this.#watcher && real === this.#watched)) return;
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#watched = real;
    if (!real) return;
    try {
      this.#watcher = watch(real, { persistent: false }, () => this.#changed());
      this.#watcher.on("error", () => this.#lost());
    } catch {
      // Without events the interval still finds changes.
      this.#watcher = undefined;
    }
  }

  #lost(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#changed();
  }

  #changed(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#scan(), this.#debounce);
  }
}

interface Present {
  texts: Map<string, string>;
  /** Milliseconds since each file was last written. */
  ages: Map<string, number>;
  /** There, but not to be read now: what they said stays. */
  unreadable: Set<string>;
}

/** undefined: the directory itself cannot be read, so nothing is known about its files. */
async function readAll(path: string, problems: Problem[]): Promise<Present | undefined> {
  const fail = (object: string, message: string, remedy: string) =>
    problems.push({ severity: "error", reason: "UnreadableFile", object, field: "", message, remedy });
  let names: string[];
  try {
    names = (await readdir(path)).filter(name => !name.startsWith(".") && /\.(yaml|yml|json)$/.test(name)).sort();
  } catch (error) {
    fail(path, `cannot be read: ${(error as Error).message}; the last good state stays in force`, "put the directory back");
    return undefined;
  }
  if (names.length > MAX_FILES) {
    fail(path, `holds ${names.length} files; only the first ${MAX_FILES} by name are read`, "put several objects into one file");
    names.length = MAX_FILES;
  }
  const present: Present = { texts: new Map(), ages: new Map(), unreadable: new Set() };
  let total = 0;
  for (const name of names) {
    try {
      const { text, age } = await readBounded(join(path, name));
      total += text?.length ?? 0;
      if (text === undefined)
        fail(
          name,
          `is larger than ${Limits.fileSize} octets, or no plain file; what it said before stays in force`,
          "split it into several files",
        );
      else if (total > MAX_TOTAL)
        fail(name, `all files together are larger than ${MAX_TOTAL} octets; what this one said before stays in force`, "take some out");
      else {
        present.texts.set(name, text);
        present.ages.set(name, age);
        continue;
      }
      present.unreadable.add(name);
    } catch (error) {
      // Gone between readdir and open: the next event tells.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      fail(name, `cannot be read: ${(error as Error).message}; what it said before stays in force`, "correct its permissions");
      present.unreadable.add(name);
    }
  }
  return present;
}

/**
 * No text: too large, or no plain file. The age is that after reading, so that what changed meanwhile is young. Opening a FIFO would wait for a writer,
 * and a device may do anything: so it is looked at first, through links, and what was swapped in between does not block.
 */
async function readBounded(path: string): Promise<{ text?: string; age: number }> {
  if (!(await stat(path)).isFile()) return { age: 0 };
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const before = await handle.stat();
    if (!before.isFile() || before.size > Limits.fileSize) return { age: 0 };
    // To its end, whatever its size was said to be; a little more than that is asked for, so that one read is the rule.
    const chunks: Buffer[] = [];
    let total = 0;
    for (let room = before.size + 1; ; room = 64 * 1024) {
      const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafeSlow(room), 0, room, total);
      total += bytesRead;
      if (total > Limits.fileSize) return { age: 0 };
      chunks.push(buffer.subarray(0, bytesRead));
      if (bytesRead < room) break;
    }
    return { text: Buffer.concat(chunks, total).toString("utf8"), age: Date.now() - (await handle.stat()).mtimeMs };
  } finally {
    await handle.close();
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Broken text: all that the file said before stays. A bad object: its own last good version stays, its neighbours are taken over. */
function lastGood(read: ReadResult, before: Placed[]): Omit<FileState, "hash"> {
  const { problems } = read;
  const policies: Placed[] = read.policies;
  const fresh: Placed[] = [...read.objects, ...read.services, ...policies.filter(({ closed }) => !closed)];
  const bad = new Set(problems.map(({ object }) => object));
  const isFresh = new Set(fresh.map(({ object }) => nameOf(object)));
  const kept = before.filter(({ object, closed }) => !closed && bad.has(nameOf(object)) && !isFresh.has(nameOf(object)));
  const isKept = new Set(kept.map(({ object }) => nameOf(object)));
  const closed = policies.filter(one => one.closed && !isKept.has(nameOf(one.object)));
  const good = read.broken ? before : [...fresh, ...kept, ...closed];
  const others = good.flatMap(({ object }) => (isOfServices(object) || isOfPolicies(object) ? [] : [object]));
  return { good, problems, isLost: read.broken && before.length === 0, digest: hashOf(JSON.stringify(others)) };
}

/** "Node/n1", "Service/shop/web" */
function nameOf(object: Placed["object"]): string {
  return `${object.kind}/${keyOf(object)}`;
}

function keyOf({ metadata }: Placed["object"]): string {
  return "namespace" in metadata && metadata.namespace !== undefined ? `${metadata.namespace}/${metadata.name}` : metadata.name;
}

function isOfServices(object: Placed["object"]): object is ServiceObject {
  return Object.hasOwn(ServiceKinds, object.kind);
}

function isOfPolicies(object: Placed["object"]): object is PolicyObject {
  return Object.hasOwn(PolicyKinds, object.kind);
}

interface Merged {
  resources: Resources;
  services: ServiceObject[];
  policies: PolicyObject[];
  problems: Problem[];
}

/**
 * Files by name, documents in order. Of the same object twice the one of the file that it came from before is used, else the first. `homes`: file by
 * object, brought up to date.
 */
function merge(files: ReadonlyMap<string, FileState>, homes: Map<string, string>): Merged {
  const ordered = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
  const all = ordered.flatMap(([file, { good }]) =>
    good.map(one => ({ ...one, file, name: nameOf(one.object), atHome: homes.get(nameOf(one.object)) === file })),
  );
  const problems = ordered.flatMap(([, state]) => state.problems);
  const firsts = new Map<string, (typeof all)[number]>();
  for (const one of [...all.filter(({ atHome }) => atHome), ...all.filter(({ atHome }) => !atHome)]) {
    const first = firsts.get(one.name);
    if (first) problems.push(isThereTwice(one.name, first.place, one.place));
    else firsts.set(one.name, one);
  }
  homes.clear();
  for (const [name, { file }] of firsts) homes.set(name, file);
  const objects = [...firsts.values()].map(({ object }) => object);
  const isResource = (object: Placed["object"]): object is AnyResource => !isOfServices(object) && !isOfPolicies(object);
  const { resources } = collect(objects.filter(isResource));
  return { resources, services: objects.filter(isOfServices), policies: objects.filter(isOfPolicies), problems };
}

function isThereTwice(object: string, first: string, place: string): Problem {
  const message = `is there twice: ${first} and ${place}; that of ${first} is used`;
  return { severity: "error", reason: "DuplicateObject", object, field: "", message, remedy: "take one of them out", place };
}
