/**
 * `GET /metrics` in Prometheus' text form, with upstream's metric names.
 * Each isolate keeps running totals and stores them under a key of its own, so that no update can overwrite another;
 * a scrape adds all of them up. A snapshot is forgotten 30 days after its isolate last wrote.
 * @module
 */
import { REASONS } from "./assigned";
import { LATENCY_RATIO, latencyBucket } from "./latency";
import type { Outcome } from "./plan";
import type { Resolution } from "./resolve";

const PREFIX = "metrics:";
const TTL_SECONDS = 30 * 86_400;
/** KV takes one write a second to the same key, and bills each. */
const SAVE_EVERY_MS = 10_000;
const BULK_MAX = 100;
const NAME = "confidence_resolve_latency_microseconds";
const LABEL = 'resolver_id="cf-resolver"';

interface Totals {
  sum: number;
  count: number;
  buckets: Record<string, number>;
  reasons: Record<string, number>;
}

export class Metrics {
  readonly #kv: KVNamespace;
  readonly #key: string;
  readonly #totals: Totals = { sum: 0, count: 0, buckets: {}, reasons: {} };
  #savedAtMs = 0;
  #isSaving = false;

  constructor(kv: KVNamespace, isolate: string) {
    this.#kv = kv;
    this.#key = PREFIX + isolate;
  }

  /** Count a resolve; it is stored soon, by whichever request holds the timer. */
  add(resolution: Resolution, latencyMicros: number, context: ExecutionContext, nowMs: number): void {
    const totals = this.#totals;
    totals.sum += latencyMicros;
    totals.count += 1;
    const bucket = latencyBucket(latencyMicros);
    totals.buckets[bucket] = (totals.buckets[bucket] ?? 0) + 1;
    for (let i = 0; i < resolution.count; i++) {
      const { reason } = resolution.outcomes[i] as Outcome;
      totals.reasons[reason] = (totals.reasons[reason] ?? 0) + 1;
    }
    if (this.#isSaving) return;
    this.#isSaving = true;
    context.waitUntil(this.#save(Math.max(0, this.#savedAtMs + SAVE_EVERY_MS - nowMs)));
  }

  async #save(waitMs: number): Promise<void> {
    if (waitMs > 0) await scheduler.wait(waitMs);
    this.#savedAtMs = Date.now();
    this.#isSaving = false;
    try {
      await this.#kv.put(this.#key, JSON.stringify(this.#totals), { expirationTtl: TTL_SECONDS });
    } catch (error) {
      // The totals are still here: the next save holds them.
      console.error(JSON.stringify({ event: "metrics.unsaved", error: String(error) }));
    }
  }
}

/** All isolates' totals, rendered; empty where nothing was counted. */
export async function renderMetrics(kv: KVNamespace): Promise<string> {
  const totals: Totals = { sum: 0, count: 0, buckets: {}, reasons: {} };
  let cursor: string | undefined;
  do {
    const page: KVNamespaceListResult<unknown> = await kv.list({ prefix: PREFIX, ...(cursor === undefined ? {} : { cursor }) });
    const keys = page.keys.map(({ name }) => name);
    for (let i = 0; i < keys.length; i += BULK_MAX) {
      for (const text of (await kv.get(keys.slice(i, i + BULK_MAX))).values()) if (text !== null) addTotals(totals, text);
    }
    cursor = page.list_complete ? undefined : page.cursor;
  } while (cursor !== undefined);
  return render(totals);
}

function addTotals(totals: Totals, text: string): void {
  const more = readTotals(text);
  if (more === null) return;
  totals.sum += more.sum;
  totals.count += more.count;
  for (const [bucket, count] of Object.entries(more.buckets)) totals.buckets[bucket] = (totals.buckets[bucket] ?? 0) + count;
  for (const [reason, count] of Object.entries(more.reasons)) totals.reasons[reason] = (totals.reasons[reason] ?? 0) + count;
}

function readTotals(text: string): Totals | null {
  try {
    const { sum, count, buckets, reasons } = JSON.parse(text) as Totals;
    return typeof sum === "number" && typeof count === "number" && buckets && reasons ? { sum, count, buckets, reasons } : null;
  } catch {
    return null;
  }
}

function render({ sum, count, buckets, reasons }: Totals): string {
  const lines: string[] = [];
  const used = Object.keys(buckets).map(Number);
  if (used.length > 0) {
    lines.push(`# HELP ${NAME} Time to resolve, in microseconds.`, `# TYPE ${NAME} histogram`);
    let below = 0;
    for (let i = Math.min(...used); i <= Math.max(...used); i++) {
      below += buckets[i] ?? 0;
      lines.push(`${NAME}_bucket{${LABEL},le="${bucketLimit(i)}"} ${below}`);
    }
    lines.push(`${NAME}_bucket{${LABEL},le="+Inf"} ${count}`, `${NAME}_sum{${LABEL}} ${sum}`, `${NAME}_count{${LABEL}} ${count}`);
  }
  const counted = REASONS.filter((reason) => (reasons[reason] ?? 0) > 0);
  if (counted.length > 0) {
    lines.push("# HELP confidence_resolves_total Flags resolved, by reason.", "# TYPE confidence_resolves_total counter");
    for (const reason of counted) {
      lines.push(`confidence_resolves_total{${LABEL},reason="RESOLVE_REASON_${reason}"} ${reasons[reason]}`);
    }
  }
  return lines.map((line) => `${line}\n`).join("");
}

/** The upper limit of a bucket: `1.136464e0`. */
export function bucketLimit(bucket: number): string {
  return Math.exp((bucket + 1) * LATENCY_RATIO).toExponential(6).replace("e+", "e");
}
