/** The words for each broken link between a Service's address and the neighbours: the same in verdicts, conditions, Events and on the command line. */
import type { IpFamily } from "../../net/address.ts";
import type { AddressKind, Link } from "./types.ts";

export interface Words {
  message: string;
  remedy: string;
}

export interface About {
  kind: AddressKind;
  family?: IpFamily;
  /** What is peculiar to this case: who has the address, what is waited for, why the node is excluded. */
  detail?: string;
}

const Names: Record<AddressKind, string> = { ClusterIP: "cluster", ExternalIP: "external", LoadBalancerIP: "load-balancer" };

export const Texts: Record<Link, (about: About) => Words> = {
  NoAdvertisement: ({ kind, detail }) => ({
    message: detail ?? `no Advertisement of type Service announces ${Names[kind]} addresses of this Service from this node`,
    remedy: `have spec.service of an Advertisement name ${kind} in addresses and select the Service, its namespace and class; its nodeSelector the node, and its peers one that the node has a session with`,
  }),
  NoAddress: ({ kind, detail }) => ({
    message: detail ?? `it has no ${Names[kind]} address yet`,
    remedy:
      kind === "LoadBalancerIP"
        ? detail !== undefined
          ? "nothing: packets to it reach the nodes by that balancer"
          : "kubectl describe service says why none was assigned: an AddressPool must have a free one, and fit"
        : "only Services with an address of their own can be announced: not headless ones, and no names",
  }),
  OutsideRanges: ({ detail }) => ({
    message: `this external address lies in no range that is announced: ${detail ?? "there is none"}`,
    remedy: "give the Service another one, or add a range with it to spec.service.externalRanges of the Advertisement",
  }),
  AddressReserved: ({ detail }) => ({
    message: `no Service may have this address: ${detail ?? "it is another's"}`,
    remedy: "give the Service another one: this one would draw packets away from whom they are for",
  }),
  AddressTaken: ({ detail }) => ({
    message: `another Service has this address: ${detail ?? "it is assigned already"}`,
    remedy: "take it out of spec.externalIPs of this Service, or have the other one give it up",
  }),
  NoEndpoints: ({ family }) => ({
    message: `no ${family === undefined ? "" : `IPv${family} `}endpoint of it is ready anywhere`,
    remedy:
      "see kubectl get endpointslices and the readiness of the pods; spec.service.withoutEndpoints: Keep announces it all the same, where its traffic policy is Cluster",
  }),
  NoEndpointHere: ({ family }) => ({
    message: `traffic policy Local: no ${family === undefined ? "" : `IPv${family} `}endpoint of it is ready on this node`,
    remedy: "nothing, where other nodes announce it; with traffic policy Cluster all of them do",
  }),
  NodeExcluded: ({ detail }) => ({
    message: `this node takes no traffic from outside the cluster: ${detail ?? "it is excluded"}`,
    remedy: "where this is not meant, take the label or taint off the node, or set spec.service.excludedNodes: Ignore for the label",
  }),
  ProxyNotReady: ({ detail }) => ({
    message: `the node's proxy cannot be relied on to take its packets yet: ${detail ?? "it has not answered"}`,
    remedy:
      "see the log of kube-proxy on this node; Fabric spec.services says on which port it is asked, and after how long addresses are announced without an answer",
  }),
  NodeNotReady: ({ detail }) => ({
    message: `this node does not serve pods: ${detail ?? "it is not ready"}`,
    remedy: "podlane status and podlane problems say more",
  }),
};
