/**
 * The Worker's entry point: the plan and the bindings are wired together here, everything else is elsewhere.
 * @module
 */
import bits from "./bitsets.bin";
import { flagsEntrypoint } from "./entrypoint";
import { Isolate } from "./isolate";
import planText from "./plan.json";
import { loadPlan } from "./plan";
import type { Env } from "./settings";
import type { FlagWorker } from "./worker";

const plan = loadPlan(planText, bits);
let isolate: Isolate | null = null;

/** One Worker per isolate and plan: its memory and its log are shared by all that call it. */
function workerOf(env: Env, context: ExecutionContext): FlagWorker {
  return (isolate ??= new Isolate(plan, env)).workerFor(context);
}

export const Flags = flagsEntrypoint(workerOf);

export default {
  fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    return workerOf(env, context).fetch(request, context);
  },
};
