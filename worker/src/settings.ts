/**
 * What the bindings say, read once per isolate.
 * @module
 */

export interface Env {
  readonly [name: string]: unknown;
}

export interface Settings {
  readonly stateEtag: string;
  /** Version of flagedge that deployed this Worker. */
  readonly deployerVersion: string;
  readonly forceApply: boolean;
  readonly allowedOrigin: string;
  readonly lingerMs: number;
}

/** Never fails: what is missing or odd takes its default. */
export function readSettings(env: Env): Settings {
  return {
    stateEtag: text(env, "RESOLVER_STATE_ETAG"),
    deployerVersion: text(env, "DEPLOYER_VERSION"),
    forceApply: text(env, "FORCE_APPLY").trim().toLowerCase() !== "false",
    allowedOrigin: text(env, "ALLOWED_ORIGIN") || "*",
    lingerMs: wholeNumber(env, "LOG_LINGER_MS", 250, 10_000),
  };
}

/** The flag-logs queue, if it is bound. */
export function queueOf(env: Env): Queue | null {
  const queue = env["flag_logs_queue"];
  return typeof queue === "object" && queue !== null ? (queue as Queue) : null;
}

function text(env: Env, name: string): string {
  const value = env[name];
  return typeof value === "string" ? value : "";
}

function wholeNumber(env: Env, name: string, otherwise: number, most: number): number {
  const value = text(env, name);
  return /^\d{1,9}$/.test(value) ? Math.min(Number(value), most) : otherwise;
}
