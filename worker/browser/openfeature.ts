/**
 * OpenFeature's web provider over `Flags`: what it evaluates first of a flag is the exposure.
 * @module
 */
import type { EvaluationContext, JsonValue, Provider, ResolutionDetails } from "@openfeature/web-sdk";
import { type Context, Flags, type FlagsOptions } from "./flags";

export class FlagedgeProvider implements Provider {
  readonly metadata = { name: "flagedge" };
  readonly runsOn = "client";
  readonly #flags: Flags;

  constructor(options: FlagsOptions) {
    this.#flags = new Flags(options);
  }

  initialize(context: EvaluationContext = {}): Promise<void> {
    return this.#flags.fetch(attributesOf(context));
  }

  onContextChange(_: EvaluationContext, context: EvaluationContext): Promise<void> {
    return this.#flags.fetch(attributesOf(context));
  }

  onClose(): Promise<void> {
    return this.#flags.flush();
  }

  resolveBooleanEvaluation(key: string, fallback: boolean): ResolutionDetails<boolean> {
    return this.#details(key, fallback);
  }

  resolveStringEvaluation(key: string, fallback: string): ResolutionDetails<string> {
    return this.#details(key, fallback);
  }

  resolveNumberEvaluation(key: string, fallback: number): ResolutionDetails<number> {
    return this.#details(key, fallback);
  }

  resolveObjectEvaluation<Value extends JsonValue>(key: string, fallback: Value): ResolutionDetails<Value> {
    return this.#details(key, fallback);
  }

  /** The SDK's error codes are the same texts, as an enumeration that would be a dependency. */
  #details<Value>(key: string, fallback: Value): ResolutionDetails<Value> {
    return this.#flags.details(key, fallback) as ResolutionDetails<Value>;
  }
}

/** Confidence's name for OpenFeature's targeting key. */
function attributesOf({ targetingKey, ...attributes }: EvaluationContext): Context {
  return targetingKey === undefined ? attributes : { targeting_key: targetingKey, ...attributes };
}
