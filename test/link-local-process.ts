/** A speaker with the configuration of its first argument (JSON) in the namespace it was started in, until its stdin ends. */
import { Speaker } from "../bgpd/speaker.ts";
import { openKernel } from "../kernel/index.ts";
import { systemClock } from "../platform/clock.ts";

const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const speaker = new Speaker({ clock: systemClock, log: quiet, kernel: openKernel() });
speaker.apply(JSON.parse(process.argv[2]));
process.stdin.resume();
process.stdin.on("end", () => process.exit());
