/**
 * Flag logs: the rows of many requests, dictionary-coded into messages of bounded size.
 * Source: docs/log-format.md.
 * @module
 */
import { type ContextSchema, schemaOf } from "./context_schema";
import { randomId } from "./ids";
import type { Client, Outcome, Plan } from "./plan";
import { NO_UNIT, type Passed, type Resolution } from "./resolve";
import { shouldApply } from "./answer";

export const LOG_FORMAT = "flagedge/1";
/** A queue takes 128,000 bytes, of which about 100 are its own. */
const MESSAGE_MAX_BYTES = 127_000;
/** The envelope and its keys, telemetry included. */
const ENVELOPE_BYTES = 1_500;
/** The most that a number costs in a column, comma included. */
const NUMBER_BYTES = 7;
const RESOLVE_BYTES = 60;
const SCHEMAS_MAX = 100;
const LATENCY_RATIO = Math.LN10 / 18;
const LATENCY_BUCKETS = 174;

/** Where a request came from. */
export interface Origin {
  readonly source: "api" | "apply" | "ofrep" | "binding" | "page";
  readonly sdk: string;
  readonly sdkVersion: string;
  readonly country: string;
  readonly isBot: boolean;
}

/** What an isolate and its messages have in common. */
export interface Stream {
  readonly isolate: string;
  nextSeq: number;
  /** Messages given up since the last one that was delivered. */
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
class OpenMessage {
  /** By this mark an outcome knows that it already stands in this message. */
  readonly stamp = ++lastStamp;
  readonly clients = new Dictionary<Client>();
  readonly origins = new Dictionary<string>();
  readonly outcomes: string[] = [];
  readonly units: string[] = [];
  readonly resolveIds: string[] = [];
  readonly resolveTimes: number[] = [];
  readonly resolveOrigins: number[] = [];
  readonly exposureResolves: number[] = [];
  readonly exposureOutcomes: number[] = [];
  readonly exposureUnits: number[] = [];
  readonly passedExposures: number[] = [];
  readonly passedOutcomes: number[] = [];
  readonly passedUnits: number[] = [];
  /** Per client number: counts by outcome position. */
  readonly counts: (number | undefined)[][] = [];
  readonly schemas = new Map<string, [client: number, signature: string]>();
  bytes = ENVELOPE_BYTES;
  resolveCount = 0;
  errorCount = 0;
  latencySum = 0;
  latencyCount = 0;
  readonly latencies = new Map<number, number>();

  constructor(readonly plan: Plan) {}

  get isEmpty(): boolean {
    return this.resolveCount + this.errorCount + this.resolveIds.length === 0;
  }

  clientNumber(client: Client): number {
    const [number, bytes] = this.clients.numberOf(client, () =>
      JSON.stringify({ client: client.name, client_credential: client.credential }),
    );
    this.bytes += bytes;
    this.counts[number] ??= [];
    return number;
  }

  originNumber(client: number, origin: Origin): number {
    const key = `${client} ${origin.source} ${origin.sdk} ${origin.sdkVersion} ${origin.country} ${origin.isBot}`;
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
    return number;
  }

  outcomeNumber(outcome: Outcome): number {
    if (outcome.logStamp === this.stamp) return outcome.logPosition;
    outcome.logText ??= outcomeJson(outcome);
    outcome.logStamp = this.stamp;
    outcome.logPosition = this.outcomes.push(outcome.logText) - 1;
    this.bytes += utf8Bytes(outcome.logText) + 1;
    return outcome.logPosition;
  }

  count(client: number, outcome: Outcome): void {
    const counts = this.counts[client] as (number | undefined)[];
    const position = this.outcomeNumber(outcome);
    const count = counts[position];
    if (count === undefined) this.bytes += 3 * NUMBER_BYTES;
    counts[position] = (count ?? 0) + 1;
  }

  addUnit(unit: string): number {
    const text = JSON.stringify(unit);
    this.bytes += utf8Bytes(text) + 1;
    return this.units.push(text) - 1;
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
    const bucket = micros <= 0 ? 0 : Math.min(LATENCY_BUCKETS - 1, Math.max(0, Math.floor(Math.log(micros) / LATENCY_RATIO)));
    this.latencySum += micros;
    this.latencyCount += 1;
    this.latencies.set(bucket, (this.latencies.get(bucket) ?? 0) + 1);
  }

  close(stream: Stream, nowMs: number): string {
    const countRows = this.#countRows();
    const rowCount =
      this.resolveIds.length + this.exposureResolves.length + this.passedExposures.length + countRows.counts.length;
    const schemas = [...this.schemas.values()].map(([client, signature]): { client: number } & ContextSchema => ({
      client,
      ...schemaOf(signature),
    }));
    return (
      `{"format":"${LOG_FORMAT}","isolate":"${stream.isolate}","seq":${stream.nextSeq++},"sent_at_ms":${nowMs},` +
      `"state_etag":${JSON.stringify(this.plan.etag)},"worker_version":${JSON.stringify(stream.workerVersion)},` +
      `"row_count":${rowCount},"dropped_count":${stream.droppedCount},` +
      `"clients":[${this.clients.parts.join()}],"origins":[${this.origins.parts.join()}],` +
      `"units":[${this.units.join()}],"outcomes":[${this.outcomes.join()}],` +
      `"resolves":{"id":[${this.resolveIds.join()}],"at_ms":[${this.resolveTimes.join()}],"origin":[${this.resolveOrigins.join()}]},` +
      `"exposures":{"resolve":[${this.exposureResolves.join()}],"outcome":[${this.exposureOutcomes.join()}],"unit":[${this.exposureUnits.join()}]},` +
      `"fallthroughs":{"exposure":[${this.passedExposures.join()}],"outcome":[${this.passedOutcomes.join()}],"unit":[${this.passedUnits.join()}]},` +
      `"counts":{"client":[${countRows.clients.join()}],"outcome":[${countRows.outcomes.join()}],"count":[${countRows.counts.join()}]},` +
      `"schemas":${JSON.stringify(schemas)},"telemetry":${this.#telemetry()}}`
    );
  }

