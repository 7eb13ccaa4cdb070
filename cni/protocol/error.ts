/**
 * Errors as a CNI plugin reports them: a JSON object on standard output (CNI SPEC "Error"). Codes below 100 belong to the
 * specification; 100 and above are podlane's own.
 */

export const ErrorCode = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  /** The runtime need not call DEL. */
  unknownContainer: 3,
  /** The message names the variables. */
  invalidEnvironment: 4,
  io: 5,
  decode: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  /** STATUS: ADD would fail. */
  notAvailable: 50,
  /** STATUS: as 50, and pods that run have limited connectivity. */
  limitedConnectivity: 51,
  /** CHECK: the attachment differs from what ADD made. */
  attachmentChanged: 100,
  /** ADD: the interface exists already, or the addresses that were asked for are taken. */
  conflict: 101,
  /** The kernel refused. */
  kernel: 102,
} as const;
export type ErrorCode = (typeof ErrorCode)[keyof typeof ErrorCode];

/** A failure with the code that the runtime shall see. `details` is the longer text: cause and remedy. */
export class CniError extends Error {
  override readonly name = "CniError";
  readonly code: ErrorCode;
  readonly details: string;

  constructor(code: ErrorCode, message: string, details = "") {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** The error object of the specification. Anything that is no CniError is reported as I/O failure with its own text. */
export function formatError(error: unknown, cniVersion: string): { cniVersion: string; code: number; msg: string; details?: string } {
  const known = error instanceof CniError ? error : new CniError(ErrorCode.io, error instanceof Error ? error.message : String(error));
  return { cniVersion, code: known.code, msg: known.message, ...(known.details && { details: known.details }) };
}
