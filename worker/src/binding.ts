/**
 * Flags for other Workers, over a service binding: names and failures as Cloudflare's Flagship binding has them.
 * A value falls back to the caller's default when the flag cannot be evaluated, and throws TypeError when it is of another
 * type; details never throw, they tell.
 * Source: `Flagship` of @cloudflare/workers-types.
 * @module
 */
import { type Context, ContextError, isStruct } from "./context";
import { type ErrorCode, fromOpenFeature } from "./flag_value";
import type { Origin } from "./message";
import type { OpenFeature } from "./openfeature";
import type { Client, Plan } from "./plan";

export type Kind = "boolean" | "string" | "number" | "object";

export interface Details<Value> {
  flagKey: string;
  value: Value;
  variant?: string;
  reason?: string;
  errorCode?: ErrorCode | "TYPE_MISMATCH";
  errorMessage?: string;
}

const ORIGIN: Origin = { source: "binding", sdk: "", sdkVersion: "", country: "", isBot: false };

export class FlagBinding {
  constructor(
    private readonly plan: Plan,
    private readonly flags: OpenFeature,
  ) {}

  /** The client that a caller's binding names (a client or one of its credentials); the only one where there is one. */
  clientNamed(name: unknown): Client {
    const { clients } = this.plan;
    const [only, ...others] = clients;
    if (name === undefined && only !== undefined && others.length === 0) return only;
    const found = clients.find((client) => client.name === name || client.credential === name);
    if (found === undefined) throw new TypeError(`bind with props { client } naming one of ${[...new Set(clients.map((client) => client.name))].join(", ")}`);
    return found;
  }

  /** The value, or the default when the flag cannot be evaluated. Throws TypeError when it is not of `kind` (null for any). */
  async value<Value>(client: unknown, key: string, kind: Kind | null, fallback: Value, context: unknown, execution: ExecutionContext): Promise<Value> {
    const details = await this.details(client, key, kind, fallback, context, execution);
    if (details.errorCode === "TYPE_MISMATCH") throw new TypeError(details.errorMessage);
    return details.value;
  }

  /** The value and how it came about, for the client that is named. Never throws. */
  async details<Value>(
    client: unknown,
    key: string,
    kind: Kind | null,
    fallback: Value,
    context: unknown,
    execution: ExecutionContext,
  ): Promise<Details<Value>> {
    const failed = (errorCode: NonNullable<Details<Value>["errorCode"]>, errorMessage: string): Details<Value> => {
      return { flagKey: key, value: fallback, reason: "ERROR", errorCode, errorMessage };
    };
    try {
      const caller = { client: this.clientNamed(client), applies: true, originOf: () => ORIGIN };
      const found = await this.flags.one(key, { ...caller, context: readContext(context), atMs: Date.now(), execution });
      if ("errorCode" in found) return failed(found.errorCode, found.errorDetails);
      const { reason, variant, value } = found;
      if (value === undefined) return { flagKey: key, value: fallback, reason, variant };
      const parsed: unknown = JSON.parse(value);
      if (kind !== null && typeof parsed !== kind) return failed("TYPE_MISMATCH", `flag ${key} is of type ${typeof parsed}, not ${kind}`);
      return { flagKey: key, value: parsed as Value, reason, variant };
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof ContextError) return failed("INVALID_CONTEXT", message);
      console.error(JSON.stringify({ event: "evaluation.failed", error: message }));
      return failed("GENERAL", message);
    }
  }
}

/** A context as JSON would carry it, where a Date is its text; other calls bring more than that. Throws ContextError. */
function readContext(value: unknown): Context {
  let context = value ?? {};
  if (!isStruct(context) || !Object.values(context).every(isPlain)) {
    try {
      context = JSON.parse(JSON.stringify(context)) as object;
    } catch (error) {
      throw new ContextError(`the context is not JSON: ${(error as Error).message}`);
    }
  }
  if (!isStruct(context)) throw new ContextError("the context must be an object");
  return fromOpenFeature(context);
}

/** Whether a value needs no JSON to be what it would be. */
function isPlain(value: unknown): boolean {
  const kind = typeof value;
  return kind === "string" || kind === "number" || kind === "boolean" || value === null;
}

/** The kind of a default, where a call does not say which it wants. */
export function kindOf(fallback: unknown): Kind {
  const kind = typeof fallback;
  return kind === "boolean" || kind === "string" || kind === "number" ? kind : "object";
}
