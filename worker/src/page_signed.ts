/**
 * Attributes that the origin vouches for, such as a visitor's plan: a short-lived cookie under an HMAC.
 *
 * `v1.<key id>.<payload>.<mac>`, the last two base64url: the payload is JSON `{"exp": epoch seconds, "host": …, "attributes": {…}}`, the
 * MAC is HMAC-SHA-256 over `flagedge attributes v1.<key id>.<payload>`. Signed by flagedge/page_attributes.py. Whatever is wrong with
 * a cookie, it is as if there were none.
 * @module
 */
import { type Context, isStruct } from "./context";

export const SIGNED_COOKIE = "flag_attributes";
const COOKIE = /^v1\.([\w-]{1,64})\.([\w-]{1,4000})\.([\w-]{43})$/;
const PREFIX = "flagedge attributes ";
const LIFETIME_MAX_S = 86_400;
const utf8 = new TextEncoder();
const BASE64URL = { alphabet: "base64url" } as const;

export class SignedAttributes {
  readonly #keys = new Map<string, Promise<CryptoKey>>();

  /** `keys` are base64, by id. */
  constructor(private readonly keys: Readonly<Record<string, string>>) {}

  /** The attributes of a cookie for this host; none where it is not to be believed. */
  async read(cookie: string | undefined, host: string, nowMs: number): Promise<Context> {
    const match = COOKIE.exec(cookie ?? "");
    if (match === null) return {};
    const [, kid, payload, mac] = match as unknown as [string, string, string, string];
    try {
      const key = await this.#key(kid);
      const signed = utf8.encode(`${PREFIX}v1.${kid}.${payload}`);
      if (key === null || !(await crypto.subtle.verify("HMAC", key, Uint8Array.fromBase64(mac, BASE64URL), signed))) return {};
      return attributesOf(JSON.parse(new TextDecoder().decode(Uint8Array.fromBase64(payload, BASE64URL))), host, nowMs / 1000);
    } catch {
      return {};
    }
  }

  async #key(kid: string): Promise<CryptoKey | null> {
    const text = Object.hasOwn(this.keys, kid) ? this.keys[kid] : undefined;
    if (text === undefined) return null;
    let key = this.#keys.get(kid);
    if (key === undefined) {
      key = crypto.subtle.importKey("raw", Uint8Array.fromBase64(text), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
      this.#keys.set(kid, key);
    }
    return key;
  }
}

function attributesOf(payload: unknown, host: string, nowS: number): Context {
  if (!isStruct(payload)) return {};
  const { exp, host: forHost, attributes } = payload;
  const isCurrent = typeof exp === "number" && exp > nowS && exp <= nowS + LIFETIME_MAX_S;
  return isCurrent && forHost === host && isStruct(attributes) ? attributes : {};
}
