/**
 * The evaluation route of Cloudflare's Flagship, so that its providers work against this Worker: one flag, the context in
 * the query or in a JSON body. A caller's own default is asked for by the reason DISABLED, which its providers take for that.
 * Source: the providers @cloudflare/flagship (npm) and cloudflare-flagship (PyPI).
 * @module
 */
import type { Callers } from "./callers";
import { type Context, ContextError, isStruct } from "./context";
import type { Evaluator } from "./evaluator";
import type { FlagLog } from "./flag_log";
import { type Failure, findFlag, fromOpenFeature, notFound, valueOf } from "./flag_value";
import { randomId } from "./ids";
import type { Origin } from "./message";
import type { Outcome } from "./plan";
import { notAllowed, readBody, Refusal } from "./refusal";

/** Ours, and the one that its clients make of an account and an app. */
const PATHS = /^(\/v1\/evaluate|\/client\/v4\/accounts\/[^/]+\/flagship\/apps\/[^/]+\/evaluate)$/;

export class Flagship {
  constructor(
    private readonly callers: Callers,
    private readonly evaluator: Evaluator,
    private readonly log: FlagLog,
    private readonly originOf: (request: Request) => Origin,
  ) {}

  static handles(path: string): boolean {
    return PATHS.test(path);
  }

  /** Status and body. Throws Refusal. */
  async answer(request: Request, execution: ExecutionContext): Promise<[status: number, body: string]> {
    const atMs = Date.now();
    const { client, applies } = await this.callers.of(request);
    const { key, context } = await readEvaluation(request);
    const found = findFlag(client, key);
    if (found === null) return failed(404, notFound(key));
    try {
      return await this.evaluator.evaluate(client, [found.view], context, execution, (resolution): [number, string] => {
        this.log.addResolve(resolution, atMs, execution, (latencyMicros) => {
          return { client, origin: this.originOf(request), resolveId: randomId(32), atMs, applies, latencyMicros };
        });
        const value = valueOf(resolution.outcomes[0] as Outcome, found.field, context);
        if ("errorCode" in value) return failed(value.errorCode === "FLAG_NOT_FOUND" ? 404 : 400, value);
        const reason = value.value === undefined ? "DISABLED" : value.reason;
        const head = `{"flagKey":${JSON.stringify(key)},"variant":${JSON.stringify(value.variant)},"reason":"${reason}"`;
        return [200, `${head},"value":${value.value ?? "null"}}`];
      });
    } catch (error) {
      if (error instanceof ContextError) return failed(400, { errorCode: "INVALID_CONTEXT", errorDetails: error.message });
      throw error;
    }
  }
}

async function readEvaluation(request: Request): Promise<{ key: string; context: Context }> {
  if (request.method === "GET") {
    const { flagKey, ...context } = Object.fromEntries(new URL(request.url).searchParams);
    return { key: flagKey ?? "", context: fromOpenFeature(context) };
  }
  if (request.method !== "POST") throw notAllowed("POST");
  let json: unknown;
  try {
    json = JSON.parse(await readBody(request));
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(400, "invalid_request", "the body is not JSON");
  }
  const { flagKey, context = {} } = isStruct(json) ? json : {};
  if (typeof flagKey !== "string" || !isStruct(context)) throw new Refusal(400, "invalid_request", "flagKey must be a string, context an object");
  return { key: flagKey, context: fromOpenFeature(context) };
}

function failed(status: number, { errorCode, errorDetails }: Failure): [number, string] {
  return [status, JSON.stringify({ errorCode, error: errorDetails })];
}
