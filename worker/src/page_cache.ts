/**
 * Pages in Cloudflare's cache, by URL and cohort alone: what a visitor owns (token, nonce, cookie) is put on after it.
 * Sources: RFC 9111, RFC 9213, the Cache API of Workers.
 * @module
 */

const TARGETED = ["cloudflare-cdn-cache-control", "cdn-cache-control"];
const FORBIDDEN = ["private", "no-store", "no-cache"];
const COHORT = "__flag_cohort";
/** What says how long who may keep an answer. */
export const FRESHNESS_HEADERS = [...TARGETED, "cache-control", "surrogate-control", "expires", "pragma", "age"];

/** Whether a page's request may be answered with what was made for others, and its answer be kept for them: a GET may have a body. */
export function isShareable({ headers, body }: Request): boolean {
  return !headers.has("authorization") && body === null;
}

/** For how many seconds an answer may be kept; 0 for one that must not be. */
export function freshnessOf({ status, headers }: Response): number {
  const vary = listOf(headers.get("vary"));
  if (status !== 200 || headers.has("set-cookie") || vary.some((name) => name !== "accept-encoding")) return 0;
  const general = directivesOf(headers.get("cache-control"));
  const targeted = TARGETED.map((name) => directivesOf(headers.get(name)));
  if ([general, ...targeted].some((directives) => FORBIDDEN.some((name) => directives.has(name)))) return 0;
  const forUs = targeted.find((directives) => directives.size > 0);
  const lifetime =
    forUs !== undefined
      ? secondsOf(forUs, "s-maxage") ?? secondsOf(forUs, "max-age")
      : secondsOf(general, "s-maxage") ?? (general.has("public") ? secondsOf(general, "max-age") : undefined);
  const age = Number(headers.get("age") ?? 0) || 0;
  return Math.max(0, (lifetime ?? 0) - Math.max(0, age));
}

/** The cached page of a URL and a cohort, if there is one. */
export async function findPage(url: string, cohort: string): Promise<Response | null> {
  return (await caches.default.match(keyOf(url, cohort))) ?? null;
}

/** Keep a page; `response` is one of its own, which is read here. */
export async function keepPage(url: string, cohort: string, response: Response, seconds: number): Promise<void> {
  const headers = new Headers(response.headers);
  for (const name of FRESHNESS_HEADERS) headers.delete(name);
  headers.set("cache-control", `s-maxage=${seconds}`);
  await caches.default.put(keyOf(url, cohort), new Response(response.body, { headers }));
}

/** The cohort stands last, so no URL with such a parameter of its own has another's key. */
function keyOf(url: string, cohort: string): string {
  return `${url}${url.includes("?") ? "&" : "?"}${COHORT}=${cohort}`;
}

/** Directives by name; of several with a name all values. */
function directivesOf(header: string | null): ReadonlyMap<string, string[]> {
  const directives = new Map<string, string[]>();
  for (const part of listOf(header)) {
    const [name = "", value = ""] = part.split("=").map((text) => text.trim());
    directives.set(name, [...(directives.get(name) ?? []), value]);
  }
  return directives;
}

/** The least of what is said; 0 for what is no number, undefined for nothing. */
function secondsOf(directives: ReadonlyMap<string, string[]>, name: string): number | undefined {
  const values = directives.get(name)?.map((value) => Number(/^"?(\d{1,10})"?$/.exec(value)?.[1] ?? 0));
  return values === undefined ? undefined : Math.min(...values);
}

function listOf(header: string | null): string[] {
  return header?.split(",").map((part) => part.trim().toLowerCase()).filter((part) => part !== "") ?? [];
}
