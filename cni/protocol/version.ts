/** The versions of the CNI specification that podlane speaks, and what differs between them. */
import { CniError, ErrorCode } from "./error.ts";

/** Oldest first. 0.1.0 and 0.2.0 have another result form and are not spoken. cni/plugin/podlane.c has the same list. */
export const supportedVersions = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof supportedVersions)[number];
export const LATEST_VERSION: CniVersion = "1.1.0";

/** Throws CniError code 1 for a version that is not spoken. A configuration without one means 0.1.0 (SPEC 0.2.0). */
export function readVersion(value: unknown): CniVersion {
  const found = supportedVersions.find(version => version === value);
  if (found) return found;
  const shown =
    value === undefined || value === "" ? "the configuration has no cniVersion, which means 0.1.0" : `cniVersion ${JSON.stringify(value)}`;
  throw new CniError(ErrorCode.incompatibleVersion, `${shown}: not supported`, `podlane speaks ${supportedVersions.join(", ")}`);
}

export function atLeast(version: CniVersion, minimum: CniVersion): boolean {
  return supportedVersions.indexOf(version) >= supportedVersions.indexOf(minimum);
}

/** The answer to VERSION (CNI SPEC "VERSION"). */
export function formatVersions(cniVersion: string): { cniVersion: string; supportedVersions: readonly string[] } {
  return { cniVersion, supportedVersions };
}
