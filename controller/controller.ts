/**
 * What one agent of all does for the whole cluster, chosen by a Lease: the status of the objects that users write. While it leads it follows all of them,
 * all Nodes and all NodeStates; the others follow nothing of that.
 */
import type { Problem } from "../config/plan.ts";
import { apiVersion, GROUP } from "../config/resources/common.ts";
import { collect } from "../config/resources/kinds.ts";
import { ObjectStore } from "../config/sources/object-store.ts";
import type { ApiClient } from "../kubernetes/client.ts";
import { Election } from "../kubernetes/election.ts";
import { type Collection, ListWatch } from "../kubernetes/list-watch.ts";
import type { ApiObject } from "../kubernetes/types.ts";
import type { Clock, Timer } from "../platform/clock.ts";
import type { Logger } from "../platform/log.ts";
import { AddressAllocator } from "./addresses/allocator.ts";
import { Announcements } from "./announcements.ts";
import { findingsOf, type ObjectFindings, statusKinds, statusOf } from "./object-status.ts";
import { isSilent, type NodeReport, reportOf, summaryOf } from "./reports.ts";
import { StatusWriter } from "./status-writer.ts";

export interface ControllerOptions {
  /** Where the Lease is: podlane's own. */
  namespace: string;
  /** Of this candidate; no other may have it. */
  identity: string;
}

export interface ControllerParts {
  client: ApiClient;
  clock: Clock;
  log: Logger;
  /** 0 up to 1. */
  random(): number;
}

const LEASE_NAME = "podlane-controller";
/** Milliseconds of quiet after a change, and between two looks at all objects: compiling them takes a turn of the event loop. */
const QUIET = 1_000;
const COMPILE_INTERVAL = 10_000;
/** Objects of a page: whole Node objects are 10 to 50 kB each, a NodeState may be larger. */
const PAGE = 100;

export class Controller {
  readonly #parts: ControllerParts;
  readonly #election: Election;
  #term: Term | undefined;

  constructor({ namespace, identity }: ControllerOptions, parts: ControllerParts) {
    this.#parts = parts;
    this.#election = new Election(
      {
        ...{ namespace, name: LEASE_NAME, identity },
        candidates: () => this.#term?.nodeCount,
        started: () => {
          this.#term = new Term(identity, this.#parts);
        },
        stopped: () => {
          void this.#term?.close();
          this.#term = undefined;
        },
      },
      parts,
    );
  }

  get leading(): boolean {
    return this.#election.leading;
  }

  start(): void {
    this.#election.start();
  }

  async close(): Promise<void> {
    await Promise.all([this.#term?.close(), this.#election.close()]);
  }
}

/** One time of leading. */
class Term {
  readonly #parts: ControllerParts;
  readonly #watches: ListWatch[] = [];
  readonly #stores: ObjectStore[] = [];
  readonly #writer: StatusWriter;
  readonly #addresses: AddressAllocator;
  readonly #announcements: Announcements;
  readonly #reports = new Map<string, NodeReport>();
  readonly #silent = new Set<string>();
  readonly #nodes = new Set<string>();
  #findings: ObjectFindings | undefined;
  #compiledAt = Number.NEGATIVE_INFINITY;
  /** Objects have changed since. */
  #dirty = true;
  #timer: Timer | undefined;
  #closed = false;

  constructor(identity: string, parts: ControllerParts) {
    this.#parts = parts;
    this.#addresses = new AddressAllocator({ instance: identity, changed: () => this.#settled() }, parts);
    this.#announcements = new Announcements(parts);
    this.#writer = new StatusWriter(parts, () => this.#nodes.size);
    for (const { kind, plural } of statusKinds) {
      const collection = { path: `/apis/${apiVersion}/${plural}`, name: `${plural}.${GROUP}` };
      this.#followObjects(collection, new ObjectStore(apiVersion, kind), {
        set: object => this.#writer.seen(kind, plural, object),
        delete: name => this.#writer.gone(kind, name),
      });
    }
    this.#followObjects({ path: "/api/v1/nodes", name: "nodes", page: PAGE }, new ObjectStore("v1", "Node"), {
      set: object => this.#nodeSeen(object),
      delete: name => {
        this.#nodes.delete(name);
        this.#silent.delete(name);
      },
    });
    this.#follow(
      { path: `/apis/${apiVersion}/nodestates`, name: `nodestates.${GROUP}`, page: PAGE },
      {
        set: object => void this.#reports.set(object.metadata.name, reportOf(object)),
        delete: name => void this.#reports.delete(name),
      },
    );
    for (const watch of this.#watches) watch.start();
  }

  /** undefined: not known yet. */
  get nodeCount(): number | undefined {
    return this.#isComplete() ? this.#nodes.size : undefined;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await Promise.all([
      this.#addresses.close(),
      this.#announcements.close(),
      this.#writer.close(),
      ...this.#watches.map(watch => watch.close()),
    ]);
  }

  #followObjects(collection: Collection, store: ObjectStore, also: Listener): void {
    this.#stores.push(store);
    this.#follow(collection, {
      set: object => {
        also.set(object);
        if (store.set(object)) this.#dirty = true;
      },
      delete: name => {
        also.delete(name);
        if (store.delete(name)) this.#dirty = true;
      },
    });
  }

  #follow(collection: Collection, listener: Listener): void {
    this.#watches.push(new ListWatch(collection, this.#parts, { ...listener, settled: () => this.#settled() }));
  }

  #nodeSeen(node: ApiObject): void {
    const { name } = node.metadata;
    this.#nodes.add(name);
    if (isSilent(node)) this.#silent.add(name);
    else this.#silent.delete(name);
  }

  #isComplete(): boolean {
    return this.#watches.every(({ synced }) => synced);
  }

  #settled(): void {
    if (this.#closed || this.#timer || !this.#isComplete()) return;
    this.#later(QUIET);
  }

  #look(): void {
    const { clock } = this.#parts;
    const wait = this.#compiledAt + COMPILE_INTERVAL - clock.monotonic();
    if (this.#dirty && wait > 0) {
      // What is known is of other objects.
      this.#later(wait);
      return;
    }
    if (this.#dirty || !this.#findings) this.#findings = this.#compile();
    const findings = this.#findings;
    const summary = summaryOf(this.#reports, this.#silent);
    this.#writer.want((kind, name) => {
      if (kind !== "AddressPool") return statusOf(kind, name, findings, summary);
      const usage = this.#addresses.usage(name);
      return usage && { ...statusOf(kind, name, findings, summary), ...usage };
    });
  }

  #later(milliseconds: number): void {
    this.#timer = this.#parts.clock.after(milliseconds, () => {
      this.#timer = undefined;
      this.#look();
    });
  }

  #compile(): ObjectFindings {
    const { resources } = collect(this.#stores.flatMap(store => [...store.objects()]));
    const unread: Problem[] = this.#stores.flatMap(store => [...store.problems()]);
    this.#compiledAt = this.#parts.clock.monotonic();
    this.#dirty = false;
    this.#announcements.use(resources);
    return findingsOf(resources, unread);
  }
}

interface Listener {
  set(object: ApiObject): void;
  delete(name: string): void;
}
