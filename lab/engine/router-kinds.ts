import type { RouterSpec } from "../topology/schema.ts";
import { bird } from "./bird.ts";
import { frr } from "./frr.ts";
import { host } from "./host.ts";
import { kubernetes } from "./kubernetes.ts";
import type { RouterKind } from "./router-types.ts";

/** By their words in a topology. */
export const RouterKinds: Readonly<Record<RouterSpec["kind"], RouterKind>> = { frr, bird, kubernetes, host };
