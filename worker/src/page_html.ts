/**
 * A page for one visitor: the bootstrap at the start of its head, and headers that let nobody keep it.
 * Source: HTMLRewriter of Workers.
 * @module
 */
import { FRESHNESS_HEADERS } from "./page_cache";
import { leaveForScript, NONCE } from "./page_csp";
import { randomId } from "./ids";

const NONCE_LENGTH = 22;
/** What was true of the origin's bytes, or is told to Cloudflare's cache alone. */
const OUTDATED_HEADERS = ["content-length", "etag", "last-modified", "accept-ranges", "content-md5", "content-digest", "digest", "cache-tag", "cf-cache-status"];
/** What HTMLRewriter gets decoded. */
const ENCODINGS = ["", "identity", "gzip", "br"];

/**
 * Where a head begins, or what is met first where it is not written down. A page with none of these has no script, and uses no flag.
 * Each element that a selector meets costs about 10 µs, so these are elements that a page has few of.
 */
const BEGINNINGS = ["head", "title", "meta", "link", "style", "base", "script", "body"];

/** A policy in the page itself; it holds for what comes behind it, and so not for the bootstrap. */
const META_POLICY = 'meta[http-equiv="content-security-policy" i]';

export interface VisitorsPart {
  /** JSON text of ASCII. */
  readonly bootstrap: string;
  readonly setCookie: string | null;
  readonly timing: string;
  /** Whether the page is one that others get too. */
  readonly isShared: boolean;
}

/** Whether an answer of the origin is a page that can be changed. */
export function isPage({ status, headers }: Response): boolean {
  const encoding = (headers.get("content-encoding") ?? "").toLowerCase();
  return status === 200 && /^text\/html\s*(;|$)/i.test(headers.get("content-type") ?? "") && ENCODINGS.includes(encoding);
}

/** The page as the visitor gets it, while it streams. Throws before anything of the body is read. */
export function toVisitor(response: Response, { bootstrap, setCookie, timing, isShared }: VisitorsPart): Response {
  const headers = new Headers(response.headers);
  for (const name of [...FRESHNESS_HEADERS, ...OUTDATED_HEADERS]) headers.delete(name);
  headers.set("cache-control", "private, no-store");
  headers.append("server-timing", timing);
  if (setCookie !== null) headers.append("set-cookie", setCookie);
  const { nonce, outdated } = leaveForScript(headers, randomId(NONCE_LENGTH), isShared);
  const first = new FirstInHead(scriptOf(bootstrap, nonce));
  const rewriter = BEGINNINGS.reduce((each, selector) => each.on(selector, first), new HTMLRewriter());
  if (nonce !== null && outdated.size > 0) {
    const replacer = new NonceReplacer(nonce, outdated);
    rewriter.on("[nonce]", replacer).on(META_POLICY, replacer);
  }
  const rewritten = rewriter.transform(response);
  return new Response(rewritten.body, { status: response.status, headers });
}

/** `<` ends scripts and begins comments; in JSON it stands in texts alone. The rest is ASCII, so no line separator is in it. */
function scriptOf(bootstrap: string, nonce: string | null): string {
  const attribute = nonce === null ? "" : ` nonce="${nonce}"`;
  return `<script${attribute}>window.__FLAG_BOOTSTRAP__=${bootstrap.replaceAll("<", "\\u003c")}</script>`;
}

/** Puts markup at the start of the head, or where a parser begins one that is not written down. */
class FirstInHead {
  #isDone = false;
  constructor(private readonly markup: string) {}

  element(element: Element): void {
    if (this.#isDone) return;
    this.#isDone = true;
    if (element.tagName === "head") element.prepend(this.markup, { html: true });
    else element.before(this.markup, { html: true });
  }
}

/** Puts a nonce in the place of outdated ones: in attributes, and in policies of the page itself. */
class NonceReplacer {
  constructor(
    private readonly nonce: string,
    private readonly outdated: ReadonlySet<string>,
  ) {}

  element(element: Element): void {
    if (this.outdated.has(element.getAttribute("nonce") ?? "")) element.setAttribute("nonce", this.nonce);
    const policy = element.getAttribute("content");
    if (element.tagName === "meta" && policy !== null) element.setAttribute("content", this.#renew(policy));
  }

  #renew(policy: string): string {
    return policy.replace(NONCE, (source, nonce: string) => (this.outdated.has(nonce) ? `'nonce-${this.nonce}'` : source));
  }
}
