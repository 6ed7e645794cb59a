/**
 * The benchmark of the ways in: the Confidence API and OFREP in this isolate, the binding over RPC to another one. As entry.ts, it
 * does as it is told and takes no times.
 * @module
 */
import { randomId } from "../src/ids";
import { OursAsWorker } from "./ours";

/** A state to measure on. */
interface Job {
  plan: string;
  bits: string;
  secret: string;
  /** The names of flags, `flags/` included. */
  flags: string[];
  /** Evaluation contexts as JSON, with `unit_mark` where the unit goes. */
  contexts: string[];
  unit_mark: string;
}

interface Flags {
  getObjectValue(key: string, fallback: object, context: object): Promise<unknown>;
  resolve(request: object): Promise<unknown>;
}

interface Env {
  FLAGS: Flags;
  BARE: Flags;
}

interface Resolved {
  resolvedFlags: { flag: string; variant: string; value: unknown }[];
}

type Subject = (context: string) => Promise<unknown>;

const RESOLVE = "/v1/flags:resolve";
const EVALUATE = "/ofrep/v1/evaluate/flags";

class Bench {
  readonly subjects: Readonly<Record<string, Subject>>;
  readonly #worker: OursAsWorker;
  #contexts: string[] = [];

  constructor(
    private readonly job: Job,
    private readonly env: Env,
  ) {
    this.#worker = new OursAsWorker(job.plan, Uint8Array.fromBase64(job.bits).buffer as ArrayBuffer);
    const [one = ""] = job.flags;
    const key = one.slice("flags/".length);
    this.subjects = {
      floor: (context) => this.#floor(`{"context":${context}}`),
      "floor again": (context) => this.#floor(`{"context":${context}}`),
      "resolve one": (context) => this.#resolve([one], context),
      "evaluate one": (context) => this.#evaluate(`${EVALUATE}/${key}`, context),
      "resolve all": (context) => this.#resolve([], context),
      "evaluate all": (context) => this.#evaluate(EVALUATE, context),
      "bare call": (context) => env.BARE.getObjectValue(key, {}, JSON.parse(context) as object),
      value: (context) => env.FLAGS.getObjectValue(key, {}, JSON.parse(context) as object),
      "a value each": async (context) => {
        for (const flag of job.flags) await env.FLAGS.getObjectValue(flag, {}, JSON.parse(context) as object);
      },
      "one resolve": (context) => env.FLAGS.resolve(this.#request(job.flags, JSON.parse(context) as object)),
    };
    this.freshen();
  }

  freshen(): void {
    this.#contexts = this.job.contexts.map((context) => context.replace(this.job.unit_mark, randomId(32)));
  }

  async run({ subject, count }: { subject: string; count: number }): Promise<void> {
    const ask = this.subjects[subject] ?? (async () => undefined);
    await this.#worker.during(async () => {
      for (const context of this.#contexts.slice(0, count)) await ask(context);
    });
  }

  /** How many of `count` contexts are told different values by OFREP or by the binding than by the Confidence API. */
  async compare({ count }: { count: number }): Promise<unknown> {
    let differences = 0;
    let matches = 0;
    await this.#worker.during(async () => {
      for (const context of this.#contexts.slice(0, count)) {
        const { resolvedFlags } = JSON.parse(await this.#resolve([], context)) as Resolved;
        const { flags } = JSON.parse(await this.#evaluate(EVALUATE, context)) as { flags: { key: string; value?: unknown }[] };
        const told = new Map(flags.map((item) => [`flags/${item.key}`, item.value]));
        for (const { flag, variant, value } of resolvedFlags) {
          const expected = JSON.stringify(variant ? value : undefined);
          if (variant) matches++;
          if (JSON.stringify(told.get(flag)) !== expected) differences++;
          if (!this.job.flags.includes(flag)) continue;
          const bound = await this.env.FLAGS.getObjectValue(flag, {}, JSON.parse(context) as object);
          if (JSON.stringify(bound) !== (expected ?? "{}")) differences++;
        }
      }
    });
    return { differences, matches };
  }

  #request(flags: readonly string[], evaluationContext: object): object {
    return { clientSecret: this.job.secret, flags, evaluationContext, apply: true };
  }

  #resolve(flags: readonly string[], context: string): Promise<string> {
    const body = `{"clientSecret":"${this.job.secret}","flags":${JSON.stringify(flags)},"evaluationContext":${context},"apply":true}`;
    return this.#fetch(RESOLVE, body, {});
  }

  #evaluate(path: string, context: string): Promise<string> {
    return this.#fetch(path, `{"context":${context}}`, { authorization: `Bearer ${this.job.secret}` });
  }

  async #fetch(path: string, body: string, headers: Record<string, string>): Promise<string> {
    return (await this.#worker.fetch(requestOf(path, body, headers))).text();
  }

  async #floor(body: string): Promise<string> {
    await requestOf(RESOLVE, body, {}).text();
    return new Response("{}", { headers: { "content-type": "application/json" } }).text();
  }
}

function requestOf(path: string, body: string, headers: Record<string, string>): Request {
  return new Request(`http://worker${path}`, { method: "POST", body, headers: { "content-type": "application/json", ...headers } });
}

let bench: Bench | null = null;

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname } = new URL(request.url);
    const body: unknown = await request.json();
    if (pathname === "/begin") {
      bench = new Bench(body as Job, env);
      return Response.json(Object.keys(bench.subjects));
    }
    if (bench === null) return new Response(null, { status: 409 });
    if (pathname === "/compare") return Response.json(await bench.compare(body as { count: number }));
    if (pathname === "/freshen") bench.freshen();
    else await bench.run(body as { subject: string; count: number });
    return new Response();
  },
};
