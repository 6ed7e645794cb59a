/**
 * The Worker behind its entry point: routes, answers, errors. One instance per isolate and plan.
 * @module
 */
import { resolveAnswer } from "./answer";
import { assignedFlags } from "./assigned";
import { checkContext, type Context, ContextError, overlay } from "./context";
import { Cors } from "./cors";
import { Delivery } from "./delivery";
import { randomId } from "./ids";
import { LogBook, type LogSink } from "./logs";
import { Metrics, renderMetrics } from "./metrics";
import { newStream, type Origin } from "./message";
import type { Client, FlagView, Plan } from "./plan";
import { readApplyRequest, readResolveRequest, RequestError, type ResolveRequest, type Sdk } from "./request";
import { type Resolution, Resolver, UNSUPPORTED } from "./resolve";
import { type Env, materializationsOf, metricsOf, queueOf, readSettings, type Settings } from "./settings";
import { StickyRecords, writeMaterializations } from "./sticky";
import { TokenBox } from "./token";
import { UpstreamLogBook } from "./upstream_logs";

const BODY_MAX_BYTES = 1_048_576;
const FLAGS_MAX = 1000;
const SECRETS_MAX = 1000;
const OPENING_BRACE = 123;
const FORM_TYPES = /^(multipart\/form-data|application\/x-www-form-urlencoded)/i;

/** An answer other than 200: its code is stable, its message is for people. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

/** What a resolve knows when its flags are decided. */
interface Decided {
  readonly client: Client;
  readonly request: Request;
  readonly resolveRequest: ResolveRequest;
  readonly atMs: number;
  readonly context: ExecutionContext;
}

export class FlagWorker {
  readonly #plan: Plan;
  readonly #settings: Settings;
  readonly #resolver: Resolver;
  readonly #clients: ReadonlyMap<string, Client>;
  /** Secrets that were hashed before; null for those that no client has. */
  readonly #secrets = new Map<string, Client | null>();
  readonly #book: LogSink;
  readonly #delivery: Delivery;
  readonly #tokens: TokenBox;
  readonly #cors: Cors;
  readonly #queue: Queue | null;
  readonly #materializations: KVNamespace | null;
  readonly #metricsKv: KVNamespace | null;
  readonly #metrics: Metrics | null;

  constructor(plan: Plan, env: Env) {
    this.#plan = plan;
    this.#settings = readSettings(env);
    this.#queue = queueOf(env);
    this.#materializations = materializationsOf(env);
    this.#resolver = new Resolver(plan);
    this.#clients = new Map(plan.clients.map((client) => [client.secretSha256, client]));
    const stream = newStream(this.#settings.deployerVersion);
    const isUpstream = this.#settings.logFormat === "upstream";
    this.#book = isUpstream ? new UpstreamLogBook(this.#settings.deployerVersion) : new LogBook(stream);
    this.#metricsKv = metricsOf(env);
    this.#metrics = this.#metricsKv === null ? null : new Metrics(this.#metricsKv, stream.isolate);
    this.#delivery = new Delivery(this.#book, stream, this.#settings);
    this.#tokens = new TokenBox(this.#settings.tokens);
    this.#cors = new Cors(this.#settings.allowedOrigin);
  }

  /** Answer a request. Never throws. */
  async fetch(request: Request, context: ExecutionContext): Promise<Response> {
    try {
      // The path that nearly every request takes, without detours: each promise and each header read costs.
      if (request.method === "POST" && pathOf(request.url) === "/v1/flags:resolve") {
        const atMs = Date.now();
        return await this.#resolve(request, await readBody(request), atMs, context);
      }
      return await this.#route(request, context);
    } catch (error) {
      return this.#refuse(request, error);
    }
  }

  #refuse(request: Request, error: unknown): Response {
    let refusal: Refusal;
    if (error instanceof Refusal) refusal = error;
    else if (error instanceof RequestError || error instanceof ContextError) refusal = new Refusal(400, "invalid_request", error.message);
    else {
      console.error(JSON.stringify({ event: "request.failed", error: String(error) }));
      this.#book.addError(this.#plan, Date.now());
      refusal = new Refusal(500, "internal", "internal error");
    }
    const body = JSON.stringify({ error: { code: refusal.code, message: refusal.message } });
    return this.#json(request, body, refusal.status, refusal.headers);
  }

