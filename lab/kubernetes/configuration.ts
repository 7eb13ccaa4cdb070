/** What the components of a cluster of tests and lab are told: flags and files. Dual-stack, one administrator for everybody, nothing of the machine is limited. */

import { isIPv6 } from "node:net";

/** The image that pods may use: busybox with its applets in /bin. */
export const IMAGE = "registry.local/tools:1";
const podRanges = ["10.244.0.0/16", "fd00:244::/48"];
const serviceRanges = ["10.96.0.0/16", "fd00:96::/108"];

/** `address`: of the API server. Its family comes first, as Kubernetes wants. */
export function managerFlags(address: string): string[] {
  return [
    "--leader-elect=false",
    "--allocate-node-cidrs",
    `--cluster-cidr=${inOrder(podRanges, address)}`,
    `--service-cluster-ip-range=${inOrder(serviceRanges, address)}`,
    "--node-cidr-mask-size-ipv4=24",
    "--node-cidr-mask-size-ipv6=64",
    "--concurrent-deployment-syncs=2",
  ];
}

function inOrder(ranges: readonly string[], address: string): string {
  return (isIPv6(address) ? ranges.toReversed() : ranges).join();
}

export const proxyFlags = [
  "--proxy-mode=nftables",
  `--cluster-cidr=${podRanges}`,
  // That parameter is not one of a network namespace.
  "--conntrack-max-per-core=0",
  "--nodeport-addresses=primary",
];

export function etcdFlags(folder: string): string[] {
  return [`--data-dir=${folder}/etcd`, "--unsafe-no-fsync", "--log-level=warn"];
}

export function apiFlags(folder: string, address: string): string[] {
  return [
    "--etcd-servers=http://127.0.0.1:2379",
    `--bind-address=${address}`,
    `--advertise-address=${address}`,
    `--cert-dir=${folder}`,
    `--token-auth-file=${folder}/tokens.csv`,
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${folder}/sa.pub`,
    `--service-account-signing-key-file=${folder}/sa.key`,
    `--service-cluster-ip-range=${inOrder(serviceRanges, address)}`,
    "--kubelet-preferred-address-types=InternalIP",
  ];
}

export function kubeconfig(address: string, authority: string): string {
  const host = isIPv6(address) ? `[${address}]` : address;
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster: { server: `https://${host}:6443`, "certificate-authority": authority } }],
    users: [{ name: "admin", user: { token: "test" } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    "current-context": "test",
  });
}

export function containerdConfig(): string {
  return `version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
`;
}

/** Of a machine that is shared: no eviction, nothing of the node's own is limited, and the API server is trusted. */
export function kubeletConfig(address: string, group: string): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    address,
    containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock",
    cgroupDriver: "cgroupfs",
    cgroupRoot: `/${group}`,
    enforceNodeAllocatable: [],
    failSwapOn: false,
    healthzPort: 0,
    localStorageCapacityIsolation: false,
    evictionHard: { "nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "1Mi" },
    makeIPTablesUtilChains: false,
    nodeStatusUpdateFrequency: "2s",
    registryPullQPS: 0,
    resolvConf: "",
  };
}
