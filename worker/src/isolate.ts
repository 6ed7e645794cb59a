/**
 * An isolate: the Worker of the plan that is served now, another one after each swap. Requests that wait for something
 * meanwhile end with the plan that they began with.
 * @module
 */
import { HotState } from "./hot_state";
import { Lasting } from "./lasting";
import type { Plan } from "./plan";
import { type Env, readHotSettings, stateKvOf } from "./settings";
import { FlagWorker } from "./worker";

export class Isolate {
  readonly #hot: HotState | null;
  #worker: FlagWorker;

  constructor(bundled: Plan, env: Env) {
    const kv = stateKvOf(env);
    const settings = readHotSettings(env);
    const serve = (plan: Plan): void => {
      this.#worker = new FlagWorker(plan, env, lasting);
    };
    this.#hot = IS_FULL && kv !== null && settings !== null ? new HotState(kv, settings, bundled, serve) : null;
    const lasting = new Lasting(env, this.#hot);
    this.#worker = new FlagWorker(bundled, env, lasting);
  }

  /** The Worker for a request. */
  workerFor(context: ExecutionContext): FlagWorker {
    this.#hot?.keepFresh(context);
    return this.#worker;
  }
}
