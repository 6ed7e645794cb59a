/**
 * The evaluation context of a page's request, by rules: each says where an attribute comes from.
 *
 * `cf:country` (a field of `request.cf`; `cf:botManagement.score` for a field of a field), `cookie:theme`, `header:accept-language`,
 * `query:campaign`, `path`, `host`, `visitor` (the id that is the unit); `signed:plan` for what the origin has signed, `access:email` for a claim that
 * Cloudflare Access has. What is not there is left out.
 * @module
 */
import { type Context, isStruct } from "./context";
import { fromOpenFeature } from "./flag_value";

/** A longer value is none: nobody wrote a rule for it. */
const VALUE_MAX_CHARACTERS = 1_000;
const UNIT = "targeting_key";

export interface PageRequest {
  readonly request: Request;
  readonly url: URL;
  readonly cookies: ReadonlyMap<string, string>;
  readonly visitorId: string;
}

/** What somebody else than the visitor vouches for. */
export interface Attested {
  readonly signed: Context;
  readonly access: Context;
}

type Source = (page: PageRequest & Attested) => unknown;

export class PageContext {
  readonly #sources: readonly (readonly [string, Source])[];

  constructor(rules: Readonly<Record<string, string>>) {
    this.#sources = Object.entries({ [UNIT]: "visitor", ...rules }).map(([attribute, rule]) => [attribute, sourceOf(rule)]);
  }

  read(page: PageRequest & Attested): Context {
    const context: Record<string, unknown> = {};
    for (const [attribute, source] of this.#sources) {
      const value = source(page);
      if (isUsable(value)) context[attribute] = value;
    }
    return fromOpenFeature(context);
  }
}

function sourceOf(rule: string): Source {
  const colon = rule.indexOf(":");
  const [kind, name] = colon < 0 ? [rule, ""] : [rule.slice(0, colon), rule.slice(colon + 1)];
  switch (kind) {
    case "cf":
      return ({ request }) => name.split(".").reduce(fieldOf, request.cf);
    case "cookie":
      return ({ cookies }) => decoded(cookies.get(name));
    case "header":
      return ({ request }) => request.headers.get(name);
    case "query":
      return ({ url }) => url.searchParams.get(name);
    case "signed":
      return ({ signed }) => fieldOf(signed, name);
    case "access":
      return ({ access }) => fieldOf(access, name);
    case "path":
      return ({ url }) => url.pathname;
    case "host":
      return ({ url }) => url.host;
    case "visitor":
      return ({ visitorId }) => visitorId;
    default:
      throw new Error(`PAGE_CONTEXT: there is no source ${kind}`);
  }
}

function fieldOf(struct: unknown, name: string): unknown {
  return isStruct(struct) && Object.hasOwn(struct, name) ? struct[name] : undefined;
}

/** Percent escapes are a habit, not a rule: what is malformed stands for itself. */
function decoded(text: string | undefined): string | undefined {
  if (text === undefined || !text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function isUsable(value: unknown): boolean {
  if (typeof value === "string") return value.length <= VALUE_MAX_CHARACTERS && value.isWellFormed();
  return typeof value === "boolean" || (typeof value === "number" && Number.isFinite(value));
}
