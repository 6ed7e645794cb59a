/**
 * OpenFeature Remote Evaluation Protocol: flags one by one with the context of each call, or all of them at once.
 * An evaluation is an exposure, unless the client's settings say otherwise; a 304 is none.
 * Source: open-feature/protocol, service/openapi.yaml v0.3.0.
 * @module
 */
import type { Clients } from "./clients";
import { type Context, ContextError, isStruct } from "./context";
import type { Evaluator } from "./evaluator";
import type { FlagLog } from "./flag_log";
import { randomId } from "./ids";
import type { Origin } from "./message";
import type { Client, FlagView, Outcome, Plan } from "./plan";
import { notAllowed, readBody, Refusal } from "./refusal";
import type { Resolution } from "./resolve";
import type { OfrepClientSettings } from "./settings";
import { typedValues } from "./typed_value";

const BULK = "/ofrep/v1/evaluate/flags";
/** A browser lets pages read and send these only if they are named. */
export const OFREP_HEADERS: Readonly<Record<string, string>> = {
  "access-control-allow-headers": "content-type, authorization, x-api-key, if-none-match",
  "access-control-allow-methods": "POST, OPTIONS",
  "access-control-expose-headers": "etag, retry-after",
};

/** What is answered; the body is empty for 304. */
export interface OfrepAnswer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

type ErrorCode = "PARSE_ERROR" | "TARGETING_KEY_MISSING" | "INVALID_CONTEXT" | "FLAG_NOT_FOUND" | "GENERAL";

interface Caller {
  readonly client: Client;
  readonly context: Context;
  readonly applies: boolean;
}

export class Ofrep {
  constructor(
    private readonly plan: Plan,
    private readonly clients: Clients,
    private readonly evaluator: Evaluator,
    private readonly log: FlagLog,
    private readonly settings: Readonly<Record<string, OfrepClientSettings>>,
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

  async #read(request: Request): Promise<Caller> {
    const body = await readBody(request);
    const authorization = /^Bearer +(.+)$/i.exec(request.headers.get("authorization") ?? "");
    const client = await this.clients.find(authorization?.[1] ?? request.headers.get("x-api-key") ?? "");
    const { backend = false, exposes = true } = this.settings[client.name] ?? {};
    if (backend && request.headers.has("origin")) {
      throw new Refusal(403, "GENERAL", "this secret is a backend's: it must not be used in a browser");
    }
    return { client, context: readContext(body), applies: exposes };
  }

  #answerOne(
    request: Request,
    caller: Caller,
    key: string,
    atMs: number,
    execution: ExecutionContext,
  ): OfrepAnswer | Promise<OfrepAnswer> {
    const name = key.startsWith("flags/") ? key.slice("flags/".length) : key;
    const found = findFlag(caller.client, name);
    if (found === null) return failed(404, key, "FLAG_NOT_FOUND", `flag ${key} is not among this client's flags`);
    return this.evaluator.evaluate(caller.client, [found.view], caller.context, execution, (resolution) => {
      this.#tell(request, caller, resolution, atMs, execution);
      const outcome = resolution.outcomes[0] as Outcome;
      const failure = failureOf(outcome, caller.context);
      if (failure !== null) return failed(400, key, ...failure);
      if (found.field !== "" && outcome.variant >= 0 && !typedValues(outcome).has(found.field) && !hasField(outcome, found.field)) {
        return failed(404, key, "FLAG_NOT_FOUND", `flag ${found.view.flag.name} has no field ${found.field}`);
      }
      return { status: 200, body: success(key, outcome, found.field) };
    });
  }

  async #answerAll(request: Request, caller: Caller, atMs: number, execution: ExecutionContext): Promise<OfrepAnswer> {
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
  async #etagOf({ client, context }: Caller): Promise<string> {
    const text = JSON.stringify([client.credential, canonical(context)]);
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return `"${this.plan.etag.replace(/^W\/|"/g, "")}.${new Uint8Array(digest).toHex().slice(0, 16)}"`;
  }

  #tell(request: Request, { client, applies }: Caller, resolution: Resolution, atMs: number, execution: ExecutionContext): void {
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

