/**
 * Proof before traffic: sync_job asks a version that nobody uses yet what it serves and how it decides. Probes are signed
 * by the client secret, never log, never apply and remember nothing; to anybody else this path does not exist.
 * @module
 */
import { resolveAnswer } from "./answer";
import { type Context, isStruct } from "./context";
import { attributesOf } from "./evaluator";
import type { HotState } from "./hot_state";
import type { Plan } from "./plan";
import { StateError } from "./pointer";
import { Refusal } from "./refusal";
import { Resolver, UNSUPPORTED } from "./resolve";
import type { Settings } from "./settings";

const SIGNATURE = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/;
const MAX_AGE_SECONDS = 300;

export class Prober {
  readonly #resolvers = new WeakMap<Plan, Resolver>();

  constructor(
    private readonly plan: Plan,
    private readonly settings: Settings,
    private readonly hot: HotState | null,
  ) {}

  /**
   * The answers to a probe's requests (credential and context each), in their order, by what is served, or by the plan that
   * `candidate`, a pointer, leads to in KV. Throws Refusal.
   */
  async answer(request: Request, body: string): Promise<string> {
    if (!(await this.#isSigned(request.headers.get("x-flagedge-signature") ?? "", body))) {
      throw new Refusal(404, "not_found", "there is nothing at this path");
    }
    const { requests, candidate } = readProbe(body);
    const plan = candidate === null ? this.plan : await this.#load(candidate);
    const resolver = this.#resolvers.get(plan) ?? new Resolver(plan);
    this.#resolvers.set(plan, resolver);
    const answers = requests.map(({ credential, context }) => {
      const client = plan.clients.find((each) => each.credential === credential);
      if (client === undefined) throw new Refusal(400, "invalid_request", `there is no credential ${credential}`);
      return resolveAnswer(resolver.resolve(client.views, attributesOf(client, context), UNSUPPORTED), "", "");
    });
    const { deployerVersion, overrides } = this.settings;
    const served = JSON.stringify({ state_etag: plan.etag, worker_version: deployerVersion, overrides });
    return `${served.slice(0, -1)},"answers":[${answers.join()}]}`;
  }

  async #load(candidate: string): Promise<Plan> {
    try {
      if (this.hot === null) throw new StateError("plans do not come from KV here");
      return await this.hot.loadCandidate(candidate);
    } catch (error) {
      if (error instanceof StateError) throw new Refusal(409, "candidate_refused", error.message);
      throw error;
    }
  }

  async #isSigned(header: string, body: string): Promise<boolean> {
    const match = SIGNATURE.exec(header);
    const secret = this.settings.clientSecret;
    if (match === null || secret === "" || Math.abs(Date.now() / 1000 - Number(match[1])) > MAX_AGE_SECONDS) return false;
    const utf8 = new TextEncoder();
    const key = await crypto.subtle.importKey("raw", utf8.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
    return crypto.subtle.verify("HMAC", key, Uint8Array.fromHex(match[2] as string), utf8.encode(`${match[1]}.${body}`));
  }
}

interface Probe {
  readonly requests: readonly { credential: string; context: Context }[];
  readonly candidate: string | null;
}

function readProbe(body: string): Probe {
  let probe: unknown;
  try {
    probe = JSON.parse(body);
  } catch {
    throw new Refusal(400, "invalid_request", "the body is not JSON");
  }
  const { requests, candidate } = isStruct(probe) ? probe : {};
  if (!Array.isArray(requests)) throw new Refusal(400, "invalid_request", "requests must be a list");
  return { requests: requests.map(readRequest), candidate: typeof candidate === "string" ? candidate : null };
}

function readRequest(each: unknown): { credential: string; context: Context } {
  const { credential, context } = isStruct(each) ? each : {};
  if (typeof credential !== "string" || !isStruct(context)) {
    throw new Refusal(400, "invalid_request", "a request of a probe has a credential and a context");
  }
  return { credential, context };
}
