/**
 * OpenFeature Remote Evaluation Protocol: flags one by one with the context of each call, or all of them at once.
 * An evaluation is an exposure, unless the client's settings say otherwise; a 304 is none.
 * Source: open-feature/protocol, service/openapi.yaml v0.3.0.
 * @module
 */
import type { Caller, Callers } from "./callers";
import { type Context, ContextError, isStruct } from "./context";
import type { Evaluator } from "./evaluator";
import type { FlagLog } from "./flag_log";
import { type ErrorCode, type Failure, type FlagValue, findFlag, fromOpenFeature, notFound, valueOf } from "./flag_value";
import { randomId } from "./ids";
import type { Origin } from "./message";
import type { Outcome, Plan } from "./plan";
import { notAllowed, readBody, Refusal } from "./refusal";
import type { Resolution } from "./resolve";
import { typedValues } from "./typed_value";

const BULK = "/ofrep/v1/evaluate/flags";
/** A browser lets pages read and send these only if they are named. */
export const OFREP_HEADERS: Readonly<Record<string, string>> = {
  "access-control-allow-headers": "content-type, authorization, x-api-key, if-none-match",
  "access-control-allow-methods": "POST, GET, OPTIONS",
  "access-control-expose-headers": "etag, retry-after",
};

/** What is answered; the body is empty for 304. */
export interface OfrepAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Evaluation extends Caller {
  readonly context: Context;
}

export class Ofrep {
  constructor(
    private readonly plan: Plan,
    private readonly callers: Callers,
    private readonly evaluator: Evaluator,
    private readonly log: FlagLog,
    private readonly originOf: (request: Request) => Origin,
  ) {}

  static handles(path: string): boolean {
    return path.startsWith(BULK);
  }

  /** Never throws but for what is not its path. */
  async answer(request: Request, path: string, execution: ExecutionContext): Promise<OfrepAnswer> {
    const key = path === BULK ? null : keyOf(path);
    if (request.method !== "POST") throw notAllowed("POST");
    const atMs = Date.now();
    try {
      const caller = await this.#read(request);
      if (key === null) return await this.#answerAll(request, caller, atMs, execution);
      return await this.#answerOne(request, caller, key, atMs, execution);
    } catch (error) {
      return refused(key, error);
    }
  }

  async #read(request: Request): Promise<Evaluation> {
    const body = await readBody(request);
    return { ...(await this.callers.of(request)), context: readContext(body) };
  }

  #answerOne(
    request: Request,
    caller: Evaluation,
    key: string,
    atMs: number,
    execution: ExecutionContext,
  ): OfrepAnswer | Promise<OfrepAnswer> {
    const found = findFlag(caller.client, key);
    if (found === null) return failed(404, key, notFound(key));
    return this.evaluator.evaluate(caller.client, [found.view], caller.context, execution, (resolution) => {
      this.#tell(request, caller, resolution, atMs, execution);
      const value = valueOf(resolution.outcomes[0] as Outcome, found.field, caller.context);
      if (!("errorCode" in value)) return { status: 200, body: success(key, value) };
      return failed(value.errorCode === "FLAG_NOT_FOUND" ? 404 : 400, key, value);
    });
  }

  async #answerAll(request: Request, caller: Evaluation, atMs: number, execution: ExecutionContext): Promise<OfrepAnswer> {
    const etag = await this.#etagOf(caller);
    const headers = { etag };
    if (matches(request.headers.get("if-none-match"), etag)) return { status: 304, body: "", headers };
    const { client, context } = caller;
    return this.evaluator.evaluate(client, client.views, context, execution, (resolution) => {
      this.#tell(request, caller, resolution, atMs, execution);
      const items: string[] = [];
      for (let i = 0; i < resolution.count; i++) addItems(items, resolution.outcomes[i] as Outcome, context);
      return { status: 200, body: `{"flags":[${items.join()}]}`, headers };
    });
  }

  /** Of the state, the client and the context: what an answer depends on. */
  async #etagOf({ client, context }: Evaluation): Promise<string> {
    const text = JSON.stringify([client.credential, canonical(context)]);
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return `"${this.plan.etag.replace(/^W\/|"/g, "")}.${new Uint8Array(digest).toHex().slice(0, 16)}"`;
  }

  #tell(request: Request, { client, applies }: Evaluation, resolution: Resolution, atMs: number, execution: ExecutionContext): void {
    this.log.addResolve(resolution, atMs, execution, (latencyMicros) => {
      return { client, origin: this.originOf(request), resolveId: randomId(32), atMs, applies, latencyMicros };
    });
  }
}

/** The key behind the bulk path, decoded if it can be. */
function keyOf(path: string): string {
  const key = path.slice(BULK.length + 1);
  if (path[BULK.length] !== "/" || key === "") throw new Refusal(404, "not_found", "there is nothing at this path");
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

function readContext(body: string): Context {
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw new Refusal(400, "PARSE_ERROR", "the body is not JSON");
  }
  const context = isStruct(json) ? (json["context"] ?? {}) : null;
  if (!isStruct(context)) throw new Refusal(400, "INVALID_CONTEXT", "context must be an object");
  return fromOpenFeature(context);
}

/** The same JSON for equal values, whatever the order of their keys. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (!isStruct(value)) return value;
  return Object.keys(value)
    .sort()
    .map((key) => [key, canonical(value[key])]);
}

/** RFC 9110, weak comparison. */
function matches(header: string | null, etag: string): boolean {
  if (header === null) return false;
  return header.split(",").some((each) => each.trim() === "*" || each.trim().replace(/^W\//, "") === etag);
}

function success(key: string, { reason, variant, value }: FlagValue): string {
  const text = `{"key":${JSON.stringify(key)},"reason":"${reason}","variant":${JSON.stringify(variant)}`;
  return value === undefined ? text + "}" : `${text},"value":${value}}`;
}

/** A flag's items in a bulk answer: itself, and each field of its value. */
function addItems(items: string[], outcome: Outcome, context: Context): void {
  const key = outcome.flag.name.replace(/^flags\//, "");
  const whole = valueOf(outcome, "", context);
  if ("errorCode" in whole) {
    items.push(failed(400, key, whole).body);
    return;
  }
  items.push(success(key, whole));
  if (whole.value === undefined) return;
  for (const [field, value] of typedValues(outcome)) if (field !== "") items.push(success(`${key}.${field}`, { ...whole, value }));
}

function failed(status: number, key: string | null, { errorCode, errorDetails }: Failure): OfrepAnswer {
  return { status, body: JSON.stringify({ ...(key === null ? {} : { key }), errorCode, errorDetails }) };
}

const CODES: ReadonlySet<string> = new Set<ErrorCode>(["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"]);

function refused(key: string | null, error: unknown): OfrepAnswer {
  if (error instanceof ContextError) return failed(400, key, { errorCode: "INVALID_CONTEXT", errorDetails: error.message });
  if (!(error instanceof Refusal)) throw error;
  const errorCode = CODES.has(error.code) ? (error.code as ErrorCode) : "GENERAL";
  return failed(error.status, key, { errorCode, errorDetails: error.message });
}
