/** BIRD 2: configuration from the short form, and what `birdc` answers. */
import { writeFileSync } from "node:fs";
import type { PathView, RouterKind, RouterPlan, RouterSession, SessionView } from "./router-types.ts";
import { run } from "./system.ts";

const ask = (folder: string, question: string) => run("birdc", ["-r", "-s", `${folder}/bird.ctl`, question]);

export const bird: RouterKind = {
  title: "BIRD",
  programs: ["bird"],
  config: birdConfig,
  async start({ folder, config }, start, answers) {
    writeFileSync(`${folder}/bird.conf`, config);
    start("bird", "bird", ["-f", "-c", `${folder}/bird.conf`, "-s", `${folder}/bird.ctl`]);
    await answers("bird");
  },
  ask: folder => ask(folder, "show status"),
  sessions: async folder => parseBirdProtocols(await ask(folder, "show protocols all")),
  async paths(folder, { sessions }) {
    const names = new Map(sessions.map(session => [birdProtocol(session, sessions), session.name]));
    const paths = parseBirdRoutes(await ask(folder, "show route all"));
    return paths.map(path => ({ ...path, from: names.get(path.from) ?? (/^own[46]$/.test(path.from) ? "itself" : path.from) }));
  },
  tool: folder => ({ name: "birdc", command: `/usr/sbin/birdc -s ${folder}/bird.ctl` }),
  example: "birdc show route",
};

function birdConfig(router: RouterPlan): string {
  const families = [4, 6] as const;
  const lines = [
    "log stderr all;",
    `router id ${router.routerId};`,
    "protocol device { scan time 2; }",
    ...families.map(family => `protocol kernel kernel${family} { merge paths on; ipv${family} { import none; export all; }; }`),
    ...families
      .map(family => ({ family, own: router.announce.filter(each => each.family === family) }))
      .filter(({ own }) => own.length > 0)
      .map(
        ({ family, own }) =>
          `protocol static own${family} { ipv${family}; ${own.map(({ prefix }) => `route ${prefix} blackhole;`).join(" ")} }`,
      ),
    ...router.sessions.map(({ asn, local, remote, family, shared, passive, password }, index) =>
      [
        `protocol bgp ${birdProtocol(router.sessions[index], router.sessions)} {`,
        `  local ${local} as ${router.asn};`,
        `  neighbor ${remote} as ${asn};`,
        `  hold time ${router.holdTime};`,
        "  connect delay time 1; connect retry time 2; error wait time 1, 4;",
        ...(passive ? ["  passive on;"] : []),
        ...(password === undefined ? [] : [`  password "${password}";`]),
        `  ipv${family} { import all; export where source = RTS_BGP || source = RTS_STATIC;${shared ? " next hop self;" : ""} };`,
        "}",
      ].join("\n"),
    ),
  ];
  return `${lines.join("\n")}\n`;
}

/** A name as BIRD allows it; the link is in it where the neighbour is on several. */
function birdProtocol({ name, link, family }: RouterSession, all: RouterSession[]): string {
  const alone = all.filter(other => other.name === name && other.family === family).length === 1;
  return [name, ...(alone ? [] : [link]), family].join("_").replaceAll("-", "_");
}

/** `show protocols all`: a block for each protocol, headed by its line in the table. */
export function parseBirdProtocols(text: string): Omit<SessionView, "machine">[] {
  const blocks = text.split(/\n(?=\S)/).map(block => block.trim());
  return blocks.flatMap(block => {
    const head = /^(\S+)\s+BGP\s/.exec(block);
    if (head === null) return [];
    const field = (name: string) => new RegExp(`^\\s+${name}:\\s+(.*?)\\s*$`, "m").exec(block)?.[1];
    const routes = [...block.matchAll(/^\s+Routes:\s+(\d+) imported,(?: \d+ filtered,)? (\d+) exported/gm)];
    return [
      {
        neighbor: head[1],
        address: field("Neighbor address") ?? "",
        asn: field("Neighbor AS") ?? "",
        state: field("BGP state") ?? "Idle",
        received: routes.reduce((sum, match) => sum + Number(match[1]), 0),
        sent: routes.reduce((sum, match) => sum + Number(match[2]), 0),
        reason: field("Last error"),
      },
    ];
  });
}

/**
 * `show route all`: a prefix stands only on its first path; next hops and attributes are indented below each path. The best one has *, or !
 * when the kernel refused it. BIRD 2 calls the AS path BGP.as_path, BIRD 3 bgp_path.
 */
export function parseBirdRoutes(text: string): PathView[] {
  const paths: PathView[] = [];
  let prefix = "";
  for (const line of text.split("\n")) {
    const route = /^(\S+\/\d+)?\s+(?:unicast|blackhole|unreachable|prohibit)\s+\[(\S+) [^\]]*\](\s+[*!])?\s+\([^)]*\)/.exec(line);
    if (route !== null) {
      prefix = route[1] ?? prefix;
      paths.push({ prefix, best: route[3] !== undefined, asPath: "", nextHops: [], from: route[2] });
      continue;
    }
    const path = paths.at(-1);
    const hop = /^\s+via (\S+) on /.exec(line);
    const asPath = /^\s+(?:BGP\.as_path|bgp_path): *(.*?)\s*$/.exec(line);
    if (path && hop !== null) path.nextHops.push(hop[1]);
    if (path && asPath !== null) path.asPath = asPath[1];
  }
  return paths;
}
