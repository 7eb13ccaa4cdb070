/** Certificate and key in files, which are replaced while the agent runs: looked at again and again, and taken over when they fit together. */
import { readFileSync, statSync } from "node:fs";
import { createSecureContext } from "node:tls";

export interface CertificatePaths {
  cert: string;
  key: string;
  /** Of who may ask for metrics; absent: everybody may. */
  clientCa?: string;
}

export interface Certificates {
  cert: string;
  key: string;
  ca?: string;
}

/** Octets of a file. */
const MAX_FILE = 1024 * 1024;

/** Throws a sentence about the file that cannot be used, or about the two that do not fit together. */
export function readCertificates({ cert, key, clientCa }: CertificatePaths): Certificates {
  const found = { cert: read(cert), key: read(key), ...(clientCa !== undefined && { ca: read(clientCa) }) };
  try {
    createSecureContext(found);
  } catch (error) {
    throw new Error(`${[cert, key, clientCa].filter(path => path !== undefined).join(", ")}: ${(error as Error).message}`);
  }
  return found;
}

export function sameCertificates(a: Certificates, b: Certificates): boolean {
  return a.cert === b.cert && a.key === b.key && a.ca === b.ca;
}

function read(path: string): string {
  const found = statSync(path);
  if (!found.isFile()) throw new Error(`${path} is not a regular file`);
  if (found.size > MAX_FILE) throw new Error(`${path} is longer than ${MAX_FILE} octets`);
  return readFileSync(path, "utf8");
}
