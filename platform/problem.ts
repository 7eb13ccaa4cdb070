/** What is wrong, in one shape wherever it is found: in objects, in the speaker, in the attachment of pods. */

/** What kind of thing is wrong, for programs: conditions, labels of metrics. The words are for people, and change. */
export const Reasons = [
  "ASSetRefused",
  "AccessDenied",
  "AddressConflict",
  "AddressUnknown",
  "AdvertisementShadowed",
  "AggregationTooLong",
  "ApiServerUnreachable",
  "AttachedRange",
  "AttachmentFailed",
  "AttributesContradict",
  "AttributesNotMerged",
  "CNIFilesChanged",
  "CNIInstallFailed",
  "CertificateUnusable",
  "ClientOfAnotherAS",
  "ConfigurationHeld",
  "ConfigurationUnreadable",
  "DuplicateAddress",
  "DuplicateNeighbor",
  "DuplicateNetwork",
  "DuplicateObject",
  "DuplicateRouterID",
  "EmptyASPath",
  "EmptyFile",
  "ExampleFails",
  "FamilyNotCarried",
  "FirstASRefused",
  "ForeignNetworkFirst",
  "FormerPodSubnet",
  "ForwardPolicyDrops",
  "ForwardRulesAdded",
  "GatewayUnknown",
  "InheritanceFailed",
  "InterfaceNotFound",
  "InternalError",
  "InvalidAnnotation",
  "InvalidPodSubnet",
  "InvalidRule",
  "InvalidValue",
  "KernelLacks",
  "KernelRoutesMissing",
  "KernelUnreadable",
  "KindNotInstalled",
  "LedgerFailed",
  "LedgerUnusable",
  "LimitExceeded",
  "LimitNear",
  "ListenFailed",
  "MTUOutdated",
  "MTUTooLarge",
  "MalformedUpdates",
  "MissingField",
  "NeighborOffLink",
  "NeverReached",
  "NextHopUnreachable",
  "NoCommonFamily",
  "NoEffect",
  "NoInternalIP",
  "NoNodes",
  "NoOwnNextHop",
  "NoPodSubnet",
  "NoSession",
  "NodeExcluded",
  "NodeNotFound",
  "NodeSetupFailed",
  "NodeValueUnusable",
  "NotBelieved",
  "NotSelected",
  "NotSupported",
  "NotUsed",
  "NothingAccepted",
  "NothingAnnounced",
  "OriginRefused",
  "OverlayConflict",
  "OverlayFailed",
  "OverlayOneSided",
  "PacketFilterFailed",
  "PacketFilterMissing",
  "PacketFilterRefused",
  "PasswordNotAvailable",
  "PodSubnetsOfOneFamily",
  "PodUnguarded",
  "PolicyBypassed",
  "PortZero",
  "ProxyUnhealthy",
  "ProxyUnreachable",
  "RangesOverlap",
  "ReferenceNotFound",
  "RouteConflict",
  "RouteTooLarge",
  "RoutesLate",
  "RuleViolated",
  "SavedPlanUnusable",
  "SelectedTwice",
  "SelectsNothing",
  "ServicesHeld",
  "ServicesUnsaved",
  "SessionDown",
  "SessionsLost",
  "StoreWentBack",
  "StrictReversePath",
  "TemplateReferenced",
  "UnknownAnnotation",
  "UnknownField",
  "UnknownKind",
  "UnreadableFile",
] as const;
export type Reason = (typeof Reasons)[number];

/** Of whoever finds it, in its own terms. Never holds a password. */
export interface Finding {
  severity: "error" | "warning";
  reason: Reason;
  /** "spec.passwordSecretRef.name"; "" for the object as a whole. */
  field: string;
  message: string;
  remedy: string;
}

export interface Problem extends Finding {
  /** "Peer/tor-a", or a file name where no object could be read. */
  object: string;
  /** The object at fault, where that is another one. */
  cause?: string;
  /** What follows from it elsewhere, a line each: "Peer/tor-a spec.from: its last good version stays in force". */
  consequences?: string[];
  /** Where it stands, for objects from files: "rack.yaml, document 2, line 14:7". */
  place?: string;
}
