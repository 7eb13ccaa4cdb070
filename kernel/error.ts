/** What the kernel refused, in words: the request, the kernel's own explanation (NETLINK_EXT_ACK) and the errno. */
import { constants } from "node:os";
import { getSystemErrorMessage } from "node:util";

const names = new Map<number, string>([[524, "ENOTSUPP"]]);
for (const [name, number] of Object.entries(constants.errno)) {
  // Two names have one number on Linux; the kernel's rtnetlink code says EAGAIN and EOPNOTSUPP.
  if (name !== "EWOULDBLOCK" && name !== "ENOTSUP") names.set(number, name);
}

/** "EEXIST" for 17; "E999" for a number without a name. */
function errnoName(errno: number): string {
  return names.get(errno) ?? `E${errno}`;
}

function explain(errno: number): string {
  const name = errnoName(errno);
  const words = name === "ENOTSUPP" ? "operation not supported" : getSystemErrorMessage(-errno);
  return words === undefined || words.startsWith("Unknown system error") ? name : `${words} (${name})`;
}

/** A rtnetlink request that failed. `code` is the errno's name, `request` says what was asked, `detail` is the kernel's own text or "". */
export class NetlinkError extends Error {
  override readonly name = "NetlinkError";
  readonly errno: number;
  readonly code: string;
  readonly request: string;
  readonly detail: string;

  constructor(errno: number, request: string, detail = "") {
    super(detail === "" ? `${request}: ${explain(errno)}` : `${request}: ${detail.replace(/\.$/, "")} (${errnoName(errno)})`);
    this.errno = errno;
    this.code = errnoName(errno);
    this.request = request;
    this.detail = detail;
  }
}

/** A system call that failed: `code` is the errno's name, as in the errors of node:fs. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly errno: number;
  readonly code: string;
  readonly syscall: string;

  constructor(syscall: string, errno: number, purpose: string) {
    super(`${purpose}: ${syscall}: ${explain(errno)}`);
    this.errno = errno;
    this.code = errnoName(errno);
    this.syscall = syscall;
  }
}
