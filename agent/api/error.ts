/** Errors of the local API: an HTTP status, what is wrong and what to do about it. */

export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly remedy: string;
  readonly headers: Record<string, string>;

  constructor(status: number, message: string, remedy: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.remedy = remedy;
    this.headers = headers;
  }
}
