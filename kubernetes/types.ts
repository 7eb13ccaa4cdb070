/** What the API server is asked and answers, in the terms of its own documentation (Kubernetes API concepts). */

/** One way to send requests: HTTP/2 from a pod, or whatever a kubeconfig asks for. */
export interface Transport {
  /** Where the API server is, for people. */
  readonly server: string;
  /** Rejects with an Error in words when there is no answer at all. Ending `signal` ends the answer's body as well. */
  send(request: TransportRequest): Promise<TransportResponse>;
  close(): void;
}

export interface TransportRequest {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With its query. */
  path: string;
  headers: Record<string, string>;
  body?: string;
  signal: AbortSignal;
}

export interface TransportResponse {
  status: number;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  body: AsyncIterable<Uint8Array>;
}

/** The parts of an object that every kind has. */
export interface ApiObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  creationTimestamp?: string;
  [field: string]: unknown;
}

export interface ApiList {
  metadata: { resourceVersion?: string; continue?: string };
  items: ApiObject[];
}

export interface WatchEvent {
  type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  object: ApiObject;
}

/** A refusal by the API server, or none at all. */
export class ApiError extends Error {
  /** HTTP status; 0: there was no answer. */
  readonly status: number;
  /** metav1.Status reason, such as "Expired", "NotFound", "Forbidden". */
  readonly reason: string;
  /** Milliseconds after which it wants to be asked again. */
  readonly retryAfter: number | undefined;

  constructor(status: number, reason: string, message: string, retryAfter?: number) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.reason = reason;
    this.retryAfter = retryAfter;
  }

  /** The resource version asked for is no more: list again. */
  get expired(): boolean {
    return this.status === 410 || this.reason === "Expired" || this.reason === "Gone";
  }
}
