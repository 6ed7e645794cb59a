/**
 * Who Cloudflare Access says a visitor is: its JWT, verified against the team's keys.
 *
 * The keys are fetched behind answers and kept for an hour, so an isolate knows nobody before it has them, and one that cannot
 * reach them goes on with those it has for a day. Sources: Cloudflare Access, "Validate JWTs"; RFC 7515, RFC 7519.
 * @module
 */
import { type Context, isStruct } from "./context";

const HEADER = "cf-access-jwt-assertion";
const COOKIE = "CF_Authorization";
const TOKEN = /^([\w-]{1,1000})\.([\w-]{1,8000})\.([\w-]{1,1000})$/;
const FRESH_MS = 3_600_000;
const KEPT_MS = 86_400_000;
const FETCH_MAX_MS = 10_000;
/** Between two fetches, whatever tokens come. */
const PAUSE_MS = 60_000;
const SKEW_S = 60;
const RS256 = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
const BASE64URL = { alphabet: "base64url" } as const;

export interface AccessSettings {
  /** The team's address, which issues tokens: `https://example.cloudflareaccess.com`. */
  readonly team: string;
  /** The application's audience tag. */
  readonly audience: string;
}

export class AccessTokens {
  #keys: ReadonlyMap<string, CryptoKey> = new Map();
  #fetchedAtMs = 0;
  #triedAtMs = 0;

  constructor(private readonly settings: AccessSettings) {}

  /** The claims of a request's token; none where it is not to be believed. */
  async read(request: Request, cookies: ReadonlyMap<string, string>, execution: ExecutionContext, nowMs: number): Promise<Context> {
    const match = TOKEN.exec(request.headers.get(HEADER) ?? cookies.get(COOKIE) ?? "");
    if (match === null) return {};
    const [, header, payload, signature] = match as unknown as [string, string, string, string];
    try {
      const key = this.#keyOf(decoded(header), execution, nowMs);
      if (key === null) return {};
      const isSigned = await crypto.subtle.verify(RS256.name, key, bytesOf(signature), new TextEncoder().encode(`${header}.${payload}`));
      return isSigned ? this.#claimsOf(decoded(payload), nowMs / 1000) : {};
    } catch {
      return {};
    }
  }

  #keyOf(header: unknown, execution: ExecutionContext, nowMs: number): CryptoKey | null {
    if (!isStruct(header) || header["alg"] !== "RS256" || typeof header["kid"] !== "string") return null;
    const ageMs = nowMs - this.#fetchedAtMs;
    const key = ageMs < KEPT_MS ? (this.#keys.get(header["kid"]) ?? null) : null;
    if ((key === null || ageMs > FRESH_MS) && nowMs - this.#triedAtMs > PAUSE_MS) {
      this.#triedAtMs = nowMs;
      execution.waitUntil(this.#fetchKeys(nowMs));
    }
    return key;
  }

  async #fetchKeys(nowMs: number): Promise<void> {
    try {
      const response = await fetch(`${this.settings.team}/cdn-cgi/access/certs`, { redirect: "manual", signal: AbortSignal.timeout(FETCH_MAX_MS) });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const { keys } = (await response.json()) as { keys: JsonWebKey[] };
      const imported = keys.map(async (key) => [(key as { kid?: unknown }).kid, await crypto.subtle.importKey("jwk", key, RS256, false, ["verify"])] as const);
      const settled = await Promise.allSettled(imported);
      // A key of another kind is none that we could use.
      const usable = settled.flatMap((each) => (each.status === "fulfilled" && typeof each.value[0] === "string" ? [each.value as [string, CryptoKey]] : []));
      if (usable.length === 0) throw new Error("no key of RS256");
      this.#keys = new Map(usable);
      this.#fetchedAtMs = nowMs;
    } catch (error) {
      console.error(JSON.stringify({ event: "access_keys.failed", error: String(error) }));
    }
  }

  #claimsOf(claims: unknown, nowS: number): Context {
    if (!isStruct(claims)) return {};
    const { iss, aud, exp, nbf } = claims;
    const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
    const isCurrent = typeof exp === "number" && exp > nowS && (nbf === undefined || (typeof nbf === "number" && nbf <= nowS + SKEW_S));
    return isCurrent && iss === this.settings.team && audiences.includes(this.settings.audience) ? claims : {};
  }
}

function decoded(text: string): unknown {
  return JSON.parse(new TextDecoder().decode(bytesOf(text)));
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.fromBase64(text, BASE64URL);
}
