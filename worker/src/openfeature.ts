/**
 * Evaluations for callers of the open protocols: one flag or all of a client's, decided, told to the log, read as values.
 * @module
 */
import type { Caller } from "./callers";
import { type Context, ContextError } from "./context";
import type { Evaluator } from "./evaluator";
import type { FlagLog } from "./flag_log";
import { type Failure, type FlagValue, findFlag, notFound, valueOf } from "./flag_value";
import { randomId } from "./ids";
import type { Origin } from "./message";
import type { FlagView, Outcome } from "./plan";
import type { Resolution } from "./resolve";

/** Who asks, when and from where. */
export interface Question extends Caller {
  readonly context: Context;
  readonly atMs: number;
  readonly execution: ExecutionContext;
  /** Only called where it is wanted. */
  readonly originOf: () => Origin;
}

export class OpenFeature {
  constructor(
    private readonly evaluator: Evaluator,
    private readonly log: FlagLog,
  ) {}

  /** A flag, or a field of its value: what it is, or why there is none. */
  async one(key: string, question: Question): Promise<FlagValue | Failure> {
    const found = findFlag(question.client, key);
    if (found === null) return notFound(key);
    try {
      return await this.#evaluate([found.view], question, (resolution) => {
        return valueOf(resolution.outcomes[0] as Outcome, found.field);
      });
    } catch (error) {
      if (error instanceof ContextError) return { errorCode: "INVALID_CONTEXT", errorDetails: error.message };
      throw error;
    }
  }

  /** All flags of the client, as `use` reads them at once. Throws ContextError. */
  all<Result>(question: Question, use: (resolution: Resolution) => Result): Result | Promise<Result> {
    return this.#evaluate(question.client.views, question, use);
  }

  #evaluate<Result>(views: readonly FlagView[], question: Question, use: (resolution: Resolution) => Result): Result | Promise<Result> {
    const { client, applies, context, atMs, execution, originOf } = question;
    return this.evaluator.evaluate(client, views, context, execution, (resolution) => {
      this.log.addResolve(resolution, atMs, execution, (latencyMicros) => {
        return { client, origin: originOf(), resolveId: randomId(32), atMs, applies, latencyMicros };
      });
      return use(resolution);
    });
  }
}
