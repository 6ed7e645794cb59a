/**
 * The Worker behind its entry point: routes, answers, errors. One instance per isolate and plan.
 * @module
 */
import { resolveAnswer } from "./answer";
import { overlay } from "./context";
import { schemaSignature } from "./context_schema";
import { Delivery } from "./delivery";
import { randomId } from "./ids";
import { LogBook, newStream, type Origin } from "./logs";
import type { Client, Plan } from "./plan";
import { readResolveRequest, RequestError, type ResolveRequest } from "./request";
import { Resolver, UNSUPPORTED } from "./resolve";
import { type Env, queueOf, readSettings, type Settings } from "./settings";

const BODY_MAX_BYTES = 1_048_576;
const FLAGS_MAX = 1000;
const SECRETS_MAX = 1000;

export class FlagWorker {
  readonly #plan: Plan;
  readonly #settings: Settings;
  readonly #resolver: Resolver;
  readonly #clients: ReadonlyMap<string, Client>;
  /** Secrets that were hashed before; null for those that no client has. */
  readonly #secrets = new Map<string, Client | null>();
  readonly #stream;
  readonly #book: LogBook;
  readonly #delivery: Delivery;
  readonly #queue: Queue | null;
  readonly #headers: Record<string, string>;

  constructor(plan: Plan, env: Env) {
    this.#plan = plan;
    this.#settings = readSettings(env);
    this.#queue = queueOf(env);
    this.#resolver = new Resolver(plan);
    this.#clients = new Map(plan.clients.map((client) => [client.secretSha256, client]));
    this.#stream = newStream(this.#settings.deployerVersion);
    this.#book = new LogBook(this.#stream);
    this.#delivery = new Delivery(this.#book, this.#stream, this.#settings);
    this.#headers = {
      "content-type": "application/json",
      "access-control-allow-origin": this.#settings.allowedOrigin,
      "access-control-allow-methods": "POST, GET, OPTIONS",
      "access-control-allow-headers": "*",
    };
  }

  /** Answer a request. Never throws. */
  async fetch(request: Request, context: ExecutionContext): Promise<Response> {
    try {
      return await this.#route(request, context);
    } catch (error) {
      if (error instanceof RequestError) return this.#error(400, "invalid_request", error.message);
      console.error(JSON.stringify({ event: "request.failed", error: String(error) }));
      this.#book.addError(this.#plan, Date.now());
      return this.#error(500, "internal", "internal error");
    }
  }

  async #route(request: Request, context: ExecutionContext): Promise<Response> {
    const { method } = request;
    if (method === "OPTIONS") return new Response(null, { status: 200, headers: this.#headers });
    const path = pathOf(request.url);
    switch (path) {
      case "/v1/flags:resolve":
        return method === "POST" ? this.#resolve(request, context) : this.#notAllowed("POST");
      case "/v1/state:etag":
        return method === "GET" || method === "HEAD" ? this.#stateEtag() : this.#notAllowed("GET");
      case "/v1/health":
        return method === "GET" || method === "HEAD" ? this.#health() : this.#notAllowed("GET");
      default:
        return this.#error(404, "not_found", `there is nothing at ${path}`);
    }
  }

  async #resolve(request: Request, context: ExecutionContext): Promise<Response> {
    const atMs = Date.now();
    if (Number(request.headers.get("content-length") ?? 0) > BODY_MAX_BYTES) return this.#tooLarge();
    const body = await request.text();
    if (body.length > BODY_MAX_BYTES) return this.#tooLarge();
    const resolveRequest = readResolveRequest(body);
    let client = this.#secrets.get(resolveRequest.clientSecret);
    if (client === undefined) client = await this.#findClient(resolveRequest.clientSecret);
    if (client === null) return this.#error(401, "unknown_client_secret", "no client has this secret");
    return this.#answer(client, resolveRequest, originOf(request, resolveRequest), context, atMs);
  }

  /** The synchronous part of a resolve. */
  #answer(client: Client, request: ResolveRequest, origin: Origin, context: ExecutionContext, atMs: number): Response {
    const views = client.viewsNamed(request.flags);
    if (views.length > FLAGS_MAX) {
      return this.#error(400, "too_many_flags", `a request resolves at most ${FLAGS_MAX} flags, this one ${views.length}`);
    }
    const attributes = client.managedContext === null ? request.context : overlay(request.context, client.managedContext);
    const resolution = this.#resolver.resolve(views, attributes, UNSUPPORTED);
    const resolveId = randomId(32);
    if (this.#queue !== null) {
      const resolve = {
        client,
        origin,
        resolveId,
        atMs,
        applies: request.apply || this.#settings.forceApply,
        schemaSignature: schemaSignature(attributes),
        latencyMicros: (Date.now() - atMs) * 1000,
      };
      this.#book.addResolve(this.#plan, resolve, resolution);
      this.#delivery.arrange(this.#queue, context, atMs);
    }
    return new Response(resolveAnswer(resolution, resolveId, ""), { headers: this.#headers });
  }

  async #findClient(secret: string): Promise<Client | null> {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret));
    const hex = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
    const client = this.#clients.get(hex) ?? null;
    if (this.#secrets.size >= SECRETS_MAX) this.#secrets.clear();
    this.#secrets.set(secret, client);
    return client;
  }

  #stateEtag(): Response {
    return this.#json({ etag: this.#settings.stateEtag || this.#plan.etag, version: this.#settings.deployerVersion });
  }

  #health(): Response {
    const queue = this.#queue === null ? "missing" : "bound";
    return this.#json({
      status: queue === "bound" ? "ok" : "degraded",
      state_etag: this.#plan.etag,
      worker_version: this.#settings.deployerVersion,
      flag_count: this.#plan.flagCount,
      flag_logs_queue: queue,
    });
  }

  #json(body: unknown): Response {
    return new Response(JSON.stringify(body), { headers: this.#headers });
  }

  #tooLarge(): Response {
    return this.#error(413, "body_too_large", `a body is at most ${BODY_MAX_BYTES} bytes`);
  }

  #notAllowed(allowed: string): Response {
    const response = this.#error(405, "method_not_allowed", `use ${allowed}`);
    response.headers.set("allow", `${allowed}, OPTIONS`);
    return response;
  }

  #error(status: number, code: string, message: string): Response {
    return new Response(JSON.stringify({ error: { code, message } }), { status, headers: this.#headers });
  }
}

/** The path of a URL, undecoded. */
function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  const query = url.indexOf("?", start);
  return query < 0 ? url.slice(start) : url.slice(start, query);
}

function originOf(request: Request, { sdk }: ResolveRequest): Origin {
  const cf = request.cf as { country?: unknown; botManagement?: { verifiedBot?: unknown } } | undefined;
  const country = typeof cf?.country === "string" ? cf.country : "";
  const isBot = cf?.botManagement?.verifiedBot === true;
  return { source: "api", sdk: sdk.id, sdkVersion: sdk.version, country, isBot };
}
