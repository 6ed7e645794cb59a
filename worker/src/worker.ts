/**
 * The Worker behind its entry point: routes, answers, errors. One instance per isolate and plan.
 * @module
 */
import { resolveAnswer } from "./answer";
import { assignedFlags } from "./assigned";
import { FlagBinding } from "./binding";
import { Callers } from "./callers";
import { Clients } from "./clients";
import { checkContext, ContextError } from "./context";
import { Cors } from "./cors";
import { Evaluator } from "./evaluator";
import { FlagLog } from "./flag_log";
import { Flagship } from "./flagship";
import type { HotState } from "./hot_state";
import { randomId } from "./ids";
import { Lasting } from "./lasting";
import { renderMetrics } from "./metrics";
import type { Origin } from "./message";
import { Ofrep, OFREP_HEADERS, type OpenAnswer } from "./ofrep";
import { OpenFeature } from "./openfeature";
import { PageFlagReader } from "./page_flags";
import { Pages } from "./pages";
import type { Client, Plan } from "./plan";
import { Prober } from "./probe";
import { allow, notAllowed, readBody, Refusal } from "./refusal";
import { NO_SDK, readApplyRequest, readResolveRequest, RequestError, type ResolveRequest, type Sdk } from "./request";
import type { Resolution } from "./resolve";
import { type Env, materializationsOf, metricsOf, type Settings } from "./settings";
import type { TokenBox } from "./token";
import type { TokenBody } from "./token_body";

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
  readonly #clients: Clients;
  readonly #evaluator: Evaluator;
  readonly #log: FlagLog;
  /** For other Workers. */
  readonly binding: FlagBinding;
  readonly #ofrep: Ofrep;
  readonly #flagship: Flagship;
  readonly #prober: Prober;
  readonly #tokens: TokenBox;
  readonly #cors: Cors;
  /** For the open protocols. */
  readonly #openCors: Cors;
  readonly #hasMaterializations: boolean;
  readonly #metricsKv: KVNamespace | null;
  readonly #hot: HotState | null;
  /** What is none of the API's; null where that is nothing. */
  readonly #pages: Pages | null;

  constructor(plan: Plan, env: Env, lasting = new Lasting(env, null)) {
    this.#plan = plan;
    this.#settings = lasting.settings;
    this.#hot = lasting.hot;
    const materializations = materializationsOf(env);
    this.#hasMaterializations = materializations !== null;
    this.#metricsKv = metricsOf(env);
    this.#clients = new Clients(plan);
    this.#evaluator = new Evaluator(plan, materializations, this.#settings.materializationTtlSeconds);
    this.#log = new FlagLog(plan, lasting.log, this.#hasMaterializations);
    const flags = new OpenFeature(this.#evaluator, this.#log);
    this.binding = new FlagBinding(plan, flags);
    const ofrepOrigin = (request: Request) => originOf(request, "ofrep", NO_SDK);
    const callers = new Callers(this.#clients, this.#settings.ofrepClients);
    this.#ofrep = new Ofrep(plan, callers, flags, ofrepOrigin, this.#settings.overrides);
    this.#flagship = new Flagship(callers, flags, ofrepOrigin);
    this.#prober = new Prober(plan, this.#settings, this.#hot);
    this.#tokens = lasting.tokens;
    this.#cors = new Cors(this.#settings.allowedOrigin);
    this.#openCors = new Cors(this.#settings.allowedOrigin, OFREP_HEADERS);
    this.#pages = this.#makePages(lasting);
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
      this.#log.addError();
      refusal = new Refusal(500, "internal", "internal error");
    }
    const body = JSON.stringify({ error: { code: refusal.code, message: refusal.message } });
    return this.#json(request, body, refusal.status, refusal.headers);
  }

  async #route(request: Request, context: ExecutionContext): Promise<Response> {
    const path = pathOf(request.url);
    if (Ofrep.handles(path)) return this.#answerOpen(request, () => this.#ofrep.answer(request, path, context));
    if (Flagship.handles(path)) return this.#answerOpen(request, () => this.#flagship.answer(request, context));
    if (this.#pages !== null && !API_PATHS.has(path)) return this.#pages.answer(request, context);
    if (request.method === "OPTIONS") return this.#respond(request, null);
    switch (path) {
      case "/v1/flags:resolve":
        throw notAllowed("POST");
      case "/v1/flags:apply":
        return this.#apply(request, context);
      case "/v1/probe":
        allow(request, "POST");
        return this.#json(request, await this.#prober.answer(request, await readBody(request)));
      case "/v1/telemetry:upload":
        allow(request, "POST");
        return this.#respond(request, null);
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
    const known = this.#clients.known(resolveRequest.clientSecret);
    if (known) return this.#resolveFor(known, request, resolveRequest, atMs, context);
    checkContext(resolveRequest.context);
    return this.#clients
      .find(resolveRequest.clientSecret)
      .then((client) => this.#resolveFor(client, request, resolveRequest, atMs, context));
  }

  #resolveFor(
    client: Client,
    request: Request,
    resolveRequest: ResolveRequest,
    atMs: number,
    context: ExecutionContext,
  ): Response | Promise<Response> {
    const views = client.viewsNamed(resolveRequest.flags);
    const decided = { client, request, resolveRequest, atMs, context };
    const use = (resolution: Resolution): Response | Promise<Response> => this.#finish(resolution, decided);
    return this.#evaluator.evaluate(client, views, resolveRequest.context, context, use);
  }

  /** Log and answer. */
  #finish(resolution: Resolution, { client, request, resolveRequest, atMs, context }: Decided): Response | Promise<Response> {
    const resolveId = randomId(32);
    const applies = resolveRequest.apply || this.#settings.forceApply;
    this.#log.addResolve(resolution, atMs, context, (latencyMicros) => {
      return { client, origin: originOf(request, "api", resolveRequest.sdk), resolveId, atMs, applies, latencyMicros };
    });
    if (applies) return this.#resolved(request, resolveAnswer(resolution, resolveId, ""));
    const assignments = new Map(assignedFlags(resolution).map((flag) => [flag.flag, flag]));
    const unsigned = resolveAnswer(resolution, resolveId, TOKEN_PLACE);
    const sealed = this.#tokens.seal({ resolveId, assignments }, this.#bindingOf(client), atMs);
    return sealed.then((token) => this.#resolved(request, unsigned.replace(TOKEN_PLACE, token)));
  }

  async #apply(request: Request, context: ExecutionContext): Promise<Response> {
    allow(request, "POST");
    const atMs = Date.now();
    const apply = readApplyRequest(await readBody(request));
    // SDKs send an empty token when they resolved with apply=true: there is nothing left to do.
    if (apply.resolveToken.length === 0) return this.#json(request, "{}");
    const client = await this.#clients.find(apply.clientSecret);
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
    const origin = originOf(request, "apply", apply.sdk);
    this.#log.addApplied({ client, origin, resolveId: opened.body.resolveId, atMs, flags }, context);
    return this.#json(request, "{}");
  }

  /** What a token is bound to: another account or client cannot open it. */
  #bindingOf(client: Client): string {
    return `${this.#plan.account}\n${client.name}`;
  }

  #makePages({ pages, access }: Lasting): Pages | null {
    if (IS_FULL && pages !== null) {
      const seal = (body: TokenBody, client: Client, atMs: number) => this.#tokens.seal(body, this.#bindingOf(client), atMs);
      const reader = new PageFlagReader(this.#evaluator, this.#log, seal);
      const findClient = async (name: string) => (name === "" ? this.#clients.find(this.#settings.clientSecret) : this.binding.clientNamed(name));
      return new Pages(pages, reader, access, findClient, (request) => originOf(request, "page", NO_SDK), this.#log);
    }
    return null;
  }

  async #renderMetrics(request: Request): Promise<Response> {
    const { clientSecret } = this.#settings;
    const given = request.headers.get("authorization") ?? "";
    if (clientSecret === "" || !(await areEqual(given, `ClientSecret ${clientSecret}`))) {
      throw new Refusal(401, "unauthorized", "send the header Authorization: ClientSecret …");
    }
    const text = IS_FULL && this.#metricsKv !== null ? await renderMetrics(this.#metricsKv) : "";
    const headers = { "content-type": "text/plain; version=0.0.4; charset=utf-8", "cache-control": "no-store" };
    return this.#json(request, text, 200, headers);
  }

  #stateEtag(): string {
    // The binding is of the bundled plan.
    const etag = (this.#hot === null && this.#settings.stateEtag) || this.#plan.etag;
    return JSON.stringify({ etag, version: this.#settings.deployerVersion });
  }

  #health(): string {
    const parts = {
      flag_logs_queue: this.#log.hasQueue ? "bound" : "missing",
      token_key: this.#tokens.hasKey ? "present" : "missing",
    };
    const state = this.#describeState(Date.now());
    const isWhole = parts.flag_logs_queue === "bound" && parts.token_key === "present" && !this.#hot?.problem;
    return JSON.stringify({
      status: isWhole ? "ok" : "degraded",
      state_etag: this.#plan.etag,
      state,
      worker_version: this.#settings.deployerVersion,
      flag_count: this.#plan.flagCount,
      ...parts,
      materializations: this.#hasMaterializations ? "bound" : "missing",
      metrics: this.#metricsKv === null ? "missing" : "bound",
    });
  }

  /** Where the plan came from, and how old it is. */
  #describeState(nowMs: number): object {
    if (this.#hot !== null) return this.#hot.describe(nowMs);
    const { stateSinceSeconds } = this.#settings;
    const age = stateSinceSeconds === 0 ? null : Math.max(0, Math.floor(nowMs / 1000) - stateSinceSeconds);
    return { source: "bundle", etag: this.#plan.etag, age_s: age };
  }

  /** An answer in one of the open protocols. */
  async #answerOpen(request: Request, answer: () => Promise<OpenAnswer>): Promise<Response> {
    const cors = this.#openCors.headersFor(request);
    if (request.method === "OPTIONS") return new Response(null, { headers: cors });
    const { status, body, etag } = await answer();
    if (etag === undefined) return new Response(body, { status, headers: cors });
    const headers = new Headers(cors);
    headers.set("etag", etag);
    return new Response(body, { status, headers });
  }

  /** As `#json`, for the answer that there are most of. */
  #resolved(request: Request, body: string): Response {
    return new Response(body, { headers: this.#cors.headersFor(request) });
  }

  /** An answer with a body; to HEAD without it. */
  #json(request: Request, body: string, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
    return this.#respond(request, request.method === "HEAD" ? null : body, status, headers);
  }

  #respond(request: Request, body: string | null, status = 200, headers: Readonly<Record<string, string>> = {}): Response {
    const all = new Headers(this.#cors.headersFor(request));
    for (const [name, value] of Object.entries(headers)) all.set(name, value);
    return new Response(body, { status, headers: all });
  }
}

/** Where pages are served too, everything else is the origin's. */
const API_PATHS: ReadonlySet<string> = new Set([
  "/v1/flags:resolve",
  "/v1/flags:apply",
  "/v1/probe",
  "/v1/telemetry:upload",
  "/metrics",
  "/v1/state:etag",
  "/v1/health",
]);

/** Stands in an answer where its token goes, as the answer is finished before the token is. */
const TOKEN_PLACE = "\u0000";

/** Whether two texts are the same, in a time that does not tell where they differ. */
async function areEqual(left: string, right: string): Promise<boolean> {
  const digests = [left, right].map((text) => crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const [first, second] = (await Promise.all(digests)) as [ArrayBuffer, ArrayBuffer];
  return crypto.subtle.timingSafeEqual(first, second);
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
