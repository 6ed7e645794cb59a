/**
 * The class that other Workers bind: `{ service: "<this Worker>", entrypoint: "Flags", props: { client: "clients/web" } }`.
 * @module
 */
import { WorkerEntrypoint } from "cloudflare:workers";
import { type Details, kindOf } from "./binding";
import type { Env } from "./settings";
import type { FlagWorker } from "./worker";

type FlagContext = Record<string, unknown>;

export interface FlagsProps {
  /** Whose flags: the name of a client, or of one of its credentials. */
  client?: string;
}

/** The entry point over the Worker of an isolate. */
export function flagsEntrypoint(workerOf: (env: Env, context: ExecutionContext) => FlagWorker) {
  return class Flags extends WorkerEntrypoint<Env, FlagsProps> {
    getBooleanValue(key: string, fallback: boolean, context?: FlagContext): Promise<boolean> {
      const { binding, client } = this.#caller();
      return binding.value(client, key, "boolean", fallback, context, this.ctx);
    }

    getStringValue(key: string, fallback: string, context?: FlagContext): Promise<string> {
      const { binding, client } = this.#caller();
      return binding.value(client, key, "string", fallback, context, this.ctx);
    }

    getNumberValue(key: string, fallback: number, context?: FlagContext): Promise<number> {
      const { binding, client } = this.#caller();
      return binding.value(client, key, "number", fallback, context, this.ctx);
    }

    getObjectValue<Value extends object>(key: string, fallback: Value, context?: FlagContext): Promise<Value> {
      const { binding, client } = this.#caller();
      return binding.value(client, key, "object", fallback, context, this.ctx);
    }

    /** Of any type; Flagship has `getValue` in its stead now. */
    get(key: string, fallback?: unknown, context?: FlagContext): Promise<unknown> {
      const { binding, client } = this.#caller();
      return binding.value(client, key, null, fallback, context, this.ctx);
    }

    getValue(key: string, fallback: unknown, context?: FlagContext): Promise<unknown> {
      const { binding, client } = this.#caller();
      return binding.value(client, key, kindOf(fallback), fallback, context, this.ctx);
    }

    getBooleanDetails(key: string, fallback: boolean, context?: FlagContext): Promise<Details<boolean>> {
      const { binding, client } = this.#caller();
      return binding.details(client, key, "boolean", fallback, context, this.ctx);
    }

    getStringDetails(key: string, fallback: string, context?: FlagContext): Promise<Details<string>> {
      const { binding, client } = this.#caller();
      return binding.details(client, key, "string", fallback, context, this.ctx);
    }

    getNumberDetails(key: string, fallback: number, context?: FlagContext): Promise<Details<number>> {
      const { binding, client } = this.#caller();
      return binding.details(client, key, "number", fallback, context, this.ctx);
    }

    getObjectDetails<Value extends object>(key: string, fallback: Value, context?: FlagContext): Promise<Details<Value>> {
      const { binding, client } = this.#caller();
      return binding.details(client, key, "object", fallback, context, this.ctx);
    }

    getDetails(key: string, fallback: unknown, context?: FlagContext): Promise<Details<unknown>> {
      const { binding, client } = this.#caller();
      return binding.details(client, key, kindOf(fallback), fallback, context, this.ctx);
    }

    /** The Confidence API as calls: bodies and answers of `flags:resolve` and `flags:apply`. */
    resolve(request: object): Promise<unknown> {
      return this.#post("/v1/flags:resolve", request);
    }

    apply(request: object): Promise<unknown> {
      return this.#post("/v1/flags:apply", request);
    }

    override fetch(request: Request): Promise<Response> {
      return workerOf(this.env, this.ctx).fetch(request, this.ctx);
    }

    #caller() {
      const { binding } = workerOf(this.env, this.ctx);
      return { binding, client: this.ctx.props?.client };
    }

    async #post(path: string, body: object): Promise<unknown> {
      const response = await this.fetch(new Request(`http://flags${path}`, { method: "POST", body: JSON.stringify(body) }));
      const answer = (await response.json()) as { error?: { code: string; message: string } };
      if (response.status !== 200) throw new Error(`${answer.error?.code}: ${answer.error?.message}`);
      return answer;
    }
  };
}
