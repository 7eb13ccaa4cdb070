/** A speaker with the configuration of its first argument (JSON) in the namespace it was started in, until its stdin ends. */
import { systemClock } from "../bgpd/platform.ts";
import { Speaker } from "../bgpd/speaker.ts";
import { openRtnetlink, watchKernel } from "../kernel/index.ts";

const netlink = openRtnetlink({});
const quiet = { debug() {}, info() {}, warn() {}, error() {}, child: () => quiet };
const watch = (listener: Parameters<typeof watchKernel>[1]) => watchKernel({ ignore: [netlink.port] }, listener);
const speaker = new Speaker({ clock: systemClock, log: quiet, kernel: { netlink, watch } });
speaker.apply(JSON.parse(process.argv[2]));
process.stdin.resume();
process.stdin.on("end", () => process.exit());
