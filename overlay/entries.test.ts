import { describe, expect, test } from "vitest";
import { NUD_PERMANENT, NUD_REACHABLE } from "../kernel/constants.ts";
import type { Neighbour } from "../kernel/types.ts";
import { formatAddress, parseAddress } from "../net/address.ts";
import { hexOf } from "../net/octets.ts";
import { differences, entriesFor } from "./entries.ts";
import { tunnelMac } from "./names.ts";

const [a, b] = ["10.0.0.2", "10.0.0.3"].map(parseAddress);
const text = ({ family, address, destination, linkAddress }: Neighbour) =>
  `${family} ${formatAddress(address ?? destination!)} ${hexOf(linkAddress!, ":")}`;
const changes = (found: Neighbour[], wanted: Neighbour[]) =>
  differences(found, wanted).map(({ action, neighbour }) => `${action} ${text(neighbour)}`);

test("each end has a forwarding entry, and a neighbour of its family", () => {
  expect(entriesFor([a, parseAddress("fd00::2")], 7).map(text)).toEqual([
    "bridge 10.0.0.2 6e:34:0a:00:00:02",
    "4 10.0.0.2 6e:34:0a:00:00:02",
    expect.stringMatching(/^bridge fd00::2 6e:/),
    expect.stringMatching(/^6 fe80::6c[0-9a-f:]+ 6e:/),
  ]);
});

describe("differences", () => {
  test("are none where all stands, whatever stands beside it", () => {
    const wanted = entriesFor([a, b], 7);
    const foreign: Neighbour[] = [
      {
        family: 4,
        ifindex: 7,
        address: parseAddress("10.0.0.9"),
        linkAddress: Uint8Array.of(2, 0, 0, 0, 0, 9),
        state: NUD_PERMANENT,
        flags: 0,
      },
      {
        family: "bridge",
        ifindex: 7,
        destination: parseAddress("10.0.0.9"),
        linkAddress: new Uint8Array(6),
        state: NUD_PERMANENT,
        flags: 0,
      },
      { family: 4, ifindex: 7, address: parseAddress("10.0.0.8"), state: NUD_REACHABLE, flags: 0 },
    ];
    expect(changes([...foreign, ...wanted], wanted)).toEqual([]);
  });

  test("set what is missing and remove what is ours and not wanted any more", () => {
    expect(changes(entriesFor([a], 7), entriesFor([b], 7))).toEqual([
      "set bridge 10.0.0.3 6e:34:0a:00:00:03",
      "set 4 10.0.0.3 6e:34:0a:00:00:03",
      "delete bridge 10.0.0.2 6e:34:0a:00:00:02",
      "delete 4 10.0.0.2 6e:34:0a:00:00:02",
    ]);
  });

  test("set again what somebody changed, or made forgettable", () => {
    const wanted = entriesFor([a], 7);
    const [entry, neighbour] = wanted;
    expect(
      changes(
        [
          { ...entry, destination: b },
          { ...neighbour, linkAddress: tunnelMac(b) },
        ],
        wanted,
      ),
    ).toEqual(wanted.map(one => `set ${text(one)}`));
    expect(changes([entry, { ...neighbour, state: NUD_REACHABLE }], wanted)).toEqual([`set ${text(neighbour)}`]);
  });
});
