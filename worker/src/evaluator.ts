/**
 * Resolving with what surrounds it: the client's managed context, and sticky assignments in KV.
 * @module
 */
import { checkContext, type Context, overlay } from "./context";
import type { Client, FlagView, Plan } from "./plan";
import { type Resolution, Resolver, UNSUPPORTED } from "./resolve";
import { StickyRecords, writeMaterializations } from "./sticky";

export class Evaluator {
  readonly #resolver: Resolver;

  constructor(
    plan: Plan,
    private readonly materializations: KVNamespace | null,
    private readonly materializationTtlSeconds: number | null,
  ) {
    this.#resolver = new Resolver(plan);
  }

  /**
   * Decide the flags of `views` and give the resolution to `use`, at once: it is scratch memory that the next request
   * writes over, so `use` must not wait. Throws ContextError.
   */
  evaluate<Result>(
    client: Client,
    views: readonly FlagView[],
    context: Context,
    execution: ExecutionContext,
    use: (resolution: Resolution) => Result | Promise<Result>,
  ): Result | Promise<Result> {
    const attributes = attributesOf(client, context);
    if (this.materializations === null) return use(this.#resolver.resolve(views, attributes, UNSUPPORTED));
    return this.#evaluateSticky(this.materializations, views, attributes, execution, use);
  }

  /** Decide what can be decided, read what is missing in one go, decide again; writes outlive the answer. */
  async #evaluateSticky<Result>(
    kv: KVNamespace,
    views: readonly FlagView[],
    attributes: Context,
    execution: ExecutionContext,
    use: (resolution: Resolution) => Result | Promise<Result>,
  ): Promise<Result> {
    const records = new StickyRecords(kv);
    let resolution = this.#resolver.resolve(views, attributes, records);
    while (records.hasWishes) {
      await records.read();
      resolution = this.#resolver.resolve(views, attributes, records);
    }
    if (resolution.writes.length > 0) {
      execution.waitUntil(writeMaterializations(kv, resolution.writes, this.materializationTtlSeconds));
    }
    return use(resolution);
  }
}

/** A request's context, under what the client's owner laid over it. */
export function attributesOf({ managedContext }: Client, context: Context): Context {
  if (managedContext === null) return context;
  checkContext(context);
  return overlay(context, managedContext);
}
