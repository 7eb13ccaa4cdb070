/** FRR: configuration of bgpd from the short form, and what `vtysh … json` answers. */
import { chmodSync, writeFileSync } from "node:fs";
import type { PathView, RouterKind, RouterPlan, SessionView } from "./router-types.ts";
import { run } from "./system.ts";

const ask = (folder: string, daemon: string, question: string) => run("vtysh", ["--vty_socket", folder, "-d", daemon, "-c", question]);

export const frr: RouterKind = {
  title: "FRR",
  programs: ["zebra", "bgpd"],
  config: frrConfig,
  async start({ name, folder, config }, start, answers) {
    // FRR's daemons give up root for the user frr and must still write their sockets.
    await run("chown", ["frr:frr", folder]);
    writeFileSync(`${folder}/zebra.conf`, `hostname ${name}\n`);
    writeFileSync(`${folder}/bgpd.conf`, config);
    const files = (daemon: string) => ["-i", `${folder}/${daemon}.pid`, "-z", `${folder}/zserv.api`, "-f", `${folder}/${daemon}.conf`];
    for (const daemon of this.programs) {
      chmodSync(`${folder}/${daemon}.conf`, 0o644);
      start(daemon, `/usr/lib/frr/${daemon}`, [...files(daemon), "--vty_socket", folder, "-P", "0", "--log", "stdout"]);
      await answers(daemon);
    }
  },
  ask: (folder, daemon) => ask(folder, daemon, "show version"),
  sessions: async folder => parseFrrSummary(await ask(folder, "bgpd", "show bgp summary json")),
  async paths(folder, _, nameOf) {
    const show = async (family: string) => parseFrrRoutes(await ask(folder, "bgpd", `show bgp ${family} unicast json`));
    const paths = [...(await show("ipv4")), ...(await show("ipv6"))];
    return paths.map(path => ({ ...path, from: nameOf(path.from) ?? path.from }));
  },
  tool: folder => ({ name: "vtysh", command: `/usr/bin/vtysh --vty_socket ${folder}` }),
  example: "vtysh -c 'show bgp summary'",
};

function frrConfig(router: RouterPlan): string {
  const families = [4, 6] as const;
  const lines = [
    `hostname ${router.name}`,
    `router bgp ${router.asn}`,
    ` bgp router-id ${router.routerId}`,
    " no bgp ebgp-requires-policy",
    " no bgp default ipv4-unicast",
    " no bgp network import-check",
    " bgp bestpath as-path multipath-relax",
    ...router.sessions.flatMap(({ remote, local, asn, name, passive, password }) => [
      ` neighbor ${remote} remote-as ${asn}`,
      ` neighbor ${remote} description ${name}`,
      ` neighbor ${remote} update-source ${local}`,
      ` neighbor ${remote} timers ${Math.max(1, Math.floor(router.holdTime / 3))} ${router.holdTime}`,
      ` neighbor ${remote} timers connect 2`,
      ` neighbor ${remote} advertisement-interval 0`,
      ...(passive ? [` neighbor ${remote} passive`] : []),
      ...(password === undefined ? [] : [` neighbor ${remote} password ${password}`]),
    ]),
    ...families.flatMap(family => [
      " !",
      ` address-family ipv${family} unicast`,
      "  maximum-paths 16",
      ...router.announce.filter(each => each.family === family).map(({ prefix }) => `  network ${prefix}`),
      ...router.sessions
        .filter(each => each.family === family)
        .flatMap(({ remote, shared }) => [`  neighbor ${remote} activate`, ...(shared ? [`  neighbor ${remote} next-hop-self`] : [])]),
      " exit-address-family",
    ]),
  ];
  return `${lines.join("\n")}\n`;
}

interface FrrPeer {
  remoteAs: number;
  state: string;
  desc?: string;
  pfxRcd?: number;
  pfxSnt?: number;
}

/** `show bgp summary json`: { ipv4Unicast: { peers: { ADDRESS: … } }, … } */
export function parseFrrSummary(text: string): Omit<SessionView, "machine">[] {
  const answer = JSON.parse(text) as Record<string, { peers?: Record<string, FrrPeer> }>;
  const sessions = new Map<string, Omit<SessionView, "machine">>();
  for (const family of Object.values(answer)) {
    for (const [address, peer] of Object.entries(family.peers ?? {})) {
      const known = sessions.get(address);
      sessions.set(address, {
        neighbor: peer.desc ?? address,
        address,
        asn: String(peer.remoteAs),
        state: peer.state,
        received: (known?.received ?? 0) + (peer.pfxRcd ?? 0),
        sent: (known?.sent ?? 0) + (peer.pfxSnt ?? 0),
      });
    }
  }
  return [...sessions.values()];
}

interface FrrPath {
  bestpath?: boolean | { overall?: boolean };
  multipath?: boolean;
  path?: string;
  peerId?: string;
  nexthops?: { ip?: string; scope?: string }[];
}

/** `show bgp ipv4 unicast json`: { routes: { PREFIX: [ … ] } } */
export function parseFrrRoutes(text: string): PathView[] {
  const answer = JSON.parse(text) as { routes?: Record<string, FrrPath[]> };
  return Object.entries(answer.routes ?? {}).flatMap(([prefix, paths]) =>
    paths.map(path => {
      const globals = (path.nexthops ?? []).filter(hop => hop.scope !== "link-local");
      return {
        prefix,
        best: path.bestpath !== undefined && path.bestpath !== false,
        asPath: path.path ?? "",
        // Its own routes have the unspecified address as next hop and "(unspec)" as peer.
        nextHops: (globals.length > 0 ? globals : (path.nexthops ?? []))
          .map(hop => hop.ip ?? "?")
          .filter(ip => ip !== "0.0.0.0" && ip !== "::"),
        from: path.peerId === "(unspec)" ? "itself" : (path.peerId ?? ""),
      };
    }),
  );
}
