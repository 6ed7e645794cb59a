/**
 * Confidence flags in a page: fetched once for a visitor, or there with the page, read without waiting, and counted as exposures
 * on first real use.
 * Source: the Confidence API, `flags:resolve` and `flags:apply`.
 * @module
 */

export interface FlagsOptions {
  /** The Worker's address. */
  readonly url: string;
  /** The secret of a client that is made for browsers: everybody can read it. */
  readonly clientSecret: string;
  /** Flags to fetch, by name; all of the client's by default. */
  readonly flags?: readonly string[];
  /** How long a fetch may take; 5000 by default. */
  readonly timeoutMs?: number;
}

/** Attributes of a visitor, `targeting_key` among them. */
export type Context = Readonly<Record<string, unknown>>;

/** Codes of OpenFeature. */
export type ErrorCode = "PROVIDER_NOT_READY" | "FLAG_NOT_FOUND" | "TYPE_MISMATCH" | "INVALID_CONTEXT" | "GENERAL";

export interface Details<Value> {
  readonly value: Value;
  readonly reason: "TARGETING_MATCH" | "DEFAULT" | "ERROR";
  readonly variant?: string;
  readonly errorCode?: ErrorCode;
}

interface ResolvedFlag {
  readonly flag: string;
  readonly variant: string;
  readonly value: unknown;
  readonly reason: string;
  shouldApply: boolean;
}

/** The answer of `flags:resolve`. */
interface Resolved {
  readonly resolveToken: string;
  readonly resolvedFlags: readonly ResolvedFlag[];
}

interface Fetched {
  readonly token: string;
  readonly flags: ReadonlyMap<string, ResolvedFlag>;
}

/** What was used under a token, and when. */
type Uses = { flag: string; applyTime: string }[];

const APPLY_DELAY_MS = 100;
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** What a browser still sends when a page goes is bounded, all such requests together. */
const KEEPALIVE_MAX_CHARACTERS = 30_000;

export class Flags {
  readonly #options: FlagsOptions;
  readonly #uses = new Map<string, Uses>();
  #fetched: Fetched | undefined;
  #fetchCount = 0;
  /** Whether the flags came with the page and serve for the first fetch. */
  #hasBootstrap: boolean;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #retryMs = RETRY_MS;

  constructor(options: FlagsOptions) {
    this.#options = options;
    const { __FLAG_BOOTSTRAP__: bootstrap } = window as { __FLAG_BOOTSTRAP__?: Resolved };
    if (bootstrap !== undefined) this.#take(bootstrap);
    this.#hasBootstrap = bootstrap !== undefined && (options.flags ?? []).every((name) => this.#fetched?.flags.has(shortName(name)));
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") void this.flush();
    });
  }

  /**
   * Fetch the flags of a visitor; again when the visitor is another. Until that is done the flags are those of the fetch before.
   * The first time nothing is fetched if the page came with the flags. Rejects when the Worker does not give them.
   */
  async fetch(context: Context): Promise<void> {
    if (this.#hasBootstrap) {
      this.#hasBootstrap = false;
      return;
    }
    const { clientSecret, flags = [], timeoutMs = 5_000 } = this.#options;
    const number = ++this.#fetchCount;
    const names = flags.map((name) => `flags/${shortName(name)}`);
    const body = JSON.stringify({ clientSecret, flags: names, evaluationContext: context, apply: false, sdk: SDK });
    const response = await this.#post("resolve", body, { signal: AbortSignal.timeout(timeoutMs) });
    if (!response.ok) throw new Error(`flags: HTTP ${response.status}`);
    const resolved = (await response.json()) as Resolved;
    // A later fetch knows the visitor better.
    if (number === this.#fetchCount) this.#take(resolved);
  }

  /** The value of a flag or of a field of it (`checkout.columns`), or `fallback`. */
  value<Value>(key: string, fallback: Value): Value {
    return this.details(key, fallback).value;
  }

  /** The value and how it came about. The first that is read of a flag makes it an exposure. */
  details<Value>(key: string, fallback: Value): Details<Value> {
    const failed = (errorCode: ErrorCode): Details<Value> => ({ value: fallback, reason: "ERROR", errorCode });
    const { flags, token } = this.#fetched ?? {};
    if (flags === undefined) return failed("PROVIDER_NOT_READY");
    const name = shortName(key);
    const [head = "", ...path] = flags.has(name) ? [name] : name.split(".");
    const flag = flags.get(head);
    if (flag === undefined) return failed("FLAG_NOT_FOUND");
    const { reason, variant } = flag;
    if (!/_MATCH$/.test(reason)) return failed(/KEY_ERROR$/.test(reason) ? "INVALID_CONTEXT" : "GENERAL");
    let value: unknown = (variant && flag.value) || null;
    for (const step of path) {
      if (value === null) break;
      if (!isStruct(value) || !Object.hasOwn(value, step)) return failed("FLAG_NOT_FOUND");
      value = value[step];
    }
    if (value !== null && typeof value !== typeof (fallback ?? value)) return failed("TYPE_MISMATCH");
    this.#use(flag, token as string);
    return value === null ? { value: fallback, reason: "DEFAULT" } : { value: value as Value, reason: "TARGETING_MATCH", variant };
  }

  /** Tell now what was used. Never rejects: what could not be told is tried again. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const all = [...this.#uses];
    this.#uses.clear();
    await Promise.all(all.map(([token, uses]) => this.#apply(token, uses)));
  }

  #take({ resolveToken, resolvedFlags }: Resolved): void {
    this.#fetched = { token: resolveToken, flags: new Map(resolvedFlags.map((flag) => [shortName(flag.flag), flag])) };
  }

  #use(flag: ResolvedFlag, token: string): void {
    if (!flag.shouldApply || token === "") return;
    flag.shouldApply = false;
    this.#keep(token, [{ flag: flag.flag, applyTime: now() }], APPLY_DELAY_MS);
  }

  #keep(token: string, uses: Uses, delayMs: number): void {
    this.#uses.set(token, [...(this.#uses.get(token) ?? []), ...uses]);
    this.#timer ??= setTimeout(() => void this.flush(), delayMs);
  }

  async #apply(resolveToken: string, flags: Uses): Promise<void> {
    const { clientSecret } = this.#options;
    const body = JSON.stringify({ clientSecret, resolveToken, flags, sendTime: now(), sdk: SDK });
    try {
      const { status } = await this.#post("apply", body, { keepalive: body.length < KEEPALIVE_MAX_CHARACTERS });
      // What is refused now is refused for ever, but when it was too much.
      if (status >= 500 || status === 429) throw status;
      this.#retryMs = RETRY_MS;
    } catch {
      this.#keep(resolveToken, flags, this.#retryMs);
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
    }
  }

  /** A text body of no declared type, so that browsers ask for no leave first. */
  #post(method: string, body: string, init: RequestInit): Promise<Response> {
    return fetch(`${this.#options.url.replace(/\/+$/, "")}/v1/flags:${method}`, { method: "POST", body, ...init });
  }
}

const SDK = { customId: "flagedge-browser" };

function shortName(name: string): string {
  return name.replace(/^flags\//, "");
}

function isStruct(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function now(): string {
  return new Date().toISOString();
}
