import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, it } from "vitest";
import { describeKernel } from "./testnetns.ts";

describeKernel("a socket for transactions of nftables", () => {
  it("opens for who administers no more than a user namespace", () => {
    const script = `
      import { openRulesetSocket } from ${JSON.stringify(join(import.meta.dirname, "ruleset-batch.ts"))};
      openRulesetSocket().close();
      console.log("opened");`;
    const node = [process.execPath, "--input-type=module", "-e", script];
    expect(execFileSync("unshare", ["--user", "--map-root-user", "--net", ...node], { encoding: "utf8" })).toBe("opened\n");
  });
});
