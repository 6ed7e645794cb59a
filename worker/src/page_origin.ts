/**
 * Requests to the origin of pages. It is told the variants of the page's flags, and nothing that a visitor made up in their place.
 * @module
 */
import { Refusal } from "./refusal";

/** JSON of ASCII: the variant of each flag that the page uses by their short names, null for the default. */
const VARIANTS_HEADER = "x-flag-variants";
/** Headers that frameworks believe about the URL or the method: with them, one visitor could choose what is kept for all. */
const UNTRUSTED = /^(x-flag-variants|forwarded|x-forwarded-(?!for$).*|x-original-.*|x-rewrite-url|x-url-scheme|x-host|x-http-method(-override)?|x-method-override|front-end-https)$/;
/** A page differs by visitor: neither a part of it nor "not modified" can be used. */
const CONDITIONS = ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since"];

export class PageOrigin {
  /** `origin` as in the settings. */
  constructor(private readonly origin: string) {}

  /** The request as it came. */
  pass(request: Request): Promise<Response> {
    return ask(this.#requestFor(request));
  }

  /** The request of a page. The zone's own cache knows no cohorts, so it is to keep nothing. */
  page(request: Request, variants: string): Promise<Response> {
    const asked = this.#requestFor(request);
    for (const name of CONDITIONS) asked.headers.delete(name);
    asked.headers.set("accept-encoding", "gzip");
    asked.headers.set(VARIANTS_HEADER, variants);
    return ask(asked, { cf: { cacheTtl: -1 } });
  }

  #requestFor(request: Request): Request {
    const { host, pathname, protocol, search } = new URL(request.url);
    const asked = new Request(this.origin === "" ? request.url : `${this.origin}${pathname}${search}`, request);
    for (const name of [...asked.headers.keys()]) if (UNTRUSTED.test(name)) asked.headers.delete(name);
    asked.headers.set("x-forwarded-host", host);
    asked.headers.set("x-forwarded-proto", protocol.slice(0, -1));
    return asked;
  }
}

async function ask(request: Request, init: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(request, { redirect: "manual", ...init });
  } catch (error) {
    console.error(JSON.stringify({ event: "origin.failed", error: String(error) }));
    throw new Refusal(502, "origin_unreachable", "the origin does not answer", { "cache-control": "no-store" });
  }
}
