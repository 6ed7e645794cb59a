/**
 * A page for one visitor: the bootstrap at the start of its head, and headers that let nobody keep it.
 * @module
 */
import { FRESHNESS_HEADERS } from "./page_cache";
import { leaveForScript } from "./page_csp";
import { NonceRenewer } from "./page_nonces";
import { writeInto } from "./page_writer";
import { randomId } from "./ids";

const NONCE_LENGTH = 22;
/** What was true of the origin's bytes, or is told to Cloudflare's cache alone. Cloudflare compresses for the browser, and lets a page stream. */
const OUTDATED_HEADERS = ["content-encoding", "content-length", "etag", "last-modified", "accept-ranges", "content-md5", "content-digest", "digest", "cache-tag", "cf-cache-status"];
/** What a Worker gets decoded. */
const ENCODINGS = ["", "identity", "gzip", "br"];

/** Charsets that do not contain ASCII as it is. */
const STRANGE_CHARSET = /charset\s*=\s*["']?\s*(utf-?(7|16|32)|ucs|unicode|iso-?2022|csiso2022|iso-10646|hz-gb|replacement)/i;

export interface VisitorsPart {
  /** JSON text of ASCII. */
  readonly bootstrap: string;
  /** Our cookie; null for a visitor who has it. */
  readonly setCookie: string | null;
  readonly timing: string;
  /** Whether the page is one that others get too. */
  readonly isShared: boolean;
}

/** Whether an answer of the origin is a page that can be changed. */
export function isPage({ status, headers }: Response): boolean {
  const encoding = (headers.get("content-encoding") ?? "").toLowerCase();
  return status === 200 && isHtml(headers) && !STRANGE_CHARSET.test(headers.get("content-type") ?? "") && ENCODINGS.includes(encoding);
}

/** The page as the visitor gets it, while it streams. */
export function toVisitor(response: Response, { bootstrap, setCookie, timing, isShared }: VisitorsPart): Response {
  const headers = visitorsHeaders(response, setCookie, timing);
  for (const name of OUTDATED_HEADERS) headers.delete(name);
  const { nonce, renewed } = leaveForScript(headers, () => randomId(NONCE_LENGTH), isShared);
  const nonces = renewed.size === 0 ? null : new NonceRenewer(renewed);
  const body = response.body && writeInto(response.body, scriptOf(bootstrap, nonce), nonces);
  return new Response(body, { status: response.status, headers });
}

/** An answer that is no page, as the visitor gets it: a redirect or another HTML may have been made for the variants, all else is everybody's. */
export function passToVisitor(response: Response, { setCookie, timing }: VisitorsPart): Response {
  const isRedirect = response.status >= 300 && response.status < 400;
  if (!isRedirect && !isHtml(response.headers)) return response;
  return new Response(response.body, { status: response.status, headers: visitorsHeaders(response, setCookie, timing) });
}

function isHtml(headers: Headers): boolean {
  return /^text\/html\s*(;|$)/i.test(headers.get("content-type") ?? "");
}

/** Headers by which nobody keeps the answer. A cookie of ours that the origin sets itself is its own to choose. */
function visitorsHeaders(response: Response, setCookie: string | null, timing: string): Headers {
  const headers = new Headers(response.headers);
  for (const name of FRESHNESS_HEADERS) headers.delete(name);
  headers.set("cache-control", "private, no-store");
  headers.append("server-timing", timing);
  const ours = setCookie?.slice(0, setCookie.indexOf("=") + 1);
  if (setCookie !== null && !headers.getSetCookie().some((each) => each.startsWith(ours as string))) headers.append("set-cookie", setCookie);
  return headers;
}

/** `<` ends scripts and begins comments; in JSON it stands in texts alone. The rest is ASCII, so no line separator is in it. */
function scriptOf(bootstrap: string, nonce: string | null): string {
  const attribute = nonce === null ? "" : ` nonce="${nonce}"`;
  return `<script${attribute}>window.__FLAG_BOOTSTRAP__=${bootstrap.replaceAll("<", "\\u003c")}</script>`;
}
