/**
 * Resolving with what surrounds it: the client's managed context, and sticky assignments in KV.
 * @module
 */
import { checkContext, type Context, overlay } from "./context";
import type { Client, FlagView, Plan } from "./plan";
import { type Resolution, Resolver, UNSUPPORTED } from "./resolve";
import { StickyResolver } from "./sticky";

export class Evaluator {
  readonly #resolver: Resolver;
  /** null where no sticky assignments are bound. */
  readonly #sticky: StickyResolver | null;

  constructor(plan: Plan, materializations: KVNamespace | null, materializationTtlSeconds: number | null) {
    this.#resolver = new Resolver(plan);
    this.#sticky =
      IS_FULL && materializations !== null ? new StickyResolver(this.#resolver, materializations, materializationTtlSeconds) : null;
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
    if (this.#sticky !== null) return this.#sticky.resolve(views, attributes, execution, use);
    return use(this.#resolver.resolve(views, attributes, UNSUPPORTED));
  }
}

/** A request's context, under what the client's owner laid over it. */
export function attributesOf({ managedContext }: Client, context: Context): Context {
  if (managedContext === null) return context;
  checkContext(context);
  return overlay(context, managedContext);
}
