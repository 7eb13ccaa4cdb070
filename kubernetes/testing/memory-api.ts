/** Objects by path, with versions and refusals, for tests that turn the clock: what a real server does is tested with one (test/kubernetes). */
import { ApiError, type ApiObject } from "../types.ts";

export interface Request {
  verb: "get" | "create" | "replace" | "apply" | "patch";
  path: string;
  body?: Record<string, unknown>;
}

export class MemoryApi {
  readonly requests: Request[] = [];
  readonly objects = new Map<string, ApiObject>();
  /** Every request fails with this one. */
  failure: ApiError | undefined;
  #version = 0;

  /** Since the last time. */
  take(): Request[] {
    return this.requests.splice(0);
  }

  async get(path: string): Promise<ApiObject> {
    this.#note({ verb: "get", path });
    return structuredClone(this.#object(path));
  }

  async create(path: string, value: object): Promise<ApiObject> {
    const body = structuredClone(value) as ApiObject;
    this.#note({ verb: "create", path, body });
    const at = `${path}/${body.metadata.name}`;
    if (this.objects.has(at)) throw new ApiError(409, "AlreadyExists", "it is there");
    return this.#store(at, body);
  }

  async replace(path: string, value: object): Promise<ApiObject> {
    const body = structuredClone(value) as ApiObject;
    this.#note({ verb: "replace", path, body });
    if (this.#object(path).metadata.resourceVersion !== body.metadata.resourceVersion)
      throw new ApiError(409, "Conflict", "it is another one");
    return this.#store(path, body);
  }

  async apply(path: string, value: ApiObject): Promise<ApiObject> {
    const body = structuredClone(value);
    this.#note({ verb: "apply", path, body });
    const status = path.endsWith("/status");
    const at = status ? path.slice(0, -"/status".length) : path;
    const before = status ? this.#object(at) : this.objects.get(at);
    return this.#store(at, { ...before, ...body, metadata: { ...before?.metadata, ...body.metadata, generation: 1 } });
  }

  async patch(path: string, _type: string, value: object): Promise<ApiObject> {
    this.#note({ verb: "patch", path, body: structuredClone(value) as Record<string, unknown> });
    return { metadata: { name: "patched" } };
  }

  #note(request: Request): void {
    this.requests.push(request);
    if (this.failure) throw this.failure;
  }

  #object(path: string): ApiObject {
    const object = this.objects.get(path);
    if (!object) throw new ApiError(404, "NotFound", `there is no ${path}`);
    return object;
  }

  #store(path: string, object: ApiObject): ApiObject {
    object.metadata.resourceVersion = String(++this.#version);
    this.objects.set(path, object);
    return structuredClone(object);
  }
}
