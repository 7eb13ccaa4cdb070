/** Whatever fails while a call is carried out, as the runtime is told it. */
import { READ_ONLY_REMEDY } from "../../kernel/index.ts";
import { AllocationError } from "../ipam/book.ts";
import { JournalError } from "../ipam/journal.ts";
import { CniError, ErrorCode } from "../protocol/error.ts";

export const LEDGER_REMEDY = "make room on its file system, or make it writable; that is found by itself";

export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  if (error instanceof AllocationError) return new CniError(allocationCode[error.reason], error.message, error.remedy);
  const { name, message } = error instanceof Error ? error : { name: "", message: String(error) };
  if (error instanceof Error && "code" in error && error.code === "EROFS") return new CniError(ErrorCode.io, message, READ_ONLY_REMEDY);
  if (error instanceof JournalError) return new CniError(ErrorCode.io, message, LEDGER_REMEDY);
  if (name === "NetlinkError") return new CniError(ErrorCode.kernel, message, "the kernel refused; see the agent's log");
  return new CniError(ErrorCode.io, message);
}

const allocationCode: Record<AllocationError["reason"], ErrorCode> = {
  exhausted: ErrorCode.tryAgainLater,
  "no-range": ErrorCode.tryAgainLater,
  outside: ErrorCode.invalidConfig,
  reserved: ErrorCode.invalidConfig,
  "duplicate-family": ErrorCode.invalidConfig,
  taken: ErrorCode.conflict,
};

const unavailable: readonly number[] = [ErrorCode.tryAgainLater, ErrorCode.notAvailable, ErrorCode.limitedConnectivity];

export function httpStatus(code: number): number {
  if (unavailable.includes(code)) return 503;
  return code <= ErrorCode.invalidConfig && code !== ErrorCode.io ? 400 : 500;
}
