/**
 * What the bindings say about pages. sync_job has checked all of it.
 * @module
 */
import type { AccessSettings } from "./page_access";
import type { Env } from "./settings";

export interface PageSettings {
  /** Where pages come from, such as `https://shop.example.com`; "" for the origin of the zone whose route leads here. */
  readonly origin: string;
  /** Short names of flags by path, or by the beginning of a path that ends with `*`. */
  readonly flags: Readonly<Record<string, readonly string[]>>;
  /** Where attributes come from, by attribute: see page_context.ts. */
  readonly context: Readonly<Record<string, string>>;
  /** The name of the cookie that holds the unit. */
  readonly cookie: string;
  /** Whose flags: a client's or a credential's name; "" for the client that sync_job fetches the state for. */
  readonly client: string;
  /** Keys of signed attributes, base64, by id. */
  readonly attributeKeys: Readonly<Record<string, string>>;
  readonly access: AccessSettings | null;
}

/** The settings of pages; null where this Worker serves none. */
export function readPageSettings(env: Env): PageSettings | null {
  const flags = env["PAGE_FLAGS"];
  if (typeof flags !== "object" || flags === null) return null;
  const text = (name: string): string => (typeof env[name] === "string" ? env[name] : "");
  return {
    origin: text("PAGE_ORIGIN"),
    flags: flags as PageSettings["flags"],
    context: (env["PAGE_CONTEXT"] ?? {}) as PageSettings["context"],
    cookie: text("PAGE_COOKIE") || "flag_visitor",
    client: text("PAGE_CLIENT"),
    attributeKeys: keysOf(text("PAGE_ATTRIBUTE_KEYS")),
    access: text("PAGE_ACCESS_TEAM") === "" ? null : { team: text("PAGE_ACCESS_TEAM"), audience: text("PAGE_ACCESS_AUDIENCE") },
  };
}

/** None where there is no secret, or one that somebody else has set. */
function keysOf(secret: string): Readonly<Record<string, string>> {
  try {
    return JSON.parse(secret || "{}") as Record<string, string>;
  } catch {
    return {};
  }
}
