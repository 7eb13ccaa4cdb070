/** A machine that is neither router nor node: a client. Its kernel alone acts; its default routes come with its links (network.ts). */
import type { RouterKind } from "./router-types.ts";

export const host: RouterKind = {
  title: "host",
  programs: [],
  config: () => "",
  start: async () => {},
  ask: async () => {},
  sessions: async () => [],
  paths: async () => [],
  example: "ip route",
};
