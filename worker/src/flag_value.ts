/**
 * One flag for one caller, as open clients know it: a key (a flag, or a field of its value), a context, and a value,
 * or why there is none.
 * @module
 */
import { type Context, ContextError, DEPTH_MAX, isStruct } from "./context";
import type { Client, FlagView, Outcome } from "./plan";
import { typedValues } from "./typed_value";

/** Codes of OpenFeature that an evaluation can end with. */
export type ErrorCode = "PARSE_ERROR" | "INVALID_CONTEXT" | "FLAG_NOT_FOUND" | "GENERAL";

export interface Failure {
  readonly errorCode: ErrorCode;
  readonly errorDetails: string;
}

export interface FlagValue {
  readonly reason: "TARGETING_MATCH" | "SPLIT" | "DEFAULT";
  /** "" where there is no value. */
  readonly variant: string;
  /** JSON text; undefined: the caller's default. */
  readonly value: string | undefined;
}

/** The caller's default. */
export const NO_VALUE: FlagValue = { reason: "DEFAULT", variant: "", value: undefined };

/** A flag among a client's, and the field of its value that is asked for ("" for all of it). */
export interface FoundFlag {
  readonly view: FlagView;
  readonly field: string;
}

/** A flag by its name, with or without `flags/`, or a field of its value by `flag.field`. */
export function findFlag(client: Client, key: string): FoundFlag | null {
  const name = key.startsWith("flags/") ? key.slice("flags/".length) : key;
  const [whole] = client.viewsNamed([`flags/${name}`]);
  if (whole !== undefined) return { view: whole, field: "" };
  const dot = name.indexOf(".");
  const [view] = dot < 0 ? [] : client.viewsNamed([`flags/${name.slice(0, dot)}`]);
  const field = name.slice(dot + 1);
  return view === undefined || field === "" ? null : { view, field };
}

/** The HTTP status that a failure is answered with. */
export function statusOf({ errorCode }: Failure): number {
  return errorCode === "FLAG_NOT_FOUND" ? 404 : 400;
}

export function notFound(key: string): Failure {
  return { errorCode: "FLAG_NOT_FOUND", errorDetails: `flag ${key} is not among this client's flags` };
}

/** What a decision means for a caller. */
export function valueOf(outcome: Outcome, field: string): FlagValue | Failure {
  const failure = failureOf(outcome);
  if (failure !== null) return failure;
  const isMatch = outcome.kind === "match" && outcome.variant >= 0;
  const value = isMatch ? typedValues(outcome).get(field) : undefined;
  if (value !== undefined) return { reason: outcome.rule?.isFull ? "TARGETING_MATCH" : "SPLIT", variant: outcome.variantName, value };
  if (isMatch && field !== "" && !hasField(outcome, field)) {
    return { errorCode: "FLAG_NOT_FOUND", errorDetails: `flag ${outcome.flag.name} has no field ${field}` };
  }
  return NO_VALUE;
}

function failureOf(outcome: Outcome): Failure | null {
  if (outcome.kind === "match" || outcome.reason === "NO_SEGMENT_MATCH") return null;
  if (outcome.reason !== "TARGETING_KEY_ERROR") {
    return { errorCode: "GENERAL", errorDetails: `flag ${outcome.flag.name} cannot be evaluated: ${outcome.reason}` };
  }
  // Where none is given no rule matches, which is no error.
  return { errorCode: "INVALID_CONTEXT", errorDetails: "a targeting key must be a text of at most 100 bytes or a whole number" };
}

/** Whether a variant's value has a field, be it null. */
function hasField(outcome: Outcome, field: string): boolean {
  let value: unknown = JSON.parse(outcome.flag.variants[outcome.variant]?.[1] ?? "null");
  for (const step of field.split(".")) {
    if (!isStruct(value) || !Object.hasOwn(value, step)) return false;
    value = value[step];
  }
  return true;
}

/** An OpenFeature context as Confidence has it: `targetingKey` becomes the targeting key, dotted keys become structs. Throws ContextError. */
export function fromOpenFeature(context: Context): Context {
  const { targetingKey, ...rest } = context;
  return unflatten(targetingKey === undefined || "targeting_key" in rest ? rest : { targeting_key: targetingKey, ...rest });
}

type Struct = Record<string, unknown>;

/** Dotted keys become structs, unless what stands there already is none. */
function unflatten(context: Context): Context {
  const dotted = Object.keys(context).filter((key) => key.includes("."));
  if (dotted.length === 0) return context;
  const result: Struct = { __proto__: null, ...context };
  for (const key of dotted) delete result[key];
  // Those that may be written to: each struct is copied once at the most.
  const copies = new Set<Struct>([result]);
  for (const key of dotted) place(result, key.split("."), context[key], copies);
  return result;
}

function place(root: Struct, steps: readonly string[], value: unknown, copies: Set<Struct>): void {
  if (steps.length > DEPTH_MAX) throw new ContextError("the context is nested too deeply");
  let struct = root;
  for (const step of steps.slice(0, -1)) {
    const below = Object.hasOwn(struct, step) ? struct[step] : {};
    if (!isStruct(below)) return;
    const copy: Struct = copies.has(below) ? below : { __proto__: null, ...below };
    copies.add(copy);
    struct = struct[step] = copy;
  }
  const last = steps.at(-1) as string;
  if (!Object.hasOwn(struct, last)) struct[last] = value;
}
