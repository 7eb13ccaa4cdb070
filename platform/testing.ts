/** For tests. */
import type { Logger } from "./log.ts";

/** Says nothing. */
export const quietLog: Logger = { debug() {}, info() {}, warn() {}, error() {}, child: () => quietLog };
