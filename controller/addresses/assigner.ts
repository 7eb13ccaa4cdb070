/**
 * Gives one Service its addresses, step by step, so that no address ever has two owners, whatever other leaders believe and wherever this one ends:
 *
 * 1. The claim is created, or the Service is added to it; the API server lets one win. The claim then says for which version of the Service it was.
 * 2. The Service's status is written, for that version alone: a Service that has changed since refuses, and all begins anew.
 * 3. Released is in the other order: the address goes out of the status, then the claim goes, if it is still the version that was known before
 *    the Service was read again, and the Service is not at the version that the claim names. So whoever might still write the status with this address has
 *    either changed the claim, which refuses then, or the wrong version of the Service, which refuses then.
 */
import { apiVersion } from "../../config/resources/common.ts";
import type { AddressBook, Claim, ClaimedBy } from "../../config/services/address-book.ts";
import { keyOf } from "../../config/services/address-book.ts";
import { type Decision, decide } from "../../config/services/address-decision.ts";
import { ADDRESS_CONDITION, type AddressCondition, type BalancedService, readBalanced } from "../../config/services/balanced.ts";
import { claimName, claimSpec, readClaim } from "../../config/services/claims.ts";
import type { ApiClient } from "../../kubernetes/client.ts";
import { metaTime } from "../../kubernetes/conditions.ts";
import { ApiError, type ApiObject } from "../../kubernetes/types.ts";
import type { Clock } from "../../platform/clock.ts";

export interface AssignerParts {
  client: Pick<ApiClient, "get" | "create" | "replace" | "patch" | "delete">;
  clock: Clock;
  /** It is to be settled again after these milliseconds. */
  later(key: string, milliseconds: number): void;
  /** After its status was written. */
  written(service: BalancedService, decision: Decision): void;
}

/** Ways to go on: nothing is left to do, something was another than was believed, or its turn has not come. */
type Outcome = "done" | "again" | "later";

const CLAIMS = `/apis/${apiVersion}/addressclaims`;
/** How often one Service is looked at in one go: each time others were faster. */
const MAX_TRIES = 64;
/**
 * Writes of a Service's addresses before a pause of so many milliseconds between two, until there was none for a longer time: somebody else may put back what
 * he wants at once, for ever.
 */
const BURST = 2;
const LEAST_INTERVAL = 10_000;
const QUIET = 60_000;

export class Assigner {
  readonly #book: AddressBook;
  readonly #parts: AssignerParts;
  /** Writes of addresses by Service, and when the last one was. */
  readonly #writes = new Map<string, { count: number; at: number }>();
  #closed = false;

  constructor(book: AddressBook, parts: AssignerParts) {
    this.#book = book;
    this.#parts = parts;
  }

  /** No write begins from now on. */
  close(): void {
    this.#closed = true;
  }

