/**
 * One flag-log message while it is being filled: dictionaries, columns, and a bound on its bytes.
 * Source: docs/log-format.md.
 * @module
 */
import { REASONS } from "./assigned";
import { type ContextSchema, schemaOf } from "./context_schema";
import { randomId } from "./ids";
import { latencyBucket } from "./latency";
import type { Client, Outcome, Plan } from "./plan";
import type { AssignedFallthrough, AssignedFlag } from "./token_body";

export const LOG_FORMAT = "flagedge/1";
/** A queue takes 128,000 bytes, of which about 100 are its own. */
export const MESSAGE_MAX_BYTES = 127_000;
/** The envelope and its keys, telemetry included. */
const ENVELOPE_BYTES = 1_500;
/** The most that an index costs in a column, comma included: what has an index costs more than 13 bytes itself. */
export const NUMBER_BYTES = 5;
export const RESOLVE_BYTES = 60;
export const EXPOSURE_BYTES = 3 * NUMBER_BYTES;
const COUNT_BYTES = 3 * NUMBER_BYTES + 6;
const TIME_BYTES = 14;
const SCHEMAS_MAX = 100;

/** Where a request came from. */
export interface Origin {
  readonly source: "api" | "apply" | "ofrep" | "binding" | "page";
  readonly sdk: string;
  readonly sdkVersion: string;
  readonly country: string;
  readonly isBot: boolean;
}

function isSameOrigin(left: Origin, right: Origin): boolean {
  return (
    left.country === right.country &&
    left.sdk === right.sdk &&
    left.sdkVersion === right.sdkVersion &&
    left.source === right.source &&
    left.isBot === right.isBot
  );
}

/** What an isolate and its messages have in common. */
export interface Stream {
  readonly isolate: string;
  nextSeq: number;
  /** Messages given up that no later message has told of yet. */
  droppedCount: number;
  readonly workerVersion: string;
}

export function newStream(workerVersion: string): Stream {
  return { isolate: randomId(22), nextSeq: 0, droppedCount: 0, workerVersion };
}

/** Parts of a JSON list, and the number under which each is known. */
class Dictionary<Key> {
  readonly parts: string[] = [];
  readonly #numbers = new Map<Key, number>();

  numberOf(key: Key, text: () => string): [number: number, bytes: number] {
    const known = this.#numbers.get(key);
    if (known !== undefined) return [known, 0];
    const part = text();
    this.#numbers.set(key, this.parts.length);
    return [this.parts.push(part) - 1, utf8Bytes(part) + 1];
  }
}

/** An upper bound of the bytes that a text takes. */
function utf8Bytes(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) bytes += 2;
  return bytes;
}

let lastStamp = 0;

/** A message while it is being filled; all its rows were decided by one plan. */
export class OpenMessage {
  /** By this mark an outcome knows that it already stands in this message. */
  readonly stamp = ++lastStamp;
  readonly clients = new Dictionary<Client>();
  readonly origins = new Dictionary<string>();
  readonly outcomes: string[] = [];
  readonly units: string[] = [];
  readonly resolveIds: string[] = [];
  readonly resolveTimes: number[] = [];
  readonly resolveOrigins: number[] = [];
  /** Columns as JSON texts, a comma before each number: V8 joins them for next to nothing. */
  #exposureResolves = "";
  #exposureOutcomes = "";
  #exposureUnits = "";
  #exposureTimes = "";
  exposureCount = 0;
  #passedExposures = "";
  #passedOutcomes = "";
  #passedUnits = "";
  #passedCount = 0;
  /** Per client number: counts by outcome position. */
  readonly #counts: Uint32Array[] = [];
  readonly schemas = new Map<string, [client: number, signature: string]>();
  bytes = ENVELOPE_BYTES;
  resolveCount = 0;
  errorCount = 0;
  latencySum = 0;
  latencyCount = 0;
  readonly latencies = new Map<number, number>();
  readonly #assigned = new Map<string, number>();
  #lastOrigin: Origin | null = null;
  #lastClient = -1;
  #lastNumber = -1;

  constructor(readonly plan: Plan) {}

  get isEmpty(): boolean {
    return this.resolveCount + this.errorCount + this.resolveIds.length === 0;
  }