  #countRows(): { clients: number[]; outcomes: number[]; counts: number[] } {
    const rows = { clients: [] as number[], outcomes: [] as number[], counts: [] as number[] };
    for (const [client, counts] of this.counts.entries()) {
      for (const [outcome, count] of counts.entries()) {
        if (count === undefined) continue;
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

function outcomeJson(outcome: Outcome): string {
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

/** One request to be logged. */
export interface LoggedResolve {
  readonly client: Client;
  readonly origin: Origin;
  readonly resolveId: string;
  readonly atMs: number;
  /** Whether its assignments are exposures. */
  readonly applies: boolean;
  readonly schemaSignature: string;
  readonly latencyMicros: number;
}

/** The open message of an isolate, and those that are full and wait to be sent. */
export class LogBook {
  readonly #stream: Stream;
  #open: OpenMessage | null = null;
  #full: string[] = [];
  /** This request's unit numbers, by slot. */
  readonly #unitNumbers: number[] = [];

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  /** Take all messages, the open one included. */
  takeMessages(nowMs: number): string[] {
    this.#close(nowMs);
    const messages = this.#full;
    this.#full = [];
    return messages;
  }

  /** Add a resolved request. Rows that do not fit go to the next message. */
  addResolve(plan: Plan, resolve: LoggedResolve, resolution: Resolution): void {
    let message = this.#messageFor(plan, resolve.atMs);
    let client = message.clientNumber(resolve.client);
    message.resolveCount += 1;
    message.addLatency(resolve.latencyMicros);
    message.addSchema(client, resolve.schemaSignature);
    let row = -1;
    for (let i = 0; i < resolution.count; i++) {
      const outcome = resolution.outcomes[i] as Outcome;
      const passed = resolution.passed[i] as readonly Passed[] | null;
      if (message.bytes + this.#bytesOf(outcome, passed, resolution) > MESSAGE_MAX_BYTES) {
        this.#close(resolve.atMs);
        message = this.#messageFor(plan, resolve.atMs);
        client = message.clientNumber(resolve.client);
        row = -1;
      }
      message.count(client, outcome);
      if (passed !== null) for (const { outcome: through } of passed) message.count(client, through);
      if (!resolve.applies || !shouldApply(outcome, passed !== null)) continue;
      if (row < 0) row = this.#beginRow(message, client, resolve);
      this.#addExposure(message, row, i, resolution);
    }
    if (row < 0 && resolve.applies && resolution.count === 0) this.#beginRow(message, client, resolve);
  }

  /** Count a request that failed. */
  addError(plan: Plan, nowMs: number): void {
    this.#messageFor(plan, nowMs).errorCount += 1;
  }

  #messageFor(plan: Plan, nowMs: number): OpenMessage {
    if (this.#open !== null && this.#open.plan !== plan) this.#close(nowMs);
    return (this.#open ??= new OpenMessage(plan));
  }

  #close(nowMs: number): void {
    if (this.#open !== null && !this.#open.isEmpty) this.#full.push(this.#open.close(this.#stream, nowMs));
    this.#open = null;
  }

  #beginRow(message: OpenMessage, client: number, { origin, resolveId, atMs }: LoggedResolve): number {
    this.#unitNumbers.length = 0;
    message.bytes += RESOLVE_BYTES;
    message.resolveOrigins.push(message.originNumber(client, origin));
    message.resolveTimes.push(atMs);
    return message.resolveIds.push(`"${resolveId}"`) - 1;
  }

  #addExposure(message: OpenMessage, row: number, i: number, resolution: Resolution): void {
    message.exposureOutcomes.push(message.outcomeNumber(resolution.outcomes[i] as Outcome));
    message.exposureUnits.push(this.#unitNumber(message, resolution.slots[i] as number, resolution));
    const exposure = message.exposureResolves.push(row) - 1;
    message.bytes += 3 * NUMBER_BYTES;
    const passed = resolution.passed[i];
    if (!passed) return;
    for (const { outcome, slot } of passed) {
      message.passedExposures.push(exposure);
      message.passedOutcomes.push(message.outcomeNumber(outcome));
      message.passedUnits.push(this.#unitNumber(message, slot, resolution));
      message.bytes += 3 * NUMBER_BYTES;
    }
  }

  #unitNumber(message: OpenMessage, slot: number, resolution: Resolution): number {
    if (slot === NO_UNIT) return -1;
    return (this.#unitNumbers[slot] ??= message.addUnit(resolution.units[slot] as string));
  }

  /** An upper bound of what one flag's rows add. */
  #bytesOf(outcome: Outcome, passed: readonly Passed[] | null, resolution: Resolution): number {
    let bytes = RESOLVE_BYTES + 1000 + 6 * NUMBER_BYTES + (outcome.logText ??= outcomeJson(outcome)).length * 3;
    for (const unit of resolution.units) bytes += 6 * unit.length;
    for (const through of passed ?? []) {
      bytes += 6 * NUMBER_BYTES + (through.outcome.logText ??= outcomeJson(through.outcome)).length * 3;
    }
    return bytes;
  }
}