  async #route(request: Request, context: ExecutionContext): Promise<Response> {
    if (request.method === "OPTIONS") return new Response(null, { status: 200, headers: this.#cors.headersFor(request) });
    const path = pathOf(request.url);
    switch (path) {
      case "/v1/flags:resolve":
        throw notAllowed("POST");
      case "/v1/flags:apply":
        return this.#apply(request, context);
      case "/v1/telemetry:upload":
        allow(request, "POST");
        return new Response(null, { status: 200, headers: this.#cors.headersFor(request) });
      case "/metrics":
        allow(request, "GET");
        return this.#renderMetrics(request);
      case "/v1/state:etag":
        allow(request, "GET");
        return this.#json(request, this.#stateEtag());
      case "/v1/health":
        allow(request, "GET");
        return this.#json(request, this.#health());
      default:
        throw new Refusal(404, "not_found", "there is nothing at this path");
    }
  }

  /** Resolve a request; synchronous but for a secret not seen before, sticky assignments and tokens. */
  #resolve(request: Request, body: string, atMs: number, context: ExecutionContext): Response | Promise<Response> {
    const resolveRequest = readResolveRequest(body);
    const known = this.#secrets.get(resolveRequest.clientSecret);
    if (known) return this.#resolveFor(known, request, resolveRequest, atMs, context);
    checkContext(resolveRequest.context);
    return this.#clientOf(resolveRequest.clientSecret).then((client) => this.#resolveFor(client, request, resolveRequest, atMs, context));
  }

  #resolveFor(
    client: Client,
    request: Request,
    resolveRequest: ResolveRequest,
    atMs: number,
    context: ExecutionContext,
  ): Response | Promise<Response> {
    const views = client.viewsNamed(resolveRequest.flags);
    if (views.length > FLAGS_MAX) {
      throw new Refusal(400, "too_many_flags", `a request resolves at most ${FLAGS_MAX} flags, this one ${views.length}`);
    }
    const attributes = attributesOf(client, resolveRequest);
    const decided = { client, request, resolveRequest, atMs, context };
    const kv = this.#materializations;
    if (kv === null) return this.#finish(this.#resolver.resolve(views, attributes, UNSUPPORTED), decided);
    return this.#resolveSticky(kv, views, attributes, context).then((resolution) => this.#finish(resolution, decided));
  }

  /** Log and answer. The resolution is scratch memory: nothing may wait between its making and here. */
  #finish(resolution: Resolution, decided: Decided): Response | Promise<Response> {
    const { client, request, resolveRequest, atMs, context } = decided;
    const resolveId = randomId(32);
    const applies = resolveRequest.apply || this.#settings.forceApply;
    const latencyMicros = (Date.now() - atMs) * 1000;
    this.#metrics?.add(resolution, latencyMicros, context, atMs);
    if (this.#queue !== null) {
      const origin = originOf(request, "api", resolveRequest.sdk);
      this.#book.addResolve(this.#plan, { client, origin, resolveId, atMs, applies, latencyMicros }, resolution);
      this.#delivery.arrange(this.#queue, context, atMs);
    }
    if (applies) return this.#resolved(request, resolveAnswer(resolution, resolveId, ""));
    const assignments = new Map(assignedFlags(resolution).map((flag) => [flag.flag, flag]));
    const unsigned = resolveAnswer(resolution, resolveId, TOKEN_PLACE);
    const sealed = this.#tokens.seal({ resolveId, assignments }, this.#bindingOf(client), atMs);
    return sealed.then((token) => this.#resolved(request, unsigned.replace(TOKEN_PLACE, token)));
  }

  /** Decide what can be decided, read what is missing in one go, decide again; writes outlive the answer. */
  async #resolveSticky(kv: KVNamespace, views: readonly FlagView[], attributes: Context, context: ExecutionContext): Promise<Resolution> {
    const records = new StickyRecords(kv);
    let resolution = this.#resolver.resolve(views, attributes, records);
    while (records.hasWishes) {
      await records.read();
      resolution = this.#resolver.resolve(views, attributes, records);
    }
    if (resolution.writes.length > 0) {
      context.waitUntil(writeMaterializations(kv, resolution.writes, this.#settings.materializationTtlSeconds));
    }
    return resolution;
  }

  async #apply(request: Request, context: ExecutionContext): Promise<Response> {
    allow(request, "POST");
    const atMs = Date.now();
    const apply = readApplyRequest(await readBody(request));
    // SDKs send an empty token when they resolved with apply=true: there is nothing left to do.
    if (apply.resolveToken.length === 0) return this.#json(request, "{}");
    const client = await this.#clientOf(apply.clientSecret);
    if (!this.#tokens.hasKey) throw new Refusal(503, "tokens_unavailable", "this Worker has no token key");
    const { sendTimeMs } = apply;
    if (sendTimeMs === null) throw new Refusal(400, "invalid_request", "sendTime is required");
    const opened = await this.#tokens.open(apply.resolveToken, this.#bindingOf(client), atMs);
    if (opened === null) throw new Refusal(400, "invalid_token", "the resolve token cannot be used");
    const earliestMs = opened.issuedAtMs || atMs - this.#settings.tokens.ttlSeconds * 1000;
    const flags = apply.flags.map(({ flag, applyTimeMs }) => {
      const assigned = opened.body.assignments.get(flag);
      if (assigned === undefined) throw new Refusal(400, "flag_not_in_token", "the token does not hold every flag of the request");
      if (applyTimeMs === null) throw new Refusal(400, "invalid_request", `applyTime of ${flag} is required`);
      // The caller's clock may be wrong, its differences are not; what cannot be is moved to what can.
      return { assigned, appliedAtMs: Math.max(earliestMs, Math.min(atMs, atMs - (sendTimeMs - applyTimeMs))) };
    });
    if (this.#queue !== null) {
      const { resolveId } = opened.body;
      this.#book.addApplied(this.#plan, { client, origin: originOf(request, "apply", apply.sdk), resolveId, atMs, flags });
      this.#delivery.arrange(this.#queue, context, atMs);
    }
    return this.#json(request, "{}");
  }

  async #clientOf(secret: string): Promise<Client> {
    let client = this.#secrets.get(secret);
    if (client === undefined) client = await this.#findClient(secret);
    if (client === null) throw new Refusal(401, "unknown_client_secret", "no client has this secret");
    return client;
  }

  async #findClient(secret: string): Promise<Client | null> {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret));
    const client = this.#clients.get(new Uint8Array(digest).toHex()) ?? null;
    if (this.#secrets.size >= SECRETS_MAX) this.#secrets.clear();
    this.#secrets.set(secret, client);
    return client;
  }

  /** What a token is bound to: another account or client cannot open it. */
  #bindingOf(client: Client): string {
    return `${this.#plan.account}\n${client.name}`;
  }

