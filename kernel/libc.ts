/**
 * The few functions of the C library that Node does not offer, through koffi. Each throws SystemCallError; `purpose` says in words what
 * was being done. Descriptors are closed with fs.closeSync().
 */
import { constants, endianness } from "node:os";
import koffi from "koffi";
import * as C from "./constants.ts";
import { SystemCallError } from "./error.ts";

// All codecs of this folder write host order as little-endian: x86-64, arm64, riscv64.
if (endianness() !== "LE") throw new Error("podlane supports little-endian machines only");

/** Of struct sock_fprog: koffi writes the pointer. */
type SocketProgram = { len: number; filter: ArrayBufferView };
/** Of struct ifreq with a pointer (netdevice(7)). */
type InterfaceRequest = { name: string; data: ArrayBufferView; rest: number[] };
type NativeFunction = (...values: (number | string | ArrayBufferView | SocketProgram | InterfaceRequest)[]) => number | bigint;

/** Elsewhere than on Linux the module still loads, so that checkRequirements() can say what is wrong. */
function native(signature: string): NativeFunction {
  if (process.platform === "linux") return koffi.load(null).func(signature);
  return () => {
    throw new Error(`podlane's kernel access needs Linux; this is ${process.platform}`);
  };
}

const cSocket = native("int socket(int domain, int type, int protocol)");
const cBind = native("int bind(int fd, void *address, uint32_t length)");
const cConnect = native("int connect(int fd, void *address, uint32_t length)");
const cGetsockname = native("int getsockname(int fd, void *address, void *length)");
const cSend = native("intptr_t send(int fd, void *data, size_t length, int flags)");
const cSendAsync = nativeAsync("intptr_t send(int fd, void *data, size_t length, int flags)");
const cRecv = native("intptr_t recv(int fd, void *data, size_t length, int flags)");
const cSetsockopt = native("int setsockopt(int fd, int level, int name, void *value, uint32_t length)");
koffi.struct("sock_fprog", { len: "uint16_t", filter: "void *" });
const cAttachFilter = native("int setsockopt(int fd, int level, int name, sock_fprog *program, uint32_t length)");
const cGetsockopt = native("int getsockopt(int fd, int level, int name, void *value, void *length)");
koffi.struct("ifreq_data", { name: koffi.array("char", 16), data: "void *", rest: koffi.array("uint8_t", 16) });
const cIoctl = native("int ioctl(int fd, unsigned long request, ifreq_data *argument)");
const cIfNametoindex = native("uint32_t if_nametoindex(const char *name)");
const cSetns = native("int setns(int fd, int nstype)");

type NativeResult = (error: Error | null, result: number | bigint) => void;

/** Runs the function on a thread of libuv's pool. */
function nativeAsync(signature: string): (values: (number | ArrayBufferView)[], done: NativeResult) => void {
  if (process.platform !== "linux") return () => native(signature)();
  const called = koffi.load(null).func(signature);
  return (values, done) => called.async(...values, done);
}

function check(result: number | bigint, syscall: string, purpose: string): number {
  if (result < 0) throw new SystemCallError(syscall, koffi.errno(), purpose);
  return Number(result);
}

export function socket(domain: number, type: number, protocol: number, purpose: string): number {
  return check(cSocket(domain, type, protocol), "socket", purpose);
}

export function bind(fd: number, address: Uint8Array, purpose: string): void {
  check(cBind(fd, address, address.length), "bind", purpose);
}

export function connect(fd: number, address: Uint8Array, purpose: string): void {
  check(cConnect(fd, address, address.length), "connect", purpose);
}

/** The sockaddr of a descriptor's own end. */
export function getsockname(fd: number, purpose: string): Uint8Array {
  const address = new Uint8Array(128);
  const length = Uint32Array.of(address.length);
  check(cGetsockname(fd, address, length), "getsockname", purpose);
  return address.subarray(0, length[0]);
}

/** send(2) of the first `length` octets. Returns the octets taken. */
export function send(fd: number, data: Uint8Array, length: number, flags: number, purpose: string): number {
  if (length > data.length) throw new RangeError(`send: ${length} octets asked of a buffer of ${data.length}`);
  return check(cSend(fd, data, length, flags), "send", purpose);
}

/**
 * send(2) on a thread of libuv's pool, for requests that the kernel takes long to carry out. Neither `data` nor `fd` may be touched until it
 * is settled.
 */
export function sendAsync(fd: number, data: Uint8Array, purpose: string): Promise<void> {
  return new Promise((resolve, reject) => {
    cSendAsync([fd, data, data.length, 0], (error, sent) => {
      try {
        if (error) throw error;
        // Naming `data` here also keeps it from being collected while the kernel reads it.
        if (check(sent, "send", purpose) !== data.length) throw new SystemCallError("send", constants.errno.EMSGSIZE, purpose);
        resolve();
      } catch (failure) {
        reject(failure);
      }
    });
  });
}

/** recv(2) into `data`. Returns the octets received (with MSG_TRUNC: the true size of the datagram), or a negative errno: never throws. */
export function recv(fd: number, data: Uint8Array, flags: number): number {
  const received = Number(cRecv(fd, data, data.length, flags));
  return received < 0 ? -koffi.errno() : received;
}

export function setsockopt(fd: number, level: number, name: number, value: Uint8Array | number, purpose: string): void {
  const bytes = typeof value === "number" ? Int32Array.of(value) : value;
  check(cSetsockopt(fd, level, name, bytes, bytes.byteLength), "setsockopt", purpose);
}

/** SO_ATTACH_FILTER: a classic BPF program, an array of struct sock_filter of 8 octets each. The kernel makes a copy. */
export function attachFilter(fd: number, program: Uint8Array, purpose: string): void {
  const value = { len: program.length / 8, filter: program };
  check(cAttachFilter(fd, C.SOL_SOCKET, C.SO_ATTACH_FILTER, value, koffi.sizeof("sock_fprog")), "setsockopt(SO_ATTACH_FILTER)", purpose);
}

/** An option whose value is an int. */
export function getsockopt(fd: number, level: number, name: number, purpose: string): number {
  const value = new Int32Array(1);
  check(cGetsockopt(fd, level, name, value, Uint32Array.of(4)), "getsockopt", purpose);
  return value[0];
}

/** ioctl(2) about an interface, of a request whose argument is `data`; the kernel may write into it. */
export function interfaceControl(fd: number, request: number, name: string, data: Uint32Array, purpose: string): void {
  check(cIoctl(fd, request, { name, data, rest: new Array<number>(16).fill(0) }), "ioctl", purpose);
}

/** The index of a link in the calling thread's namespace; 0 = there is none. */
export function interfaceIndex(name: string): number {
  return Number(cIfNametoindex(name));
}

/** Moves the calling thread, and only it, into the network namespace of the descriptor. */
export function setNetworkNamespace(fd: number, purpose: string): void {
  const CLONE_NEWNET = 0x40000000;
  check(cSetns(fd, CLONE_NEWNET), "setns", purpose);
}
