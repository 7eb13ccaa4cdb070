/**
 * Small readers for untrusted JSON: each takes a value and the place it came from, and throws CniError with the code for a
 * bad network configuration (CNI SPEC, code 7) that names the place.
 */
import { CniError, ErrorCode } from "./error.ts";

export type JsonObject = { [key: string]: unknown };

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function wrong(place: string, expected: string, value: unknown): CniError {
  const shown = JSON.stringify(value) ?? "nothing";
  const text = shown.length > 80 ? `${shown.slice(0, 77)}...` : shown;
  return new CniError(ErrorCode.invalidConfig, `"${place}" must be ${expected}, not ${text}`);
}

export function readObject(value: unknown, place: string): JsonObject {
  if (!isObject(value)) throw wrong(place, "an object", value);
  return value;
}

/** Absent and null give undefined, as Go's decoder leaves a field at its zero value. */
export function optionalObject(value: unknown, place: string): JsonObject | undefined {
  return value === undefined || value === null ? undefined : readObject(value, place);
}

function readArray(value: unknown, place: string, maximum: number): unknown[] {
  if (!Array.isArray(value)) throw wrong(place, "a list", value);
  if (value.length > maximum)
    throw new CniError(ErrorCode.invalidConfig, `"${place}" has ${value.length} entries; at most ${maximum} are allowed`);
  return value;
}

export function optionalArray(value: unknown, place: string, maximum: number): unknown[] {
  return value === undefined || value === null ? [] : readArray(value, place, maximum);
}

export function readString(value: unknown, place: string): string {
  if (typeof value !== "string") throw wrong(place, "a string", value);
  return value;
}

export function readInteger(value: unknown, place: string, minimum: number, maximum: number): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < minimum || value > maximum) {
    throw wrong(place, `an integer from ${minimum} to ${maximum}`, value);
  }
  return value;
}
