/**
 * The Worker's entry point: the plan and the bindings are wired together here, everything else is elsewhere.
 * @module
 */
import bits from "./bitsets.bin";
import { flagsEntrypoint } from "./entrypoint";
import planText from "./plan.json";
import { loadPlan } from "./plan";
import type { Env } from "./settings";
import { FlagWorker } from "./worker";

const plan = loadPlan(planText, bits);
let worker: FlagWorker | null = null;

/** One Worker per isolate: its memory and its log are shared by all that call it. */
function workerOf(env: Env): FlagWorker {
  return (worker ??= new FlagWorker(plan, env));
}

export const Flags = flagsEntrypoint(workerOf);

export default {
  fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    return workerOf(env).fetch(request, context);
  },
};
