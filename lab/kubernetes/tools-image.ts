/** The image that pods of tests and lab use, made here: busybox, and a web server that says its name and who asks. */
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeImage } from "../../deploy/image/archive.ts";
import { IMAGE } from "./configuration.ts";

const WHO = '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%s %s\\n" "$HOSTNAME" "$REMOTE_ADDR"\n';

/** Returns the archive in `folder`. */
export function makeToolsImage(folder: string): string {
  const root = join(folder, "tools");
  mkdirSync(join(root, "bin"), { recursive: true });
  mkdirSync(join(root, "www/cgi-bin"), { recursive: true });
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  for (const applet of ["sh", "httpd", "sleep"]) symlinkSync("busybox", join(root, "bin", applet));
  writeFileSync(join(root, "www/index.html"), "podlane\n");
  writeFileSync(join(root, "www/cgi-bin/who"), WHO, { mode: 0o755 });
  const archive = join(folder, "tools.tar");
  writeImage(root, archive, { name: IMAGE, entrypoint: ["/bin/sleep", "1000000"], environment: ["PATH=/bin"], compression: "none" });
  return archive;
}

/** The pod template of a Deployment `app` of such servers on port 80: `GET /cgi-bin/who`. */
export function webServer(app: string, more: { container?: object; pod?: object } = {}): object {
  const web = {
    name: "web",
    image: IMAGE,
    // The first process of a container ends at SIGTERM only if it says so.
    command: ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p 80 -h /www & wait"],
    ports: [{ containerPort: 80 }],
    readinessProbe: { httpGet: { path: "/", port: 80 }, periodSeconds: 1 },
    ...more.container,
  };
  const spec = { containers: [web], automountServiceAccountToken: false, terminationGracePeriodSeconds: 5, ...more.pod };
  return { metadata: { labels: { app } }, spec };
}
