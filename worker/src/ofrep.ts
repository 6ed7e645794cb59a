/**
 * OpenFeature Remote Evaluation Protocol: flags one by one with the context of each call, or all of them at once.
 * An evaluation is an exposure, unless the client's settings say otherwise; a 304 is none.
 * Source: open-feature/protocol, service/openapi.yaml v0.3.0.
 * @module
 */
import type { Callers } from "./callers";
import { checkContext, type Context, ContextError, isStruct } from "./context";
import { type ErrorCode, type Failure, type FlagValue, fromOpenFeature, NO_VALUE, statusOf, valueOf } from "./flag_value";
import type { Origin } from "./message";
import type { OpenFeature, Question } from "./openfeature";
import type { Outcome, Plan } from "./plan";
import { notAllowed, readBody, Refusal } from "./refusal";
import { fieldPaths, typedValues } from "./typed_value";

const BULK = "/ofrep/v1/evaluate/flags";
/** A browser lets pages read and send these only if they are named. */
export const OFREP_HEADERS: Readonly<Record<string, string>> = {
  "access-control-allow-headers": "content-type, authorization, x-api-key, if-none-match",
  "access-control-allow-methods": "POST, GET, OPTIONS",
  "access-control-expose-headers": "etag, retry-after",
};

/** What is answered; a 304 has no body. */
export interface OpenAnswer {
  readonly status: number;
  readonly body: string | null;
  readonly etag?: string;
}

export class Ofrep {
  constructor(
    private readonly plan: Plan,
    private readonly callers: Callers,
    private readonly flags: OpenFeature,
    private readonly originOf: (request: Request) => Origin,
    /** What the plan's entity tag does not tell of it. */
    private readonly overrides: string,
  ) {}

  static handles(path: string): boolean {
    return path.startsWith(BULK);
  }

  /** Never throws but for what is not its path. */
  async answer(request: Request, path: string, execution: ExecutionContext): Promise<OpenAnswer> {
    const key = path === BULK ? null : keyOf(path);
    if (request.method !== "POST") throw notAllowed("POST");
    const atMs = Date.now();
    try {
      const question = await this.#read(request, atMs, execution);
      if (key === null) return await this.#answerAll(request.headers.get("if-none-match"), question);
      return await this.#answerOne(key, question);
    } catch (error) {
      return refused(key, error);
    }
  }

  async #read(request: Request, atMs: number, execution: ExecutionContext): Promise<Question> {
    const body = await readBody(request);
    const caller = await this.callers.of(request);
    return { ...caller, context: readContext(body), atMs, execution, originOf: () => this.originOf(request) };
  }

  async #answerOne(key: string, question: Question): Promise<OpenAnswer> {
    const value = await this.flags.one(key, question);
    return "errorCode" in value ? { status: statusOf(value), body: failure(key, value) } : { status: 200, body: success(key, value) };
  }

  async #answerAll(known: string | null, question: Question): Promise<OpenAnswer> {
    const etag = await this.#etagOf(question);
    if (matches(known, etag)) return { status: 304, body: null, etag };
    return this.flags.all(question, ({ count, outcomes }) => {
      let items = "";
      let mayChange = false;
      for (let i = 0; i < count; i++) {
        const outcome = outcomes[i] as Outcome;
        items += (i === 0 ? "" : ",") + itemsOf(outcome);
        // Such as sticky assignments that cannot be read just now.
        mayChange ||= outcome.reason === "ERROR";
      }
      return { status: 200, body: `{"flags":[${items}]}`, ...(mayChange ? {} : { etag }) };
    });
  }

  /** Of the state, its overrides, the client and the context: what an answer depends on. Throws ContextError. */
  async #etagOf({ client, context }: Question): Promise<string> {
    checkContext(context);
    const text = JSON.stringify([this.overrides, client.credential, canonical(context)]);
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
    return `"${this.plan.etag.replace(/^W\/|"/g, "")}.${new Uint8Array(digest).toHex().slice(0, 16)}"`;
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
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, canonical(value[key])]));
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

const itemsByOutcome = new WeakMap<Outcome, string>();

/** A flag's items in a bulk answer: itself, and each field of its values, for clients cannot tell a field without a value from a misspelt one. */
function itemsOf(outcome: Outcome): string {
  let items = itemsByOutcome.get(outcome);
  if (items !== undefined) return items;
  const name = outcome.flag.name.replace(/^flags\//, "");
  const whole = valueOf(outcome, "");
  const texts: ReadonlyMap<string, string> = "errorCode" in whole || whole.value === undefined ? new Map() : typedValues(outcome);
  const fields = new Set(["", ...texts.keys(), ...fieldPaths(outcome.flag)]);
  items = Array.from(fields, (field) => {
    const key = field === "" ? name : `${name}.${field}`;
    if ("errorCode" in whole) return failure(key, whole);
    const value = texts.get(field);
    return success(key, value === undefined ? NO_VALUE : { ...whole, value });
  }).join();
  itemsByOutcome.set(outcome, items);
  return items;
}

function failure(key: string | null, { errorCode, errorDetails }: Failure): string {
  return JSON.stringify({ ...(key === null ? {} : { key }), errorCode, errorDetails });
}

const CODES: ReadonlySet<string> = new Set<ErrorCode>(["PARSE_ERROR", "INVALID_CONTEXT"]);

function refused(key: string | null, error: unknown): OpenAnswer {
  if (error instanceof ContextError) return { status: 400, body: failure(key, { errorCode: "INVALID_CONTEXT", errorDetails: error.message }) };
  if (!(error instanceof Refusal)) throw error;
  const errorCode = CODES.has(error.code) ? (error.code as ErrorCode) : "GENERAL";
  return { status: error.status, body: failure(key, { errorCode, errorDetails: error.message }) };
}
