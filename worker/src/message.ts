/**
 * One flag-log message while it is being filled: dictionaries, columns, and a bound on its bytes.
 * Source: docs/log-format.md.
 * @module
 */
import { asciiJson } from "./ascii";
import { AssignedNames } from "./assigned";
import { type ContextSchema, schemaOf } from "./context_schema";
import { Dictionary, NUMBER_BYTES, OutcomeDictionary, type OutcomeNames } from "./dictionary";
import { randomId } from "./ids";
import { latencyBucket } from "./latency";
import type { Client, Outcome, Plan } from "./plan";

export const LOG_FORMAT = "flagedge/1";
/** A queue takes 128,000 bytes, of which about 100 are its own. */
export const MESSAGE_MAX_BYTES = 127_000;
/** The envelope and its keys, telemetry included. */
const ENVELOPE_BYTES = 1_500;
export const RESOLVE_BYTES = 60;
export const EXPOSURE_BYTES = 3 * NUMBER_BYTES;
const COUNT_BYTES = 3 * NUMBER_BYTES + 6;
const TIME_BYTES = 14;
const SCHEMAS_MAX = 100;
/** A path stands twice in a schema with its types; a character takes three bytes at most. */
const SCHEMA_FACTOR = 6;

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

let lastStamp = 0;

/** A message while it is being filled; all its rows were decided by one plan. */
export class OpenMessage {
  /** By this mark an outcome knows that it already stands in this message. */
  readonly stamp = ++lastStamp;
  readonly #clients = new Dictionary<Client>();
  readonly #origins = new Dictionary<string>();
  readonly #outcomes = new OutcomeDictionary();
  /** Columns as JSON texts, a comma before each element: V8 joins them for next to nothing. */
  #units = "";
  #unitCount = 0;
  #resolveIds = "";
  #resolveTimes = "";
  #resolveOrigins = "";
  #rowCount = 0;
  #exposureResolves = "";
  #exposureOutcomes = "";
  #exposureUnits = "";
  #exposureTimes = "";
  exposureCount = 0;
  #passedExposures = "";
  #passedOutcomes = "";
  #passedUnits = "";
  #passedCount = 0;
  readonly #assigned = new Map<OutcomeNames, number>();
  /** Per client number: counts by outcome position. */
  readonly #counts: Uint32Array[] = [];
  readonly #schemas = new Map<string, [client: number, signature: string]>();
  #lastSchema: string | null = null;
  #bytes = ENVELOPE_BYTES;
  resolveCount = 0;
  errorCount = 0;
  #latencySum = 0;
  #latencyCount = 0;
  readonly #latencies = new Map<number, number>();
  #lastOrigin: Origin | null = null;
  #lastClient = -1;
  #lastNumber = -1;
  readonly assignedNames = new AssignedNames();

  constructor(readonly plan: Plan) {}

  get isEmpty(): boolean {
    return this.resolveCount + this.errorCount + this.#rowCount === 0;
  }

  /** An upper bound of the message's size. */
  get bytes(): number {
    return this.#bytes + this.#outcomes.bytes;
  }

  clientNumber(client: Client): number {
    const known = this.#clients.find(client);
    if (known !== undefined) return known;
    const text = `{"client":${asciiJson(client.name)},"client_credential":${asciiJson(client.credential)}}`;
    this.#bytes += text.length + 1 + this.#outcomes.count * COUNT_BYTES;
    this.#counts.push(new Uint32Array(Math.max(256, 2 * this.#outcomes.count)));
    return this.#clients.add(client, text);
  }

  /** Begin a request's rows; the number of its resolve. */
  addResolve(client: number, origin: Origin, resolveId: string, atMs: number): number {
    this.#resolveIds += `,"${resolveId}"`;
    this.#resolveTimes += "," + atMs;
    this.#resolveOrigins += "," + this.#originNumber(client, origin);
    this.#bytes += RESOLVE_BYTES;
    return this.#rowCount++;
  }

  #originNumber(client: number, origin: Origin): number {
    const last = this.#lastOrigin;
    if (last !== null && client === this.#lastClient && isSameOrigin(last, origin)) return this.#lastNumber;
    this.#lastOrigin = origin;
    this.#lastClient = client;
    const text =
      `{"client":${client},"source":"${origin.source}","sdk":${asciiJson(origin.sdk)},"sdk_version":${asciiJson(origin.sdkVersion)},` +
      `"country":${asciiJson(origin.country)},"is_bot":${origin.isBot}}`;
    let number = this.#origins.find(text);
    if (number === undefined) {
      this.#bytes += text.length + 1;
      number = this.#origins.add(text, text);
    }
    return (this.#lastNumber = number);
  }

  /** Enter an outcome, unless it is known. */
  addOutcome(outcome: Outcome): void {
    if (outcome.logStamp === this.stamp) return;
    outcome.logStamp = this.stamp;
    outcome.logPosition = this.#addNames(outcome.logNames);
    outcome.logColumnText = "," + outcome.logPosition;
  }

  /** The number of an outcome that an opened token spells out; equal names are the same object. */
  assignedNumber(names: OutcomeNames): number {
    let number = this.#assigned.get(names);
    if (number === undefined) {
      number = this.#addNames(names);
      this.#assigned.set(names, number);
    }
    return number;
  }

  #addNames(names: OutcomeNames): number {
    this.#bytes += this.#counts.length * COUNT_BYTES;
    return this.#outcomes.add(names);
  }

