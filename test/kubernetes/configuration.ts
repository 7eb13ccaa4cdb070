/** What the components of a test cluster are told: flags and files. Dual-stack, one administrator for everybody, nothing of the machine is limited. */

const API_ADDRESS = "10.90.0.10";
/** The image that pods may use: busybox with its applets in /bin. */
export const IMAGE = "registry.local/tools:1";

export const conflist = {
  cniVersion: "1.0.0",
  name: "podlane",
  plugins: [{ type: "podlane" }, { type: "portmap", capabilities: { portMappings: true } }],
};

export const managerFlags = [
  "--leader-elect=false",
  "--allocate-node-cidrs",
  "--cluster-cidr=10.244.0.0/16,fd00:244::/48",
  "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108",
  "--node-cidr-mask-size-ipv4=24",
  "--node-cidr-mask-size-ipv6=64",
  "--concurrent-deployment-syncs=2",
];

export function apiFlags(folder: string): string[] {
  return [
    "--etcd-servers=http://127.0.0.1:2379",
    `--bind-address=${API_ADDRESS}`,
    `--advertise-address=${API_ADDRESS}`,
    `--cert-dir=${folder}/cp`,
    `--token-auth-file=${folder}/tokens.csv`,
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${folder}/sa.pub`,
    `--service-account-signing-key-file=${folder}/sa.key`,
    "--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108",
  ];
}

export function kubeconfig(authority: string): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "test", cluster: { server: `https://${API_ADDRESS}:6443`, "certificate-authority": authority } }],
    users: [{ name: "admin", user: { token: "test" } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    "current-context": "test",
  });
}

export function containerdConfig(folder: string): string {
  return `version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "${folder}/cni/bin"
conf_dir = "${folder}/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
`;
}

/** Of a machine that is shared: no eviction, nothing of the node's own is limited, and the API server is trusted. */
export function kubeletConfig(octet: number, group: string): object {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    address: `10.90.0.${octet}`,
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
