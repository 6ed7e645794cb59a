/**
 * What the bindings say, read once per isolate.
 * @module
 */
import type { BundledState, HotSettings } from "./hot_state";
import type { TokenSettings } from "./token";

export interface Env {
  readonly [name: string]: unknown;
}

/** How a client may use OFREP. */
export interface OfrepClientSettings {
  /** Its secret must not be seen in a browser. */
  readonly backend?: boolean;
  /** Whether an evaluation is an exposure; true by default. */
  readonly exposes?: boolean;
}

export interface Settings {
  readonly stateEtag: string;
  /** Since when the bundled plan's state is served, in epoch seconds; 0 where nobody knows. */
  readonly stateSinceSeconds: number;
  /** Version of flagedge that deployed this Worker. */
  readonly deployerVersion: string;
  /** The overrides in the plan, as sync_job wrote them down; "" for none. */
  readonly overrides: string;
  readonly forceApply: boolean;
  readonly allowedOrigin: string;
  readonly lingerMs: number;
  readonly logFormat: "flagedge" | "upstream";
  readonly tokens: TokenSettings;
  /** By client name. */
  readonly ofrepClients: Readonly<Record<string, OfrepClientSettings>>;
  /** Who may read /metrics; "" for nobody. */
  readonly clientSecret: string;
  /** Lifetime of sticky assignments; null keeps them. */
  readonly materializationTtlSeconds: number | null;
}

const TOKEN_KEY = "RESOLVE_TOKEN_ENCRYPTION_KEY";
const TOKEN_TTL_SECONDS = 30 * 86_400;
const U32_MAX = 4_294_967_295;

/** Never fails: what is missing or odd takes its default. */
export function readSettings(env: Env): Settings {
  const materializationTtl = wholeNumber(env, "MATERIALIZATION_TTL_SECONDS", 0, U32_MAX);
  return {
    stateEtag: text(env, "RESOLVER_STATE_ETAG"),
    stateSinceSeconds: stateSince(env),
    deployerVersion: text(env, "DEPLOYER_VERSION"),
    overrides: text(env, "FLAG_OVERRIDES"),
    forceApply: text(env, "FORCE_APPLY").trim().toLowerCase() !== "false",
    allowedOrigin: text(env, "ALLOWED_ORIGIN") || "*",
    lingerMs: wholeNumber(env, "LOG_LINGER_MS", 250, 10_000),
    logFormat: text(env, "LOG_FORMAT") === "upstream" ? "upstream" : "flagedge",
    tokens: {
      keys: tokenKeys(env),
      ttlSeconds: wholeNumber(env, "TOKEN_TTL_SECONDS", TOKEN_TTL_SECONDS, U32_MAX),
      format: text(env, "TOKEN_FORMAT") === "upstream" ? "upstream" : "flagedge",
    },
    ofrepClients: json(env, "OFREP_CLIENTS"),
    clientSecret: text(env, "CONFIDENCE_CLIENT_SECRET"),
    materializationTtlSeconds: materializationTtl > 0 ? materializationTtl : null,
  };
}

/**
 * The token keys. `RESOLVE_TOKEN_SEALING_KEY` names the secret that seals (the newest, as sync_job says); without it
 * the one with upstream's name does. All of them open.
 */
function tokenKeys(env: Env): string[] {
  const names = Object.keys(env).filter((name) => name === TOKEN_KEY || name.startsWith(`${TOKEN_KEY}_`));
  const sealing = text(env, "RESOLVE_TOKEN_SEALING_KEY") || TOKEN_KEY;
  names.sort((left, right) => Number(right === sealing) - Number(left === sealing) || (left < right ? -1 : 1));
  return names.map((name) => text(env, name)).filter((key) => key !== "");
}

/** How plans come from KV; null where they do not, or where what the bundled one is cannot be read. */
export function readHotSettings(env: Env): HotSettings | null {
  const bundled = bundledState(env);
  const macKey = text(env, "STATE_MAC_KEY");
  return bundled === null || macKey === "" ? null : { macKey, ttlMs: wholeNumber(env, "RULES_TTL_MS", 30_000, 3_600_000), bundled };
}

function bundledState(env: Env): BundledState | null {
  const facts = text(env, "STATE_BUNDLE");
  if (facts === "") return null;
  try {
    return { ...(JSON.parse(facts) as Omit<BundledState, "sinceSeconds">), sinceSeconds: stateSince(env) };
  } catch {
    console.error(JSON.stringify({ event: "state.refused", reason: "STATE_BUNDLE is not JSON" }));
    return null;
  }
}

function stateSince(env: Env): number {
  return wholeNumber(env, "STATE_SINCE", 0, U32_MAX);
}

/** The namespace that plans come from, if it is bound. */
export function stateKvOf(env: Env): KVNamespace | null {
  return binding<KVNamespace>(env, "CONFIDENCE_STATE_KV");
}

/** The flag-logs queue, if it is bound. */
export function queueOf(env: Env): Queue | null {
  return binding<Queue>(env, "flag_logs_queue");
}

/** The namespace of sticky assignments, if it is bound. */
export function materializationsOf(env: Env): KVNamespace | null {
  return binding<KVNamespace>(env, "CONFIDENCE_MATERIALIZATIONS_KV");
}

/** The namespace of metrics, if it is bound. */
export function metricsOf(env: Env): KVNamespace | null {
  return binding<KVNamespace>(env, "CONFIDENCE_METRICS_KV");
}

function binding<Type>(env: Env, name: string): Type | null {
  const value = env[name];
  return typeof value === "object" && value !== null ? (value as Type) : null;
}

function text(env: Env, name: string): string {
  const value = env[name];
  return typeof value === "string" ? value : "";
}

/** A JSON binding; sync_job has checked it. */
function json(env: Env, name: string): Readonly<Record<string, object>> {
  const value = env[name];
  return typeof value === "object" && value !== null ? (value as Record<string, object>) : {};
}

function wholeNumber(env: Env, name: string, otherwise: number, most: number): number {
  const value = text(env, name).trim();
  return /^\d{1,10}$/.test(value) ? Math.min(Number(value), most) : otherwise;
}