  async #renderMetrics(request: Request): Promise<Response> {
    const { clientSecret } = this.#settings;
    const given = request.headers.get("authorization") ?? "";
    if (clientSecret === "" || !(await areEqual(given, `ClientSecret ${clientSecret}`))) {
      throw new Refusal(401, "unauthorized", "send the header Authorization: ClientSecret …");
    }
    const text = this.#metricsKv === null ? "" : await renderMetrics(this.#metricsKv);
    const headers = { "content-type": "text/plain; version=0.0.4; charset=utf-8", "cache-control": "no-store" };
    return this.#json(request, text, 200, headers);
  }

  #stateEtag(): string {
    return JSON.stringify({ etag: this.#settings.stateEtag || this.#plan.etag, version: this.#settings.deployerVersion });
  }

  #health(): string {
    const parts = {
      flag_logs_queue: this.#queue === null ? "missing" : "bound",
      token_key: this.#tokens.hasKey ? "present" : "missing",
    };
    const isWhole = parts.flag_logs_queue === "bound" && parts.token_key === "present";
    return JSON.stringify({
      status: isWhole ? "ok" : "degraded",
      state_etag: this.#plan.etag,
      worker_version: this.#settings.deployerVersion,
      flag_count: this.#plan.flagCount,
      ...parts,
      materializations: this.#materializations === null ? "missing" : "bound",
      metrics: this.#metricsKv === null ? "missing" : "bound",
    });
  }

  /** As `#json`, for the answer that there are most of. */
  #resolved(request: Request, body: string): Response {
    return new Response(body, { headers: this.#cors.headersFor(request) });
  }

  #json(request: Request, body: string, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
    const all = new Headers(this.#cors.headersFor(request));
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    return new Response(request.method === "HEAD" ? null : body, { status, headers: all });
  }
}

/** Stands in an answer where its token goes, as the answer is finished before the token is. */
const TOKEN_PLACE = "\u0000";

function allow(request: Request, method: "GET" | "POST"): void {
  if (request.method !== method && !(method === "GET" && request.method === "HEAD")) throw notAllowed(method);
}

/** Whether two texts are the same, in a time that does not tell where they differ. */
async function areEqual(left: string, right: string): Promise<boolean> {
  const digests = [left, right].map((text) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const [first, second] = (await Promise.all(digests)) as [ArrayBuffer, ArrayBuffer];
  return crypto.subtle.timingSafeEqual(first, second);
}

function notAllowed(method: "GET" | "POST"): Refusal {
  return new Refusal(405, "method_not_allowed", `use ${method}`, { allow: method === "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS" });
}

/** The body of a POST, within bounds. A form is told so, as its text is no JSON anyway. */
async function readBody(request: Request): Promise<string> {
  if (Number(request.headers.get("content-length")) > BODY_MAX_BYTES) throw new Refusal(413, "body_too_large", TOO_LARGE);
  const body = await request.text();
  if (body.length > BODY_MAX_BYTES) throw new Refusal(413, "body_too_large", TOO_LARGE);
  if (body.charCodeAt(0) !== OPENING_BRACE && FORM_TYPES.test(request.headers.get("content-type") ?? "")) {
    throw new Refusal(415, "unsupported_media_type", "send application/json");
  }
  return body;
}

const TOO_LARGE = `a body is at most ${BODY_MAX_BYTES} bytes`;

/** The request's context, under what the client's owner laid over it. */
function attributesOf({ managedContext }: Client, { context }: ResolveRequest): Context {
  if (managedContext === null) return context;
  checkContext(context);
  return overlay(context, managedContext);
}

/** The path of a URL, undecoded. */
function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  const query = url.indexOf("?", start);
  return query < 0 ? url.slice(start) : url.slice(start, query);
}

function originOf(request: Request, source: Origin["source"], sdk: Sdk): Origin {
  const cf = request.cf as { country?: unknown; botManagement?: { verifiedBot?: unknown } } | undefined;
  const country = typeof cf?.country === "string" ? cf.country : "";
  return { source, sdk: sdk.id, sdkVersion: sdk.version, country, isBot: cf?.botManagement?.verifiedBot === true };
}
