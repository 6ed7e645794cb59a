/**
 * The Worker's entry point: the plan and the bindings are wired together here, everything else is elsewhere.
 * @module
 */
import bits from "./bitsets.bin";
import planText from "./plan.json";
import { loadPlan } from "./plan";
import type { Env } from "./settings";
import { FlagWorker } from "./worker";

const plan = loadPlan(planText, bits);
let worker: FlagWorker | null = null;

export default {
  fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    worker ??= new FlagWorker(plan, env);
    return worker.fetch(request, context);
  },
};
