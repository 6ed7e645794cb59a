/**
 * The evaluation route of Cloudflare's Flagship, so that its providers work against this Worker: one flag, the context in
 * the query or in a JSON body. A caller's own default is asked for by the reason DISABLED, which its providers take for that.
 * Source: the providers @cloudflare/flagship (npm) and cloudflare-flagship (PyPI).
 * @module
 */
import type { Callers } from "./callers";
import { type Context, isStruct } from "./context";
import { fromOpenFeature, statusOf } from "./flag_value";
import type { Origin } from "./message";
import type { OpenAnswer } from "./ofrep";
import type { OpenFeature } from "./openfeature";
import { readBody, Refusal } from "./refusal";

/** Ours, and the one that its clients make of an account and an app. */
const PATHS = /^(\/v1\/evaluate|\/client\/v4\/accounts\/[^/]+\/flagship\/apps\/[^/]+\/evaluate)$/;

export class Flagship {
  constructor(
    private readonly callers: Callers,
    private readonly flags: OpenFeature,
    private readonly originOf: (request: Request) => Origin,
  ) {}

  static handles(path: string): boolean {
    return PATHS.test(path);
  }

  /** Throws Refusal. */
  async answer(request: Request, execution: ExecutionContext): Promise<OpenAnswer> {
    const atMs = Date.now();
    const caller = await this.callers.of(request);
    const { key, context } = await readEvaluation(request);
    const question = { ...caller, context, atMs, execution, originOf: () => this.originOf(request) };
    const value = await this.flags.one(key, question);
    if ("errorCode" in value) {
      return { status: statusOf(value), body: JSON.stringify({ errorCode: value.errorCode, error: value.errorDetails }) };
    }
    const reason = value.value === undefined ? "DISABLED" : value.reason;
    const head = `{"flagKey":${JSON.stringify(key)},"variant":${JSON.stringify(value.variant)},"reason":"${reason}"`;
    return { status: 200, body: `${head},"value":${value.value ?? "null"}}` };
  }
}

async function readEvaluation(request: Request): Promise<{ key: string; context: Context }> {
  if (request.method === "GET") {
    const { flagKey, ...context } = Object.fromEntries(new URL(request.url).searchParams);
    return { key: flagKey ?? "", context: fromOpenFeature(context) };
  }
  if (request.method !== "POST") throw new Refusal(405, "method_not_allowed", "use GET or POST", { allow: "GET, POST, OPTIONS" });
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
