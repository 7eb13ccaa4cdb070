import type { PodPlan } from "../types.ts";
import { bridgeMode } from "./bridge/mode.ts";
import type { AttachMode } from "./mode.ts";
import { routedMode } from "./routed/mode.ts";

export const AttachModes: Readonly<Record<PodPlan["mode"], AttachMode>> = { bridge: bridgeMode, routed: routedMode };
