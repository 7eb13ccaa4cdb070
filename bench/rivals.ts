/** Who carries out NetworkPolicy on a node beside podlane's agent: programs of others, found by an environment variable or on PATH, and what they need on the way. */
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export type SideName = "podlane" | "kube-network-policies" | "kube-router";
export const sideNames: readonly SideName[] = ["podlane", "kube-network-policies", "kube-router"];

const QUEUE = "100";

interface Rival {
  /** Names the program where it is not on PATH under its own name. */
  variable: string;
  /** Where its source is, and in which version it was tried. */
  source: string;
  needs: readonly string[];
  /** `node`: its name in the API server. */
  options(node: string): string[];
  /** What the node must have beside the program, in its network namespace; says what that is. */
  prepare?(pods: readonly string[]): string | undefined;
}

const rivals: Record<Exclude<SideName, "podlane">, Rival> = {
  "kube-network-policies": {
    variable: "PODLANE_KUBE_NETWORK_POLICIES",
    source: "sigs.k8s.io/kube-network-policies/cmd v0.8.0",
    needs: ["iptables"],
    options: node => [`--hostname-override=${node}`, "--metrics-bind-address=127.0.0.1:9980", `--nfqueue-id=${QUEUE}`],
    prepare: pods => {
      if (spawnSync("nft", ["list", "table", "inet", "kube-network-policies"], { stdio: "ignore" }).status === 0) return undefined;
      for (const pod of pods) {
        const words = ["-w", "-t", "mangle", "-A", "POSTROUTING", "-d", pod, "-m", "conntrack", "--ctstate", "NEW"];
        execFileSync("iptables", [...words, "-j", "NFQUEUE", "--queue-num", QUEUE]);
      }
      return "this kernel has no queue in nftables, so an iptables rule sends it each new connection to the pod: its own rules, and their time, are left out";
    },
  },
  "kube-router": {
    variable: "PODLANE_KUBE_ROUTER",
    source: "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router v2.1.0",
    needs: ["iptables", "ipset"],
    options: node => [
      ...["--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--run-loadbalancer=false"],
      ...[`--hostname-override=${node}`, "--service-cluster-ip-range=10.96.0.0/16", "--enable-ipv6=false", "--health-port=0"],
    ],
  },
};

/** The command; a text: why it cannot be run. */
export function rivalCommand(name: Exclude<SideName, "podlane">, node: string): string[] | string {
  const { variable, source, needs, options } = rivals[name];
  const program = process.env[variable] ?? onPath(name);
  if (program === undefined) return `no ${name}: go install ${source}, and name the program in ${variable}`;
  const missing = needs.find(need => onPath(need) === undefined);
  return missing ? `${name} needs ${missing}: apt-get install ${missing}` : [program, ...options(node)];
}

/** In the network namespace of the node, once it runs. */
export function prepareRival(name: SideName, pods: readonly string[]): string | undefined {
  return name === "podlane" ? undefined : rivals[name].prepare?.(pods);
}

/** Takes away what any of them left in the network namespace of the caller. */
export function cleanNode(): void {
  execFileSync("nft", ["flush", "ruleset"]);
  if (onPath("ipset")) spawnSync("ipset", ["destroy"], { stdio: "ignore" });
}

function onPath(name: string): string | undefined {
  return (process.env.PATH ?? "")
    .split(delimiter)
    .map(folder => join(folder, name))
    .find(file => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}
