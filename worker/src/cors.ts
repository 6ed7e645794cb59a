/**
 * The headers of every answer. CORS: which origins may read our answers, from `ALLOWED_ORIGIN`: `*`, one origin, or several with commas.
 * @module
 */

const SHARED = {
  "content-type": "application/json",
  "access-control-allow-methods": "POST, GET, OPTIONS",
  "access-control-allow-headers": "*",
} as const;

export class Cors {
  readonly #origins: ReadonlySet<string>;
  /** The headers of every answer when they do not depend on who asks; an answer copies them faster than a plain object. */
  readonly #fixed: Headers | null;

  /** `others` are the headers of these answers beyond those that all have. */
  constructor(
    allowedOrigin: string,
    private readonly others: Readonly<Record<string, string>> = {},
  ) {
    const origins = allowedOrigin.split(",").map((origin) => origin.trim()).filter((origin) => origin !== "");
    this.#origins = new Set(origins);
    const [only = "*"] = origins;
    const isFixed = origins.length <= 1 || this.#origins.has("*");
    this.#fixed = isFixed ? new Headers({ ...SHARED, ...others, "access-control-allow-origin": this.#origins.has("*") ? "*" : only }) : null;
  }

  /** The headers for an answer to `request`: with several origins, the one that asks is named if it is among them. */
  headersFor(request: Request): Headers {
    if (this.#fixed !== null) return this.#fixed;
    const origin = request.headers.get("origin");
    const headers = new Headers({ ...SHARED, ...this.others, vary: "Origin" });
    if (origin !== null && this.#origins.has(origin)) headers.set("access-control-allow-origin", origin);
    return headers;
  }
}
