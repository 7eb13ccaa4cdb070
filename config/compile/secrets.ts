/** TCP MD5 keys out of Secrets (RFC 2385). A key that cannot be had shuts the session down: never an empty password. */
import type { Context } from "./context.ts";

/** TCP_MD5SIG_MAXKEYLEN. Octets. */
const MAX_KEY = 80;

export type Password = { password: string } | { shutdown: { message: string } };

/** Problems name the Secret and the key, never the value. */
export function resolvePassword(
  { resources, memory, problems }: Pick<Context, "resources" | "memory" | "problems">,
  ref: { name: string; key: string },
  object: string,
  field: string,
): Password {
  const known = `${ref.name}/${ref.key}`;
  const fail = (at: string, message: string, remedy: string): Password => {
    // What the Secret said, or, of a reference that leads nowhere, what the session had.
    const password = memory.recall("passwords", known) ?? memory.before("passwords", object);
    if (password !== undefined) memory.remember("passwords", object, password);
    const effect = password === undefined ? "the session stays shut down" : "the password that it had stays in use";
    problems.because("PasswordNotAvailable", { object: `Secret/${ref.name}`, message }, object, at, effect, remedy);
    return password === undefined ? { shutdown: { message: "password not available" } } : { password };
  };
  const secret = resources.secrets.get(ref.name);
  if (!secret) return fail(`${field}.name`, memory.absence("Secret", ref.name).message, "create the Secret, or take passwordSecretRef out");
  const password = Object.hasOwn(secret.data, ref.key) ? secret.data[ref.key] : undefined;
  if (password === undefined)
    return fail(`${field}.key`, `Secret ${ref.name} has no key ${ref.key}`, "add the key to the Secret, or name another one");
  const octets = new TextEncoder().encode(password).length;
  if (octets === 0)
    return fail(`${field}.key`, `key ${ref.key} of Secret ${ref.name} is empty`, `put a password of 1 to ${MAX_KEY} octets there`);
  if (octets > MAX_KEY)
    return fail(
      `${field}.key`,
      `key ${ref.key} of Secret ${ref.name} has ${octets} octets; TCP MD5 takes ${MAX_KEY}`,
      "use a shorter password",
    );
  memory.remember("passwords", known, password);
  memory.remember("passwords", object, password);
  return { password };
}