  clientNumber(client: Client): number {
    const [number, bytes] = this.clients.numberOf(client, () =>
      JSON.stringify({ client: client.name, client_credential: client.credential }),
    );
    if (bytes > 0) {
      this.bytes += bytes + this.outcomes.length * COUNT_BYTES;
      this.#counts.push(new Uint32Array(Math.max(256, 2 * this.outcomes.length)));
    }
    return number;
  }

  originNumber(client: number, origin: Origin): number {
    const last = this.#lastOrigin;
    if (last !== null && client === this.#lastClient && isSameOrigin(last, origin)) return this.#lastNumber;
    const key = JSON.stringify([client, origin]);
    const [number, bytes] = this.origins.numberOf(key, () =>
      JSON.stringify({
        client,
        source: origin.source,
        sdk: origin.sdk,
        sdk_version: origin.sdkVersion,
        country: origin.country,
        is_bot: origin.isBot,
      }),
    );
    this.bytes += bytes;
    this.#lastOrigin = origin;
    this.#lastClient = client;
    this.#lastNumber = number;
    return number;
  }

  outcomeNumber(outcome: Outcome): number {
    if (outcome.logStamp === this.stamp) return outcome.logPosition;
    outcome.logText ??= outcomeJson(outcome);
    outcome.logStamp = this.stamp;
    outcome.logPosition = this.#pushOutcome(outcome.logText);
    outcome.logColumnText = `,${outcome.logPosition}`;
    return outcome.logPosition;
  }

  #pushOutcome(text: string): number {
    this.bytes += utf8Bytes(text) + 1 + this.#counts.length * COUNT_BYTES;
    return this.outcomes.push(text) - 1;
  }

  /** As outcomeNumber, for an outcome that an opened token spells out. */
  assignedNumber(text: string): number {
    let number = this.#assigned.get(text);
    if (number === undefined) {
      number = this.#pushOutcome(text);
      this.#assigned.set(text, number);
    }
    return number;
  }

  /** A client's counts by outcome position, with room for every outcome that the message holds. */
  countsOf(client: number): Uint32Array {
    let counts = this.#counts[client] as Uint32Array;
    if (counts.length < this.outcomes.length) {
      const larger = new Uint32Array(2 * this.outcomes.length);
      larger.set(counts);
      this.#counts[client] = counts = larger;
    }
    return counts;
  }

  addUnit(unit: string): number {
    const text = JSON.stringify(unit);
    this.bytes += utf8Bytes(text) + 1;
    return this.units.push(text) - 1;
  }

  /** Add `count` exposures of one resolve; the texts hold a number and a comma before it for each. */
  addExposures(resolve: number, count: number, outcomes: string, units: string): void {
    this.#exposureResolves += `,${resolve}`.repeat(count);
    this.#exposureOutcomes += outcomes;
    this.#exposureUnits += units;
    this.exposureCount += count;
    this.bytes += count * EXPOSURE_BYTES;
  }

  /** Add an exposure that was applied at a time of its own; its row number. All or none of a message's have one. */
  addTimedExposure(resolve: number, outcome: number, unit: number, atMs: number): number {
    this.addExposures(resolve, 1, `,${outcome}`, `,${unit}`);
    this.#exposureTimes += `,${atMs}`;
    this.bytes += TIME_BYTES;
    return this.exposureCount - 1;
  }

  /** Add a rule that an exposure passed through; `outcome` is its number with a comma before it. */
  addFallthrough(exposure: number, outcome: string, unit: number): void {
    this.#passedExposures += `,${exposure}`;
    this.#passedOutcomes += outcome;
    this.#passedUnits += `,${unit}`;
    this.#passedCount += 1;
    this.bytes += EXPOSURE_BYTES;
  }

  addSchema(client: number, signature: string): void {
    const key = `${client} ${signature}`;
    if (this.schemas.has(key) || this.schemas.size >= SCHEMAS_MAX) return;
    const bytes = 4 * utf8Bytes(signature) + 200;
    if (this.bytes + bytes > MESSAGE_MAX_BYTES / 2) return;
    this.schemas.set(key, [client, signature]);
    this.bytes += bytes;
  }

  addLatency(micros: number): void {
    const bucket = latencyBucket(micros);
    this.latencySum += micros;
    this.latencyCount += 1;
    this.latencies.set(bucket, (this.latencies.get(bucket) ?? 0) + 1);
  }