  /** Throws ApiError where the server refuses or is away. */
  async settle(key: string): Promise<Decision | undefined> {
    for (let i = 0; i < MAX_TRIES; i++) {
      if (this.#closed) return undefined;
      const decision = decide(this.#book, key);
      if ((await this.#step(key, decision)) !== "again") return decision;
    }
    throw new ApiError(409, "Conflict", "others write the same objects");
  }

  async #step(key: string, decision: Decision): Promise<Outcome> {
    const service = this.#book.service(key);
    for (const claim of this.#book.claimsOf(key)) {
      // Of a Service of that name that is no more.
      const former = claim.services.find(one => keyOf(one) === key && one.uid !== service?.uid);
      if (!former) continue;
      await this.#release(claim, former, decision);
      return "again";
    }
    if (!service) {
      this.#writes.delete(key);
      return "done";
    }
    for (const [address, pool] of decision.claims) {
      if (this.#closed) return "done";
      if (!this.#isCurrent(service) || !(await this.#claim(address, pool, service))) return "again";
    }
    const written = await this.#write(service, decision);
    if (written !== "done") return written;
    for (const claim of this.#book.claimsOf(key)) {
      const own = claim.services.find(({ uid }) => uid === service.uid);
      if (own && !decision.claims.has(claim.address) && (await this.#release(claim, own, decision)) === "again") return "again";
    }
    return "done";
  }

  /** The Service is still as it was when it was decided. */
  #isCurrent({ key, resourceVersion }: BalancedService): boolean {
    return this.#book.service(key)?.resourceVersion === resourceVersion;
  }

  /** True: the address is that of the Service, and the claim names its version if its status is to be written. */
  async #claim(address: string, pool: string, service: BalancedService): Promise<boolean> {
    const { namespace, name, uid, resourceVersion, addresses } = service;
    const claim = this.#book.claim(address);
    const own = claim?.services.find(one => one.uid === uid);
    if (own && (own.resourceVersion === resourceVersion || addresses.includes(address))) return true;
    // Another one may have it by now, since it was decided.
    if (!own && this.#book.refusal(address, service, "claimed")) return false;
    const ref: ClaimedBy = { namespace, name, uid, resourceVersion };
    if (claim) return this.#replaceClaim(claim, [...claim.services.filter(one => one.uid !== uid), ref]);
    const made: Claim = { address, pool, services: [ref] };
    // Nobody else gets it while the server is asked.
    this.#book.setClaim(made);
    try {
      const object = { apiVersion, kind: "AddressClaim", metadata: { name: claimName(address) }, spec: claimSpec(made) };
      this.#seen(await this.#parts.client.create(CLAIMS, object));
      return true;
    } catch (error) {
      if (this.#book.claim(address) === made) this.#book.deleteClaim(address);
      if (!isConflict(error)) throw error;
      await this.#readClaim(address);
      return false;
    }
  }

  /** False: it is another one by now. */
  async #replaceClaim(claim: Claim, services: readonly ClaimedBy[]): Promise<boolean> {
    const { address, uid, resourceVersion } = claim;
    // Another of ours is about to make it.
    if (uid === undefined || resourceVersion === undefined) {
      await this.#readClaim(address);
      return false;
    }
    try {
      const metadata = { name: claimName(address), uid, resourceVersion };
      const object = { apiVersion, kind: "AddressClaim", metadata, spec: claimSpec({ ...claim, services }) };
      this.#seen(await this.#parts.client.replace(pathOf(address), object));
      return true;
    } catch (error) {
      if (!isConflict(error) && !isGone(error)) throw error;
      await this.#readClaim(address);
      return false;
    }
  }

  async #write(service: BalancedService, decision: Decision): Promise<Outcome> {
    const { addresses, condition } = decision;
    const dropsNames = decision.dropsNames === true && service.ingress.some(({ address }) => address === undefined);
    const changes = addresses !== undefined && (dropsNames || !isSame(addresses, service.addresses));
    if (!changes && isSameCondition(condition, service.condition)) return "done";
    if (this.#closed) return "done";
    if (!this.#isCurrent(service)) return "again";
    const rest = changes ? this.#restOf(service.key) : 0;
    if (rest > 0) {
      this.#parts.later(service.key, rest);
      return "later";
    }
    const ingress = changes ? { loadBalancer: { ingress: ingressOf(service, addresses, dropsNames) } } : {};
    const conditions = this.#conditions(condition, service.condition);
    const isWritten = await this.#patch(service, { ...ingress, ...(conditions && { conditions }) });
    if (isWritten === "done") this.#parts.written(service, decision);
    if (isWritten === "done" && changes) this.#countWrite(service.key);
    return isWritten;
  }

  /** Milliseconds until its addresses may be written again. */
  #restOf(key: string): number {
    const writes = this.#writes.get(key);
    return writes && writes.count >= BURST ? writes.at + LEAST_INTERVAL - this.#parts.clock.monotonic() : 0;
  }

  #countWrite(key: string): void {
    const at = this.#parts.clock.monotonic();
    const before = this.#writes.get(key);
    this.#writes.set(key, { count: before && at - before.at < QUIET ? before.count + 1 : 1, at });
  }

  /** What is not said stays as it is, such as the time since when. */
  #conditions(wanted: AddressCondition | undefined, before: AddressCondition | undefined): object[] | undefined {
    if (!wanted) return before && [{ type: ADDRESS_CONDITION, $patch: "delete" }];
    const time = wanted.status === before?.status ? {} : { lastTransitionTime: metaTime(this.#parts.clock.now()) };
    return [{ type: ADDRESS_CONDITION, ...wanted, ...time }];
  }

  async #patch({ key, namespace, name, uid, resourceVersion }: BalancedService, status: object): Promise<Outcome> {
    try {
      const patch = { metadata: { uid, resourceVersion }, status };
      this.#known(await this.#parts.client.patch(`${servicePath(namespace, name)}/status`, "strategic-merge-patch", patch));
      return "done";
    } catch (error) {
      if (!isConflict(error) && !isGone(error)) throw error;
      const before = this.#book.service(key);
      const isThere = await this.#readService(namespace, name);
      if (!isThere && this.#book.service(key) === before) this.#book.deleteService(key);
      return "again";
    }
  }

  /** Takes the Service out of the claim. "again": it is still, or again, that of the Service. */
  async #release(claim: Claim, owner: ClaimedBy, decision: Decision): Promise<Outcome> {
    if (this.#closed) return "done";
    const { namespace, name, uid } = owner;
    const live = await this.#readService(namespace, name);
    if (live?.uid === uid) {
      if (this.#book.service(live.key)?.uid !== uid) throw new ApiError(404, "NotFound", "the watch has not told of the Service yet");
      if (live.addresses.includes(claim.address)) return "again";
      if (live.resourceVersion === owner.resourceVersion) {
        // Somebody may be about to write this very version.
        const said = decision.condition ?? { status: "False", reason: "AddressReleased", message: "" };
        const conditions = [{ type: ADDRESS_CONDITION, ...said, lastTransitionTime: metaTime(this.#parts.clock.now()) }];
        if ((await this.#patch(live, { conditions })) === "again") return "again";
        if (this.#book.service(live.key)?.resourceVersion === owner.resourceVersion)
          throw new ApiError(409, "Conflict", "the Service is as it was");
      }
    }
    const others = claim.services.filter(one => one.uid !== uid);
    if (others.length > 0) return (await this.#replaceClaim(claim, others)) ? "done" : "again";
    return this.#deleteClaim(claim);
  }

  async #deleteClaim({ address, uid, resourceVersion }: Claim): Promise<Outcome> {
    try {
      if (uid === undefined || resourceVersion === undefined) throw new ApiError(409, "Conflict", "it is not known whether it was made");
      await this.#parts.client.delete(pathOf(address), { uid, resourceVersion });
      if (this.#book.claim(address)?.uid === uid) this.#book.deleteClaim(address);
      return "done";
    } catch (error) {
      if (!isConflict(error) && !isGone(error)) throw error;
      await this.#readClaim(address);
      return "again";
    }
  }

  /** As #known(). */
  #seen(object: ApiObject): void {
    const claim = readClaim(object);
    if (!claim) return;
    const before = this.#book.claim(claim.address);
    if (Number(before?.resourceVersion ?? 0) <= Number(claim.resourceVersion)) this.#book.setClaim(claim);
  }

  async #readClaim(address: string): Promise<void> {
    const before = this.#book.claim(address);
    const object = await this.#get(pathOf(address));
    if (object) this.#seen(object);
    else if (this.#book.claim(address) === before) this.#book.deleteClaim(address);
  }

  async #readService(namespace: string, name: string): Promise<BalancedService | undefined> {
    const object = await this.#get(servicePath(namespace, name));
    return object && this.#known(object);
  }

  /** An answer may come after what the watch said later: of a Service that is gone, or of a newer version. */
  #known(object: ApiObject): BalancedService {
    const service = readBalanced(object);
    const before = this.#book.service(service.key);
    const isNewer = before?.uid === service.uid && Number(service.resourceVersion) > Number(before.resourceVersion);
    if (isNewer) this.#book.setService(service);
    return service;
  }

  async #get(path: string): Promise<ApiObject | undefined> {
    try {
      return await this.#parts.client.get(path);
    } catch (error) {
      if (isGone(error)) return undefined;
      throw error;
    }
  }
}

/** What is in its status goes back whole. */
function ingressOf(service: BalancedService, addresses: readonly string[], dropsNames: boolean): object[] {
  const left = [...service.ingress];
  const entries = addresses.map(ip => {
    const at = left.findIndex(({ address }) => address === ip);
    return at < 0 ? { ip } : left.splice(at, 1)[0].entry;
  });
  const names = dropsNames ? [] : left.flatMap(({ address, entry }) => (address === undefined ? [entry] : []));
  return [...entries, ...names];
}

function pathOf(address: string): string {
  return `${CLAIMS}/${claimName(address)}`;
}

function servicePath(namespace: string, name: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/${encodeURIComponent(name)}`;
}

function isConflict(error: unknown): boolean {
  return error instanceof ApiError && error.status === 409;
}

function isGone(error: unknown): boolean {
  return error instanceof ApiError && error.status === 404;
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((one, i) => one === b[i]);
}

function isSameCondition(a: AddressCondition | undefined, b: AddressCondition | undefined): boolean {
  return a?.status === b?.status && a?.reason === b?.reason && a?.message === b?.message;
}
