/**
 * Proof before traffic: sync_job asks a version that nobody uses yet what it serves and how it decides. Probes are signed
 * by the client secret, never log, never apply and remember nothing; to anybody else this path does not exist.
 * @module
 */
import { resolveAnswer } from "./answer";
import { type Context, isStruct } from "./context";
import { attributesOf } from "./evaluator";
import type { Plan } from "./plan";
import { Refusal } from "./refusal";
import { Resolver, UNSUPPORTED } from "./resolve";
import type { Settings } from "./settings";

const SIGNATURE = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/;
const MAX_AGE_SECONDS = 300;

export class Prober {
  #resolver: Resolver | null = null;

  constructor(
    private readonly plan: Plan,
    private readonly settings: Settings,
  ) {}

  /** The answers to a probe's requests (credential and context each), in their order. Throws Refusal. */
  async answer(request: Request, body: string): Promise<string> {
    if (!(await this.#isSigned(request.headers.get("x-flagedge-signature") ?? "", body))) {
      throw new Refusal(404, "not_found", "there is nothing at this path");
    }
    this.#resolver ??= new Resolver(this.plan);
    const resolver = this.#resolver;
    const answers = readProbe(body).map(({ credential, context }) => {
      const client = this.plan.clients.find((each) => each.credential === credential);
      if (client === undefined) throw new Refusal(400, "invalid_request", `there is no credential ${credential}`);
      return resolveAnswer(resolver.resolve(client.views, attributesOf(client, context), UNSUPPORTED), "", "");
    });
    const { deployerVersion, overrides } = this.settings;
    const served = JSON.stringify({ state_etag: this.plan.etag, worker_version: deployerVersion, overrides });
    return `${served.slice(0, -1)},"answers":[${answers.join()}]}`;
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

function readProbe(body: string): { credential: string; context: Context }[] {
  let requests: unknown;
  try {
    requests = (JSON.parse(body) as { requests?: unknown }).requests;
  } catch {
    throw new Refusal(400, "invalid_request", "the body is not JSON");
  }
  if (!Array.isArray(requests)) throw new Refusal(400, "invalid_request", "requests must be a list");
  return requests.map((each: unknown) => {
    const { credential, context } = isStruct(each) ? each : {};
    if (typeof credential !== "string" || !isStruct(context)) {
      throw new Refusal(400, "invalid_request", "a request of a probe has a credential and a context");
    }
    return { credential, context };
  });
}
