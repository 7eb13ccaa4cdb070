/**
 * What was announced for Services, on disk: an agent that starts while the API server is away announces it again, as its neighbours would drop it when the
 * graceful restart is over. That of another start of the machine says nothing of what the proxy has put into this one's kernel.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { ServiceRoute } from "../../config/services/types.ts";
import { isPrefix } from "../../net/address.ts";
import { replaceFile } from "../atomic-file.ts";

export interface SavedServices {
  /** RFC 3339. */
  savedAt: string;
  /** Written since this machine was started. */
  current: boolean;
  routes: ServiceRoute[];
  /** What the proxy had confirmed of endpoints here, as EndpointChecks has it. */
  confirmed: string[];
  /** For what that had been waited for in vain. */
  assumed: string[];
}

const FORMAT = 1;
/** Ten thousand Services of two families with two kinds of addresses are 40,000. */
const MAX_ROUTES = 100_000;
const MAX_OCTETS = 64 << 20;
const BOOT_ID = "/proc/sys/kernel/random/boot_id";

export class ServiceMemory {
  readonly #path: string;
  readonly #node: string;
  readonly #boot: string;

  /** `boot`: of the start of the machine. */
  constructor({ stateDirectory, node }: { stateDirectory: string; node: string }, boot = bootId()) {
    this.#path = join(stateDirectory, "services.json");
    this.#node = node;
    this.#boot = boot;
  }

  /** Throws what the file system throws. */
  save(routes: Iterable<ServiceRoute>, checks: Pick<SavedServices, "confirmed" | "assumed">, now: number): void {
    const kept = [...routes].slice(0, MAX_ROUTES);
    const saved = { format: FORMAT, node: this.#node, boot: this.#boot, savedAt: new Date(now).toISOString(), routes: kept };
    const [confirmed, assumed] = [checks.confirmed, checks.assumed].map(all => all.slice(0, MAX_ROUTES));
    replaceFile(this.#path, JSON.stringify({ ...saved, confirmed, assumed }));
  }

  /** undefined: there is none, or none of use. */
  load(): SavedServices | undefined {
    try {
      const found = statSync(this.#path, { throwIfNoEntry: false });
      if (!found || found.size > MAX_OCTETS) return undefined;
      const { format, node, boot, savedAt, routes, confirmed, assumed } = JSON.parse(readFileSync(this.#path, "utf8"));
      if (format !== FORMAT || node !== this.#node || typeof savedAt !== "string" || !Array.isArray(routes)) return undefined;
      return {
        savedAt,
        current: boot === this.#boot && this.#boot !== "",
        routes: routes.filter(isRoute).slice(0, MAX_ROUTES),
        confirmed: readKeys(confirmed),
        assumed: readKeys(assumed),
      };
    } catch {
      return undefined;
    }
  }
}

function readKeys(value: unknown): string[] {
  return Array.isArray(value) ? value.filter(key => typeof key === "string") : [];
}

function isRoute(value: unknown): value is ServiceRoute {
  const { prefix, kind, sources, discard } = (value ?? {}) as Partial<ServiceRoute>;
  const named = Array.isArray(sources) && sources.length > 0 && sources.every(source => typeof source === "string");
  return (
    typeof prefix === "string" && isPrefix(prefix) && (kind === "service" || kind === "aggregate") && named && typeof discard === "boolean"
  );
}

/** "": not known, which is never the same. */
function bootId(): string {
  try {
    return readFileSync(BOOT_ID, "utf8").trim();
  } catch {
    return "";
  }
}