  close(stream: Stream, nowMs: number): string {
    const countRows = this.#countRows();
    const rowCount = this.resolveIds.length + this.exposureCount + this.#passedCount + countRows.counts.length;
    const times = this.#exposureTimes === "" ? "" : `,"applied_at_ms":[${this.#exposureTimes.slice(1)}]`;
    const schemas = [...this.schemas.values()].map(([client, signature]): { client: number } & ContextSchema => ({
      client,
      ...schemaOf(signature),
    }));
    const droppedCount = stream.droppedCount;
    stream.droppedCount = 0;
    return (
      `{"format":"${LOG_FORMAT}","isolate":"${stream.isolate}","seq":${stream.nextSeq++},"sent_at_ms":${nowMs},` +
      `"state_etag":${JSON.stringify(this.plan.etag)},"worker_version":${JSON.stringify(stream.workerVersion)},` +
      `"row_count":${rowCount},"dropped_count":${droppedCount},` +
      `"clients":[${this.clients.parts.join()}],"origins":[${this.origins.parts.join()}],` +
      `"units":[${this.units.join()}],"outcomes":[${this.outcomes.join()}],` +
      `"resolves":{"id":[${this.resolveIds.join()}],"at_ms":[${this.resolveTimes.join()}],"origin":[${this.resolveOrigins.join()}]},` +
      `"exposures":{"resolve":[${this.#exposureResolves.slice(1)}],"outcome":[${this.#exposureOutcomes.slice(1)}],` +
      `"unit":[${this.#exposureUnits.slice(1)}]${times}},` +
      `"fallthroughs":{"exposure":[${this.#passedExposures.slice(1)}],"outcome":[${this.#passedOutcomes.slice(1)}],` +
      `"unit":[${this.#passedUnits.slice(1)}]},` +
      `"counts":{"client":[${countRows.clients.join()}],"outcome":[${countRows.outcomes.join()}],"count":[${countRows.counts.join()}]},` +
      `"schemas":${JSON.stringify(schemas)},"telemetry":${this.#telemetry()}}`
    );
  }

  #countRows(): { clients: number[]; outcomes: number[]; counts: number[] } {
    const rows = { clients: [] as number[], outcomes: [] as number[], counts: [] as number[] };
    for (const [client, counts] of this.#counts.entries()) {
      for (const [outcome, count] of counts.entries()) {
        if (count === 0) continue;
        rows.clients.push(client);
        rows.outcomes.push(outcome);
        rows.counts.push(count);
      }
    }
    return rows;
  }

  #telemetry(): string {
    return JSON.stringify({
      resolve_count: this.resolveCount,
      error_count: this.errorCount,
      latency: { sum_us: this.latencySum, count: this.latencyCount, buckets: Object.fromEntries(this.latencies) },
    });
  }
}

export function outcomeJson(outcome: Outcome): string {
  const { flag, rule, kind, reason, variantName } = outcome;
  if (rule === null) return JSON.stringify({ flag: flag.name, kind, reason });
  return JSON.stringify({
    flag: flag.name,
    kind,
    reason: reason || undefined,
    rule: rule.name,
    segment: rule.segment.name,
    variant: variantName || undefined,
    assignment_id: outcome.assignmentId || undefined,
    targeting_key_selector: rule.selector,
  });
}

/** An outcome as an opened token spells it out. */
export function assignedJson(flag: AssignedFlag): string {
  const reason = REASONS[flag.reason] ?? "UNSPECIFIED";
  const isMatch = flag.variant !== "" || reason === "MATCH";
  return JSON.stringify({
    flag: flag.flag,
    kind: isMatch ? "match" : "no_match",
    reason,
    rule: flag.rule || undefined,
    segment: flag.segment || undefined,
    variant: flag.variant || undefined,
    assignment_id: flag.assignmentId || undefined,
    targeting_key_selector: isMatch ? flag.selector : undefined,
  });
}

/** A rule that was passed through, as an opened token spells it out. */
export function assignedFallthroughJson(flag: string, passed: AssignedFallthrough): string {
  return JSON.stringify({
    flag,
    kind: "fallthrough",
    rule: passed.rule,
    assignment_id: passed.assignmentId || undefined,
    targeting_key_selector: passed.selector,
  });
}
