/**
 * Who looks at a page: a first-party cookie with a random id, which is the unit. Never anything that several visitors share.
 * Source: RFC 6265.
 * @module
 */
import { randomId } from "./ids";

const ID_LENGTH = 24;
/** What we set, and what an origin that sets the cookie itself may have in it, such as a UUID. */
const ID = /^[\w-]{16,64}$/;
const LIFETIME_S = 400 * 86_400;

export interface Visitor {
  readonly id: string;
  /** The value of `Set-Cookie`; null for a visitor who has the cookie. */
  readonly setCookie: string | null;
}

/** The cookies of a request by name, as they stand there; the first of a name counts. */
export function readCookies(header: string | null): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>();
  for (const part of header?.split(";") ?? []) {
    const at = part.indexOf("=");
    const name = part.slice(0, at).trim();
    if (at > 0 && !cookies.has(name)) cookies.set(name, part.slice(at + 1).trim());
  }
  return cookies;
}

export function readVisitor(cookies: ReadonlyMap<string, string>, name: string, url: string): Visitor {
  const given = cookies.get(name) ?? "";
  if (ID.test(given)) return { id: given, setCookie: null };
  const id = randomId(ID_LENGTH);
  const secure = url.startsWith("https:") ? "; Secure" : "";
  return { id, setCookie: `${name}=${id}; Path=/; Max-Age=${LIFETIME_S}; HttpOnly; SameSite=Lax${secure}` };
}