/** A flag by its name, or a field of its value by `flag.field`. */
function findFlag(client: Client, name: string): { view: FlagView; field: string } | null {
  const [whole] = client.viewsNamed([`flags/${name}`]);
  if (whole !== undefined) return { view: whole, field: "" };
  const dot = name.indexOf(".");
  const [view] = dot < 0 ? [] : client.viewsNamed([`flags/${name.slice(0, dot)}`]);
  return view === undefined ? null : { view, field: name.slice(dot + 1) };
}

/** Whether a variant's value has a field that is null: its callers take their default. */
function hasField(outcome: Outcome, field: string): boolean {
  let value: unknown = JSON.parse(outcome.flag.variants[outcome.variant]?.[1] ?? "null");
  for (const step of field.split(".")) {
    if (!isStruct(value) || !Object.hasOwn(value, step)) return false;
    value = value[step];
  }
  return true;
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
  const { targetingKey, ...rest } = context;
  return unflatten(targetingKey === undefined || "targeting_key" in rest ? rest : { targeting_key: targetingKey, ...rest });
}

/** Dotted keys become structs, unless what stands there already is none. */
function unflatten(context: Context): Context {
  if (!Object.keys(context).some((key) => key.includes("."))) return context;
  const result: Record<string, unknown> = { __proto__: null };
  for (const [key, value] of Object.entries(context)) if (!key.includes(".")) result[key] = value;
  for (const [key, value] of Object.entries(context)) if (key.includes(".")) place(result, key.split("."), value);
  return result;
}

function place(struct: Record<string, unknown>, [step = "", ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    if (!Object.hasOwn(struct, step)) struct[step] = value;
    return;
  }
  const below = Object.hasOwn(struct, step) ? struct[step] : {};
  if (!isStruct(below)) return;
  const copy: Record<string, unknown> = { __proto__: null, ...below };
  place(copy, rest, value);
  struct[step] = copy;
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

function failureOf(outcome: Outcome, context: Context): [ErrorCode, string] | null {
  if (outcome.kind === "match" || outcome.reason === "NO_SEGMENT_MATCH") return null;
  if (outcome.reason !== "TARGETING_KEY_ERROR") return ["GENERAL", `flag ${outcome.flag.name} cannot be evaluated: ${outcome.reason}`];
  const key = context["targeting_key"];
  if (key === undefined || key === null) return ["TARGETING_KEY_MISSING", "the context has no targetingKey, or not the field that the flag is keyed by"];
  return ["INVALID_CONTEXT", "a targeting key must be a text of at most 100 bytes or a whole number"];
}

function success(key: string, outcome: Outcome, field: string): string {
  const isMatch = outcome.kind === "match" && outcome.variant >= 0;
  const value = isMatch ? typedValues(outcome).get(field) : undefined;
  const reason = !isMatch || value === undefined ? "DEFAULT" : outcome.rule?.isFull ? "TARGETING_MATCH" : "SPLIT";
  const variant = value === undefined ? "" : outcome.variantName;
  return `{"key":${JSON.stringify(key)},"reason":"${reason}","variant":${JSON.stringify(variant)}${value === undefined ? "" : `,"value":${value}`}}`;
}

/** A flag's items in a bulk answer: itself, and each field of its value. */
function addItems(items: string[], outcome: Outcome, context: Context): void {
  const key = outcome.flag.name.replace(/^flags\//, "");
  const failure = failureOf(outcome, context);
  if (failure !== null) {
    items.push(failed(400, key, ...failure).body);
    return;
  }
  items.push(success(key, outcome, ""));
  if (outcome.kind !== "match" || outcome.variant < 0) return;
  for (const field of typedValues(outcome).keys()) if (field !== "") items.push(success(`${key}.${field}`, outcome, field));
}

function failed(status: number, key: string | null, errorCode: ErrorCode, errorDetails: string): OfrepAnswer {
  return { status, body: JSON.stringify({ ...(key === null ? {} : { key }), errorCode, errorDetails }) };
}

const CODES: ReadonlySet<string> = new Set<ErrorCode>(["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "FLAG_NOT_FOUND", "GENERAL"]);

function refused(key: string | null, error: unknown): OfrepAnswer {
  if (error instanceof ContextError) return failed(400, key, "INVALID_CONTEXT", error.message);
  if (!(error instanceof Refusal)) throw error;
  return failed(error.status, key, CODES.has(error.code) ? (error.code as ErrorCode) : "GENERAL", error.message);
}
