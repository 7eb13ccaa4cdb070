/**
 * The suites of others that say what a network policy is, built from their Go modules as the go command finds them: Kubernetes' own tests of NetworkPolicy
 * (e2e_test.go), the conformance tests of ClusterNetworkPolicy, and agnhost, the program that both run in pods. All is kept in build/upstream.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeImage } from "../../deploy/image/archive.ts";

const KUBERNETES = "k8s.io/kubernetes";
const CLUSTER_POLICY = "sigs.k8s.io/network-policy-api";
const CLUSTER_POLICY_VERSION = "v0.3.0";
/** Of ClusterNetworkPolicy, with all that the suite tests. */
const DEFINITION = "config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml";
const CONFORMANCE_PODS = "conformance/base/manifests.yaml";
const folder = join(import.meta.dirname, "../../build/upstream");
const MIB = 2 ** 20;

/** What agnhost speaks SCTP with, and what it gets instead where the kernel has none. */
const SCTP = "github.com/ishidawataru/sctp";
const ownSctp = existsSync("/proc/net/sctp") ? undefined : join(import.meta.dirname, "sctp");

export interface UpstreamPrograms {
  e2e: string;
  /** Runs those beside each other. */
  ginkgo: string;
  conformance: string;
  /** Archives with agnhost by the names that either suite knows it by. */
  images: string[];
  /** A manifest. */
  definition: string;
}

/** The go command; undefined where there is none. */
export function findGo(): string | undefined {
  const folders = [...(process.env.PATH ?? "").split(":"), "/usr/local/go/bin"];
  return folders.map(one => join(one, "go")).find(existsSync);
}

/** `version`: of Kubernetes, "1.34.4". Minutes where nothing has been built before. */
export function buildUpstream(go: string, version: string): UpstreamPrograms {
  const run = (cwd: string, ...words: string[]) => {
    mkdirSync(cwd, { recursive: true });
    const env = { ...process.env, GOFLAGS: "-mod=mod", GOWORK: "off", CGO_ENABLED: "0" };
    return execFileSync(go, words, { cwd, env, encoding: "utf8", maxBuffer: 64 * MIB });
  };
  const download = (module: string) => JSON.parse(run(folder, "mod", "download", "-json", module)) as { Dir: string; GoMod: string };
  const small = "-ldflags=-s -w";

  const kubernetes = join(folder, `kubernetes-${version}`);
  const e2e = join(kubernetes, "e2e.test");
  const agnhost = join(kubernetes, "agnhost");
  const ginkgo = join(kubernetes, "ginkgo");
  const { GoMod: goMod } = download(`${KUBERNETES}@v${version}`);
  writeFileSync(join(makeFolder(kubernetes), "go.mod"), moduleOf(readFileSync(goMod, "utf8"), version));
  copyFileSync(join(import.meta.dirname, "e2e_test.go"), join(kubernetes, "e2e_test.go"));
  run(kubernetes, "test", "-c", "-vet=off", small, "-o", e2e, ".");
  run(kubernetes, "build", small, "-o", ginkgo, "github.com/onsi/ginkgo/v2/ginkgo");
  run(kubernetes, "build", small, "-o", agnhost, `${KUBERNETES}/test/images/agnhost`);

  const policies = join(folder, `network-policy-api-${CLUSTER_POLICY_VERSION}`);
  const conformance = join(policies, "conformance.test");
  const { Dir: source } = download(`${CLUSTER_POLICY}@${CLUSTER_POLICY_VERSION}`);
  writeFileSync(
    join(makeFolder(policies), "go.mod"),
    `module policies\n\ngo 1.26\n\nrequire ${CLUSTER_POLICY} ${CLUSTER_POLICY_VERSION}\n`,
  );
  run(policies, "test", "-c", "-vet=off", small, "-o", conformance, `${CLUSTER_POLICY}/conformance`);

  const asked = execFileSync(e2e, ["-list-images"], { encoding: "utf8" }).match(/\S+\/e2e-test-images\/agnhost:\S+/)?.[0];
  if (!asked) throw new Error("the tests of NetworkPolicy name no image of agnhost");
  const pods = readFileSync(join(source, CONFORMANCE_PODS), "utf8");
  const names = new Set([asked, ...Array.from(pods.matchAll(/image: (\S+)/g), match => match[1])]);
  const images = [...names].map(name => agnhostImage(agnhost, name));
  return { e2e, ginkgo, conformance, images, definition: join(source, DEFINITION) };
}

/** The modules that Kubernetes' source has beside itself are v0.X of Kubernetes 1.X. */
function moduleOf(goMod: string, version: string): string {
  const beside = Array.from(goMod.matchAll(/^\t(\S+) => \.\/staging\//gm), match => match[1]);
  const replaced = beside.map(name => `replace ${name} => ${name} v${version.replace(/^1\./, "0.")}\n`);
  if (ownSctp !== undefined) replaced.push(`replace ${SCTP} => ${ownSctp}\n`);
  return `module upstream\n\ngo 1.24\n\nrequire ${KUBERNETES} v${version}\n\n${replaced.join("")}`;
}

function agnhostImage(program: string, name: string): string {
  const root = makeFolder(join(folder, "images", name.replaceAll(/[/:]/g, "_")));
  const archive = `${root}.tar`;
  // From nothing, as links of a former one would be written through.
  rmSync(root, { recursive: true, force: true });
  mkdirSync(join(root, "bin"), { recursive: true });
  copyFileSync("/bin/busybox", join(root, "bin/busybox"));
  copyFileSync(program, join(root, "agnhost"));
  symlinkSync("busybox", join(root, "bin/sh"));
  // Not an applet, and asked for.
  writeFileSync(join(root, "bin/bash"), '#!/bin/sh\nexec sh "$@"\n', { mode: 0o755 });
  writeImage(root, archive, { name, entrypoint: ["/agnhost", "pause"], environment: ["PATH=/bin"], compression: "none" });
  return archive;
}

function makeFolder(path: string): string {
  mkdirSync(path, { recursive: true });
  return path;
}
