/**
 * A classic BPF program (linux/filter.h, bpf(4)) for a socket that listens to rtnetlink: the kernel runs it on each notification before it is
 * queued. The notifications of 100,000 route changes of our own would cost 0.1 s of reading only to be thrown away.
 */
import * as C from "./constants.ts";

/** BPF_LD | BPF_H or BPF_W | BPF_ABS. */
const LOAD_HALF = 0x28;
const LOAD_WORD = 0x20;
/** BPF_JMP | BPF_JEQ | BPF_K. */
const JUMP_EQUAL = 0x15;
/** BPF_RET | BPF_K: so many octets of the message are kept. */
const RETURN = 0x06;
const WHOLE = 0xffff_ffff;

/** Offsets in struct nlmsghdr. */
const TYPE = 4;
const PORT = 12;

/** A jump has 8 bits for its distance. */
const MOST_PORTS = 200;

/** Drops RTM_NEWROUTE and RTM_DELROUTE that were caused by requests of these netlink ports, and keeps all else. A notification is one message. */
export function routesNotOf(ports: readonly number[]): Uint8Array {
  if (ports.length > MOST_PORTS) throw new RangeError(`${ports.length} netlink ports to ignore: a filter has room for ${MOST_PORTS}`);
  const program: number[][] = [];
  const add = (code: number, value: number, ifTrue = 0, ifFalse = 0) => program.push([code, value, ifTrue, ifFalse]);
  const keep = 4 + ports.length;
  const drop = 5 + ports.length;
  const to = (target: number) => target - program.length - 1;
  add(LOAD_HALF, TYPE);
  add(JUMP_EQUAL, swap16(C.RTM_NEWROUTE), 1);
  add(JUMP_EQUAL, swap16(C.RTM_DELROUTE), 0, to(keep));
  add(LOAD_WORD, PORT);
  for (const port of ports) add(JUMP_EQUAL, swap32(port), to(drop));
  add(RETURN, WHOLE);
  add(RETURN, 0);
  return encode(program);
}

/** struct sock_filter: code, jump distances where equal and where not, value. */
function encode(program: number[][]): Uint8Array {
  const octets = new Uint8Array(program.length * 8);
  const view = new DataView(octets.buffer);
  for (const [i, [code, value, ifTrue, ifFalse]] of program.entries()) {
    view.setUint16(i * 8, code, true);
    octets[i * 8 + 2] = ifTrue;
    octets[i * 8 + 3] = ifFalse;
    view.setUint32(i * 8 + 4, value, true);
  }
  return octets;
}

// BPF loads in network order what netlink writes in that of the host.
function swap16(value: number): number {
  return ((value & 0xff) << 8) | (value >>> 8);
}

function swap32(value: number): number {
  return ((swap16(value & 0xffff) << 16) | swap16(value >>> 16)) >>> 0;
}
