/**
 * Pages in front of an origin: the first HTML already knows the visitor's variants, is cached by URL and cohort, and counts
 * an exposure when the page first uses a flag. Whatever fails here, the visitor gets the origin's page as it is.
 * @module
 */
import type { FlagLog } from "./flag_log";
import type { Origin } from "./message";
import type { AccessTokens } from "./page_access";
import { findPage, freshnessOf, isShareable, keepPage } from "./page_cache";
import { CohortGuard } from "./page_cohorts";
import { type Attested, PageContext } from "./page_context";
import type { PageFlagReader, PageFlags } from "./page_flags";
import { isPage, passToVisitor, toVisitor } from "./page_html";
import { PageOrigin } from "./page_origin";
import { type PagePath, PagePaths } from "./page_paths";
import type { PageSettings } from "./page_settings";
import { SIGNED_COOKIE, SignedAttributes } from "./page_signed";
import { readCookies, readVisitor, type Visitor } from "./page_visitor";
import type { Client } from "./plan";

interface Decided {
  readonly flags: PageFlags;
  readonly visitor: Visitor;
  readonly tookMs: number;
}

/** A page of the origin, and where it came from. */
interface Found {
  readonly response: Response;
  readonly from: "hit" | "miss" | "bypass";
}

export class Pages {
  readonly #paths: PagePaths;
  readonly #context: PageContext;
  readonly #origin: PageOrigin;
  readonly #signed: SignedAttributes;
  readonly #cohorts = new CohortGuard();

  constructor(
    private readonly settings: PageSettings,
    private readonly reader: PageFlagReader,
    private readonly access: AccessTokens | null,
    private readonly findClient: (name: string) => Promise<Client>,
    private readonly originOf: (request: Request) => Origin,
    private readonly log: FlagLog,
  ) {
    this.#paths = new PagePaths(settings.flags);
    this.#context = new PageContext(settings.context);
    this.#origin = new PageOrigin(settings.origin);
    this.#signed = new SignedAttributes(settings.attributeKeys);
  }

  /** Answer any request that is none of the API's. Throws Refusal when the origin does not answer. */
  async answer(request: Request, execution: ExecutionContext): Promise<Response> {
    const isWhole = request.method === "GET" && !request.headers.has("range");
    const path = isWhole ? this.#paths.find(new URL(request.url).pathname) : null;
    const decided = path === null ? null : await this.#decide(request, path, execution);
    if (decided === null) return this.#origin.pass(request);
    const found = await this.#find(request, decided.flags, execution);
    try {
      const part = partOf(decided, found);
      return isPage(found.response) ? toVisitor(found.response, part) : passToVisitor(found.response, part);
    } catch (error) {
      this.#report(error);
      return found.from === "hit" ? this.#origin.pass(request) : found.response;
    }
  }

  /** null when it fails. */
  async #decide(request: Request, path: PagePath, execution: ExecutionContext): Promise<Decided | null> {
    try {
      const beganMs = performance.now();
      const cookies = readCookies(request.headers.get("cookie"));
      const visitor = readVisitor(cookies, this.settings.cookie, request.url);
      const url = new URL(request.url);
      const attested = await this.#attest(request, url, cookies, execution);
      const context = this.#context.read({ request, url, cookies, visitorId: visitor.id, ...attested });
      const client = await this.findClient(this.settings.client);
      const flags = await this.reader.read({ client, flags: path.flags, context, execution, origin: this.originOf(request) });
      this.#cohorts.add(path.pattern, flags.cohort);
      return { flags, visitor, tookMs: performance.now() - beganMs };
    } catch (error) {
      this.#report(error);
      return null;
    }
  }

  async #attest(request: Request, url: URL, cookies: ReadonlyMap<string, string>, execution: ExecutionContext): Promise<Attested> {
    const nowMs = Date.now();
    const [signed, access = {}] = await Promise.all([
      this.#signed.read(cookies.get(SIGNED_COOKIE), url.hostname, nowMs),
      this.access?.read(request, cookies, execution, nowMs),
    ]);
    return { signed, access };
  }

  async #find(request: Request, { cohort, variants }: PageFlags, execution: ExecutionContext): Promise<Found> {
    const isShared = isShareable(request);
    const kept = isShared ? await this.#orNull(findPage(request.url, cohort)) : null;
    if (kept !== null) return { response: kept, from: "hit" };
    const response = await this.#origin.page(request, variants);
    const seconds = isShared && isPage(response) ? freshnessOf(response) : 0;
    if (seconds === 0) return { response, from: "bypass" };
    execution.waitUntil(this.#orNull(keepPage(request.url, cohort, response.clone(), seconds)));
    return { response, from: "miss" };
  }

  /** A cache that fails is one that has nothing. */
  async #orNull<Value>(promise: Promise<Value>): Promise<Value | null> {
    try {
      return await promise;
    } catch (error) {
      this.#report(error);
      return null;
    }
  }

  #report(error: unknown): void {
    console.error(JSON.stringify({ event: "page.failed", error: String(error) }));
    this.log.addError();
  }
}

function partOf({ flags, visitor, tookMs }: Decided, { from }: Found) {
  const timing = `flags;dur=${tookMs.toFixed(1)}, page;desc="${from}"`;
  return { bootstrap: flags.bootstrap, setCookie: visitor.setCookie, timing, isShared: from !== "bypass" };
}