  /** A client's counts by outcome position, with room for every outcome that the message holds. */
  countsOf(client: number): Uint32Array {
    let counts = this.#counts[client] as Uint32Array;
    if (counts.length < this.#outcomes.count) {
      const larger = new Uint32Array(2 * this.#outcomes.count);
      larger.set(counts);
      this.#counts[client] = counts = larger;
    }
    return counts;
  }

  addUnit(unit: string): number {
    const text = asciiJson(unit);
    this.#units += "," + text;
    this.#bytes += text.length + 1;
    return this.#unitCount++;
  }

  /** Add `count` exposures of one resolve; the texts hold a number and a comma before it for each. */
  addExposures(resolve: number, count: number, outcomes: string, units: string): void {
    this.#exposureResolves += `,${resolve}`.repeat(count);
    this.#exposureOutcomes += outcomes;
    this.#exposureUnits += units;
    this.exposureCount += count;
    this.#bytes += count * EXPOSURE_BYTES;
  }

  /** Add an exposure that was applied at a time of its own; its row number. All or none of a message's have one. */
  addTimedExposure(resolve: number, outcome: string, unit: number, atMs: number): number {
    this.addExposures(resolve, 1, outcome, `,${unit}`);
    this.#exposureTimes += `,${atMs}`;
    this.#bytes += TIME_BYTES;
    return this.exposureCount - 1;
  }

  /** Add a rule that an exposure passed through; `outcome` is its number with a comma before it. */
  addFallthrough(exposure: number, outcome: string, unit: number): void {
    this.#passedExposures += `,${exposure}`;
    this.#passedOutcomes += outcome;
    this.#passedUnits += `,${unit}`;
    this.#passedCount += 1;
    this.#bytes += EXPOSURE_BYTES;
  }

  /** Note the schema of a context, as a signature; most requests have the one of the request before. */
  addSchema(client: number, signature: string): void {
    if (signature === this.#lastSchema && this.#counts.length === 1) return;
    this.#lastSchema = signature;
    const key = `${client} ${signature}`;
    if (this.#schemas.has(key) || this.#schemas.size >= SCHEMAS_MAX) return;
    const bytes = SCHEMA_FACTOR * signature.length + 200;
    if (this.bytes + bytes > MESSAGE_MAX_BYTES / 2) return;
    this.#schemas.set(key, [client, signature]);
    this.#bytes += bytes;
  }

  addLatency(micros: number): void {
    const bucket = latencyBucket(micros);
    this.#latencySum += micros;
    this.#latencyCount += 1;
    this.#latencies.set(bucket, (this.#latencies.get(bucket) ?? 0) + 1);
  }

  close(stream: Stream, nowMs: number): string {
    const countRows = this.#countRows();
    const rowCount = this.#rowCount + this.exposureCount + this.#passedCount + countRows.counts.length;
    const times = this.#exposureTimes === "" ? "" : `,"applied_at_ms":[${this.#exposureTimes.slice(1)}]`;
    const schemas = [...this.#schemas.values()].map(([client, signature]): { client: number } & ContextSchema => ({
      client,
      ...schemaOf(signature),
    }));
    const droppedCount = stream.droppedCount;
    stream.droppedCount = 0;
    return (
      `{"format":"${LOG_FORMAT}","isolate":"${stream.isolate}","seq":${stream.nextSeq++},"sent_at_ms":${nowMs},` +
      `"state_etag":${JSON.stringify(this.plan.etag)},"worker_version":${JSON.stringify(stream.workerVersion)},` +
      `"row_count":${rowCount},"dropped_count":${droppedCount},` +
      `"clients":[${this.#clients.text}],"origins":[${this.#origins.text}],"units":[${this.#units.slice(1)}],${this.#outcomes.toJson()},` +
      `"resolves":{"id":[${this.#resolveIds.slice(1)}],"at_ms":[${this.#resolveTimes.slice(1)}],` +
      `"origin":[${this.#resolveOrigins.slice(1)}]},` +
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
      latency: { sum_us: this.#latencySum, count: this.#latencyCount, buckets: Object.fromEntries(this.#latencies) },
    });
  }
}
