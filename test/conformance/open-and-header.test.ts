/** RFC 4271 section 6 on the wire: what a wrong OPEN, header or message order is answered with, to the octet (RFC 5492, 6286, 6608, 6793, 7607, 9072). */
import { afterEach, describe, expect, it } from "vitest";
import {
  asn4,
  capability,
  EXTENDED_MESSAGE,
  IPV4,
  IPV6,
  KEEPALIVE,
  message,
  notification,
  type OpenFields,
  octets,
  open,
  optionalParameters,
  parameter,
  REFRESH,
  routeRefresh,
  Type,
  u16,
  update,
} from "./octets.ts";
import { lacking, type Party, US, useScene } from "./scene.ts";

const END_OF_RIB = update({});
const A4 = asn4(65002);

describe.skipIf(lacking)(`what the speaker answers${lacking ? ` (${lacking})` : ""}`, () => {
  const holder = useScene();
  const used: Party[] = [];
  const party = async (...change: Parameters<typeof holder.scene.party>) => {
    const made = await holder.scene.party(...change);
    used.push(made);
    return made;
  };
  afterEach(() => {
    for (const each of used.splice(0)) each.close();
  });

  const parameters = (...list: Parameters<typeof optionalParameters>): OpenFields => ({ parameters: optionalParameters(...list) });

  describe("to a wrong OPEN", () => {
    it.each<[string, OpenFields | Uint8Array, string, Parameters<typeof holder.scene.party>[0]?]>([
      ["version 3", { version: 3 }, "2/1 0004"],
      ["version 5", { version: 5 }, "2/1 0004"],
      ["version 0", { version: 0 }, "2/1 0004"],
      ["AS 0", { asn: 0, parameters: optionalParameters() }, "2/2"],
      ["4-octet AS 0", parameters(parameter(2, [...IPV4, ...asn4(0)])), "2/2"],
      [
        "AS 0 in the short field, beside a right capability",
        { asn: 0, parameters: optionalParameters(parameter(2, [...IPV4, ...A4])) },
        "2/2",
      ],
      ["another AS in the short field than in the capability", { asn: 65003, parameters: optionalParameters(parameter(2, A4)) }, "2/2"],
      ["AS_TRANS without a capability", { asn: 23456, parameters: optionalParameters() }, "2/2", { remoteAsn: "external" }],
      ["AS_TRANS in the capability", { asn: 23456 }, "2/2", { remoteAsn: "external" }],
      ["AS 65535 (RFC 7300)", { asn: 65535 }, "2/2", { remoteAsn: "external" }],
      ["AS 4294967295 (RFC 7300)", { asn: 4294967295 }, "2/2", { remoteAsn: "external" }],
      ["another AS", { asn: 65003 }, "2/2"],
      ["another 4-octet AS", { asn: 4_200_000_000 }, "2/2"],
      ["our AS where an external one is wanted", { asn: 65001 }, "2/2", { remoteAsn: "external" }],
      ["an AS that is not ours where an internal one is wanted", { asn: 65002 }, "2/2", { remoteAsn: "internal" }],
      ["identifier 0.0.0.0", { id: "0.0.0.0" }, "2/3 00000000"],
      ["our identifier inside our AS", { id: US }, "2/3 0a000001", { remoteAsn: "internal" }],
      ["hold time 1", { holdTime: 1 }, "2/6 0001"],
      ["hold time 2", { holdTime: 2 }, "2/6 0002"],
      ["an authentication parameter", parameters(parameter(1, [0])), "2/4 010100"],
      ["an unknown parameter behind capabilities", parameters(parameter(2, A4), parameter(77, [1, 2])), "2/4 4d020102"],
      ["no family in common", parameters(parameter(2, [...capability(1, "00 01 00 80"), ...A4])), "2/7 010400010001010400020001"],
      ["parameters longer than the message", { parameters: octets(20, parameter(2, A4)) }, "2/0"],
      ["parameters shorter than the message", { parameters: octets(3, parameter(2, A4)) }, "2/0"],
      ["a parameter longer than the parameters", { parameters: octets(8, 2, 200, A4) }, "2/0"],
      ["half a parameter header", { parameters: octets(1, 2) }, "2/0"],
      ["a capability longer than its parameter", parameters(parameter(2, [65, 5, 0, 0, 0xfd, 0xea])), "2/0"],
      ["half a capability header", parameters(parameter(2, [...A4, 1])), "2/0"],
      ["a multiprotocol capability of 3 octets", parameters(parameter(2, [...capability(1, "00 01 00"), ...A4])), "2/0 0103000100"],
      ["a 4-octet AS capability of 2 octets", parameters(parameter(2, capability(65, "fd ea"))), "2/0 4102fdea"],
      ["extended parameters longer than the message", { parameters: octets(255, 255, u16(30), 2, u16(6), A4) }, "2/0"],
      ["an unknown extended parameter", { parameters: octets(255, 255, u16(5), 9, u16(2), "abcd") }, "2/4 090002abcd"],
    ])("%s", async (_name, fields, wanted, config) => {
      const { connect, open, snapshot } = bound(await party(config));
      const peer = await connect();
      await peer.take(Type.Open);
      peer.send(fields instanceof Uint8Array ? fields : open(fields));
      expect(await peer.dismissal()).toBe(wanted);
      const { lastDown } = await snapshot();
      expect(lastDown).toMatchObject({ direction: "sent", code: 2 });
      expect(lastDown?.text).not.toBe("");
      expect(lastDown?.offending).toMatch(/^f{32}/);
    });
  });

  describe("to a right OPEN of unusual form", () => {
    it.each<[string, OpenFields, object, Parameters<typeof holder.scene.party>[0]?]>([
      ["without parameters: IPv4 only", { parameters: octets(0) }, { holdTime: 90, capabilities: [] }],
      ["an empty capabilities parameter", parameters(parameter(2, [])), { capabilities: [] }],
      [
        "each capability in a parameter of its own",
        parameters(parameter(2, IPV4), parameter(2, IPV6), parameter(2, REFRESH), parameter(2, A4)),
        {},
      ],
      [
        "capabilities in two parameters, one empty",
        parameters(parameter(2, [...IPV4, ...A4]), parameter(2, []), parameter(2, REFRESH)),
        {},
      ],
      ["every capability twice", parameters(parameter(2, [...IPV4, ...A4, ...IPV4, ...A4, ...IPV4, ...A4])), {}],
      [
        "unknown capabilities, empty and long",
        parameters(parameter(2, [...capability(200), ...A4, ...capability(201, new Uint8Array(100)), ...IPV4])),
        { capabilities: ["capability 200", "4-octet AS 65002", "capability 201", "multiprotocol ipv4-unicast"] },
      ],
      ["a family we do not know beside one we do", parameters(parameter(2, [...capability(1, "40 04 00 47"), ...IPV4, ...A4])), {}],
      ["reserved octet of a family not 0", parameters(parameter(2, [...capability(1, "00 01 ff 01"), ...A4])), {}],
      ["add-path for receiving and sending", parameters(parameter(2, [...IPV4, ...capability(69, "00 01 01 03"), ...A4])), {}],
      ["extended next hop", parameters(parameter(2, [...IPV4, ...capability(5, "00 01 00 01 00 02"), ...A4])), {}],
      ["graceful restart of a broken length", parameters(parameter(2, [...IPV4, ...capability(64, "00"), ...A4])), {}],
      ["the old route refresh only", parameters(parameter(2, [...IPV4, ...capability(128), ...A4])), {}],
      ["route refresh with a value", parameters(parameter(2, [...IPV4, ...capability(2, "0000"), ...A4])), {}],
      ["hostname of garbage", parameters(parameter(2, [...IPV4, ...capability(73, "ff 41"), ...A4])), {}],
      ["a role (RFC 9234)", parameters(parameter(2, [...IPV4, ...capability(9, "00"), ...A4])), {}],
      ["extended parameters (RFC 9072)", { parameters: octets(255, 255, u16(15), 2, u16(12), IPV4, A4) }, {}],
      ["extended parameters with another first octet", { parameters: octets(4, 255, u16(15), 2, u16(12), IPV4, A4) }, {}],
      ["extended parameters that are empty", { parameters: octets(255, 255, u16(0)) }, {}],
      [
        "1000 octets of extended capabilities",
        {
          parameters: octets(
            255,
            255,
            u16(1015),
            2,
            u16(1012),
            IPV4,
            A4,
            ...Array.from({ length: 10 }, () => capability(222, new Uint8Array(98))),
          ),
        },
        {},
      ],
      ["255 octets of ordinary parameters", parameters(parameter(2, [...IPV4, ...A4, ...capability(222, new Uint8Array(239))])), {}],
      ["AS_TRANS in the short field", { asn: 4_200_000_002 }, { asn: 4_200_000_002 }, { remoteAsn: 4_200_000_002 }],
      [
        "an AS of 16 bits written with AS_TRANS",
        { asn: 23456, parameters: optionalParameters(parameter(2, [...IPV4, ...A4])) },
        { asn: 65002 },
      ],
      ["the least hold time", { holdTime: 3 }, { holdTime: 3, keepaliveTime: 1 }],
      ["a shorter hold time", { holdTime: 30 }, { holdTime: 30, keepaliveTime: 10 }],
      ["the longest hold time", { holdTime: 65535 }, { holdTime: 90, keepaliveTime: 30 }],
      ["hold time 0", { holdTime: 0 }, { holdTime: 0, keepaliveTime: 0 }],
      ["our identifier in another AS (RFC 6286)", { id: US }, { routerId: US }],
      ["an identifier that is no address", { id: "255.255.255.255" }, { routerId: "255.255.255.255" }],
      ["any AS but ours", { asn: 65077 }, { asn: 65077, internal: false }, { remoteAsn: "external" }],
    ])("%s", async (_name, fields, wanted, config) => {
      const { connect, open, until } = bound(await party(config));
      const peer = await connect();
      const ours = await peer.establish(open(fields));
      expect([...ours.subarray(19, 28)]).toEqual([4, ...u16(65001), 0, 90, 10, 0, 0, 1]);
      await until(snapshot => expect(snapshot).toMatchObject({ state: "Established", ...wanted }));
    });
  });

  describe("to a wrong header", () => {
    const bad: [string, Uint8Array, string][] = [
      ["a marker that is not all ones", octets(KEEPALIVE.with(15, 0xfe)), "1/1"],
      ["a marker of zeros, as without authentication once", octets(KEEPALIVE.with(0, 0)), "1/1"],
      ["length 18", message(Type.Keepalive, [], 18), "1/2 0012"],
      ["length 0", message(Type.Update, [], 0), "1/2 0000"],
      ["length 4097", message(Type.Update, [], 4097), "1/2 1001"],
      ["length 65535", message(Type.Update, [], 65535), "1/2 ffff"],
      ["a KEEPALIVE of 20 octets", message(Type.Keepalive, [0]), "1/2 0014"],
      ["an OPEN of 28 octets", message(Type.Open, new Uint8Array(9)), "1/2 001c"],
      ["an UPDATE of 22 octets", message(Type.Update, new Uint8Array(3)), "1/2 0016"],
      ["a NOTIFICATION of 20 octets", message(Type.Notification, [6]), "1/2 0014"],
      ["type 0", message(0), "1/3 00"],
      ["type 6", message(6), "1/3 06"],
      ["type 255", message(255, new Uint8Array(8)), "1/3 ff"],
      ["HTTP", octets(Buffer.from("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n")), "1/1"],
      ["TLS", octets("16 03 01 02 00 01 00 01 fc 03 03", new Uint8Array(200)), "1/1"],
    ];
    it.each(bad)("%s in OpenSent", async (_name, wrong, wanted) => {
      const { connect } = bound(await party());
      const peer = await connect();
      await peer.take(Type.Open);
      peer.send(wrong);
      expect(await peer.dismissal()).toBe(wanted);
    });
    it.each(bad)("%s in Established, behind good messages in the same segment", async (_name, wrong, wanted) => {
      const { establish, snapshot } = bound(await party());
      const peer = await establish();
      peer.send(octets(KEEPALIVE, END_OF_RIB, KEEPALIVE, wrong));
      expect(await peer.dismissal()).toBe(wanted);
      const { lastDown } = await snapshot();
      expect(lastDown?.code).toBe(1);
      expect(lastDown?.offending?.slice(0, 38)).toBe(Buffer.from(wrong.subarray(0, 19)).toString("hex"));
    });
  });

  it.each([
    ["an UPDATE", END_OF_RIB, "02"],
    ["a KEEPALIVE", KEEPALIVE, "04"],
    ["a ROUTE-REFRESH", routeRefresh(1, 1), "05"],
  ])("5/1 to %s in OpenSent, 5/2 in OpenConfirm where it is none, with its type (RFC 6608)", async (name, unexpected, type) => {
    const first = bound(await party());
    const sent = await first.connect();
    await sent.take(Type.Open);
    sent.send(unexpected);
    expect(await sent.dismissal()).toBe(`5/1 ${type}`);
    if (name === "a KEEPALIVE") return;
    const second = bound(await party());
    const confirm = await second.connect();
    await confirm.openWith(second.open());
    confirm.send(unexpected);
    expect(await confirm.dismissal()).toBe(`5/2 ${type}`);
  });

  it("5/2 to a second OPEN in OpenConfirm, 5/3 to one in Established", async () => {
    const first = bound(await party());
    const confirm = await first.connect();
    await confirm.openWith(first.open());
    confirm.send(first.open());
    expect(await confirm.dismissal()).toBe("5/2 01");
    const second = bound(await party());
    const established = await second.establish();
    established.send(second.open());
    expect(await established.dismissal()).toBe("5/3 01");
    expect((await second.snapshot()).lastDown).toMatchObject({ code: 5, subcode: 3, direction: "sent" });
  });

  it.each([
    [
      "Cease/Administrative Shutdown with a text",
      notification(6, 2, octets(3, "627965")),
      'neighbour sent Cease/Administrative Shutdown: "bye"',
    ],
    ["an unknown code", notification(99, 7, "0102"), "neighbour sent error code 99/subcode 7: data 0102"],
    ["a long one", notification(6, 0, new Uint8Array(4075)), /^neighbour sent Cease/],
  ])("nothing to a NOTIFICATION in any state: %s", async (_name, sent, text) => {
    const parties = [bound(await party()), bound(await party()), bound(await party())];
    const openSent = await parties[0].connect();
    await openSent.take(Type.Open);
    const openConfirm = await parties[1].connect();
    await openConfirm.openWith(parties[1].open());
    const established = await parties[2].establish();
    for (const peer of [openSent, openConfirm, established]) {
      peer.send(sent);
      expect(await peer.dismissal()).toMatch(/^closed after/);
    }
    for (const { snapshot } of parties) {
      const { lastDown } = await snapshot();
      expect(lastDown).toMatchObject({ direction: "received", text: expect.stringMatching(text) });
    }
  });

  it("6/3, 6/2 and 6/5 when the neighbour is removed, shut down, and connects to a speaker that does not want it", async () => {
    const removed = bound(await party());
    const first = await removed.establish();
    const before = holder.scene.config.neighbors;
    await holder.scene.apply({ neighbors: before.filter(({ name }) => name !== removed.name) });
    expect(await first.dismissal()).toBe("6/3");
    const stranger = await removed.connect();
    expect(await stranger.dismissal()).toBe("6/5");
    const shut = bound(await party());
    const second = await shut.establish();
    const neighbors = holder.scene.config.neighbors.map(each =>
      each.name === shut.name ? { ...each, shutdown: { message: "rack move" } } : each,
    );
    await holder.scene.apply({ neighbors });
    expect(await second.dismissal()).toBe(`6/2 09${Buffer.from("rack move").toString("hex")}`);
    const again = await shut.connect();
    expect(await again.dismissal()).toBe(`6/2 09${Buffer.from("rack move").toString("hex")}`);
  });

  it("messages above 4096 octets are taken only after both sides announced them (RFC 8654)", async () => {
    const long = update({ withdrawn: new Uint8Array(5000 - 23) });
    const without = await (await party()).establish();
    without.send(long);
    expect(await without.dismissal()).toBe("1/2 1388");
    const { establish, until } = bound(await party());
    const both = await establish({ parameters: optionalParameters(parameter(2, [...IPV4, ...A4, ...EXTENDED_MESSAGE])) });
    both.send(long);
    await until(({ counters }) => expect(counters.messagesIn.update).toBe(1));
    both.send(message(Type.Keepalive, new Uint8Array(5000)));
    expect(await both.dismissal()).toBe("1/2 139b");
    const opening = await (await party()).connect();
    opening.send(open({ parameters: new Uint8Array(4090) }));
    expect(await opening.dismissal()).toBe("1/2 1016");
  });
});

/** Methods that can be taken apart. */
function bound(party: Party) {
  return {
    name: party.name,
    connect: () => party.connect(),
    open: (fields?: OpenFields) => party.open(fields),
    establish: (fields?: OpenFields) => party.establish(fields),
    snapshot: () => party.snapshot(),
    until: (check: Parameters<Party["until"]>[0]) => party.until(check),
  };
}
