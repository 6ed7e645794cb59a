/**
 * One flag-log message while it is being filled: dictionaries, columns, and a bound on its bytes.
 * Source: docs/log-format.md.
 * @module
 */
import { asciiJson } from "./ascii";
import { AssignedNames } from "./assigned";
import { NumberColumn } from "./column";
import type { Shape } from "./context";
import { type ContextSchema, schemaOf } from "./context_schema";
import { Dictionary, NUMBER_BYTES, OutcomeDictionary, type OutcomeNames } from "./dictionary";
import { randomId } from "./ids";
import { LATENCY_BUCKETS, latencyBucket } from "./latency";
import type { Client, Outcome, Plan } from "./plan";

export const LOG_FORMAT = "flagedge/1";
/** A queue takes 128,000 bytes, of which about 100 are its own. */
export const MESSAGE_MAX_BYTES = 127_000;
/** The envelope and its keys, telemetry included. */
const ENVELOPE_BYTES = 1_500;
export const RESOLVE_BYTES = 60;
export const EXPOSURE_BYTES = 3 * NUMBER_BYTES;
/** The most that one count costs. */
export const COUNT_BYTES = 3 * NUMBER_BYTES + 6;
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

function digits(number: number): number {
  return number < 10 ? 1 : number < 100 ? 2 : number < 1000 ? 3 : number < 10_000 ? 4 : 9;
}

let lastStamp = 0;

/** A message while it is being filled; all its rows were decided by one plan. */
export class OpenMessage {
  /** By this mark an outcome knows that it already stands in this message. */
  readonly stamp = ++lastStamp;
  readonly #clients = new Dictionary<Client>();
  readonly #origins = new Dictionary<string>();
  readonly #outcomes = new OutcomeDictionary();
  /** Lists of texts, a comma before each: V8 joins them for next to nothing. */
  #units = "";
  #unitCount = 0;
  #resolveIds = "";
  readonly #resolveTimes = new NumberColumn();
  readonly #resolveOrigins = new NumberColumn();
  readonly #exposureResolves = new NumberColumn();
  readonly #exposureOutcomes = new NumberColumn();
  readonly #exposureUnits = new NumberColumn();
  readonly #exposureTimes = new NumberColumn();
  readonly #passedExposures = new NumberColumn();
  readonly #passedOutcomes = new NumberColumn();
  readonly #passedUnits = new NumberColumn();
  readonly #assigned = new Map<OutcomeNames, number>();
  /** Per client number: counts by outcome position. */
  readonly #counts: Uint32Array[] = [];
  readonly #schemas = new Map<string, [client: number, signature: string]>();
  #schemaBytes = 0;
  resolveCount = 0;
  errorCount = 0;
  #latencySum = 0;
  #latencyCount = 0;
  readonly #latencies = new Uint32Array(LATENCY_BUCKETS);
  #lastOrigin: Origin | null = null;
  #lastClient = -1;
  #lastNumber = -1;
  readonly assignedNames = new AssignedNames();

  constructor(readonly plan: Plan) {}

  get isEmpty(): boolean {
    return this.resolveCount + this.errorCount + this.#resolveTimes.count === 0;
  }

  /** An upper bound of the message's size. */
  get bytes(): number {
    return (
      ENVELOPE_BYTES + this.#clients.bytes + this.#origins.bytes + this.#units.length + this.#outcomes.bytes +
      this.#resolveIds.length + this.#resolveTimes.bytes + this.#resolveOrigins.bytes +
      this.#exposureResolves.bytes + this.#exposureOutcomes.bytes + this.#exposureUnits.bytes + this.#exposureTimes.bytes +
      this.#passedExposures.bytes + this.#passedOutcomes.bytes + this.#passedUnits.bytes +
      this.#countBytes + this.#schemaBytes
    );
  }

  /** An outcome is counted once per request at the most. */
  get #countBytes(): number {
    const pairs = this.clientCount * this.#outcomes.count;
    return pairs * (3 + digits(this.clientCount) + digits(this.#outcomes.count) + digits(this.resolveCount));
  }

  get clientCount(): number {
    return this.#counts.length;
  }

  clientNumber(client: Client): number {
    const known = this.#clients.find(client);
    if (known !== undefined) return known;
    const text = `{"client":${asciiJson(client.name)},"client_credential":${asciiJson(client.credential)}}`;
    this.#counts.push(new Uint32Array(Math.max(256, 2 * this.#outcomes.count)));
    return this.#clients.add(client, text);
  }

  /** Begin a request's rows; the number of its resolve. */
  addResolve(client: number, origin: Origin, resolveId: string, atMs: number): number {
    this.#resolveIds += ',"' + resolveId + '"';
    this.#resolveTimes.push(atMs);
    this.#resolveOrigins.push(this.#originNumber(client, origin));
    return this.#resolveTimes.count - 1;
  }

  #originNumber(client: number, origin: Origin): number {
    const last = this.#lastOrigin;
    if (last !== null && client === this.#lastClient && isSameOrigin(last, origin)) return this.#lastNumber;
    this.#lastOrigin = origin;
    this.#lastClient = client;
    const text =
      `{"client":${client},"source":"${origin.source}","sdk":${asciiJson(origin.sdk)},"sdk_version":${asciiJson(origin.sdkVersion)},` +
      `"country":${asciiJson(origin.country)},"is_bot":${origin.isBot}}`;
    const number = this.#origins.find(text) ?? this.#origins.add(text, text);
    return (this.#lastNumber = number);
  }

  /** Enter an outcome, unless it is known. */
  addOutcome(outcome: Outcome): void {
    if (outcome.logStamp === this.stamp) return;
    outcome.logStamp = this.stamp;
    outcome.logPosition = this.#outcomes.add(outcome.logNames);
  }

  /** The number of an outcome that an opened token spells out; equal names are the same object. */
  assignedNumber(names: OutcomeNames): number {
    let number = this.#assigned.get(names);
    if (number === undefined) {
      number = this.#outcomes.add(names);
      this.#assigned.set(names, number);
    }
    return number;
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
    this.#units += "," + asciiJson(unit);
    return this.#unitCount++;
  }

  /** Add an applied flag; its number. All or none of a message's have a time of their own. */
  addExposure(resolve: number, outcome: number, unit: number): number {
    this.#exposureResolves.push(resolve);
    this.#exposureOutcomes.push(outcome);
    this.#exposureUnits.push(unit);
    return this.#exposureResolves.count - 1;
  }

  addTimedExposure(resolve: number, outcome: number, unit: number, atMs: number): number {
    this.#exposureTimes.push(atMs);
    return this.addExposure(resolve, outcome, unit);
  }

  /** Add a rule that an exposure passed through. */
  addFallthrough(exposure: number, outcome: number, unit: number): void {
    this.#passedExposures.push(exposure);
    this.#passedOutcomes.push(outcome);
    this.#passedUnits.push(unit);
  }

  /** Note the schema of a context; nearly always it is known. */
  addSchema(client: number, shape: Shape): void {
    if (shape.logStamp === this.stamp && shape.logClient === client) return;
    shape.logStamp = this.stamp;
    shape.logClient = client;
    const { signature } = shape;
    const key = `${client} ${signature}`;
    if (this.#schemas.has(key) || this.#schemas.size >= SCHEMAS_MAX) return;
    const bytes = SCHEMA_FACTOR * signature.length + 200;
    if (this.bytes + bytes > MESSAGE_MAX_BYTES / 2) return;
    this.#schemas.set(key, [client, signature]);
    this.#schemaBytes += bytes;
  }

  addLatency(micros: number): void {
    const bucket = latencyBucket(micros);
    this.#latencySum += micros;
    this.#latencyCount += 1;
    this.#latencies[bucket] = (this.#latencies[bucket] as number) + 1;
  }

  close(stream: Stream, nowMs: number): string {
    const countRows = this.#countRows();
    const rowCount = this.#resolveTimes.count + this.#exposureUnits.count + this.#passedUnits.count + countRows.counts.count;
    const times = this.#exposureTimes.count === 0 ? "" : `,"applied_at_ms":[${this.#exposureTimes.text}]`;
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
      `"resolves":{"id":[${this.#resolveIds.slice(1)}],"at_ms":[${this.#resolveTimes.text}],"origin":[${this.#resolveOrigins.text}]},` +
      `"exposures":{"resolve":[${this.#exposureResolves.text}],"outcome":[${this.#exposureOutcomes.text}],` +
      `"unit":[${this.#exposureUnits.text}]${times}},` +
      `"fallthroughs":{"exposure":[${this.#passedExposures.text}],"outcome":[${this.#passedOutcomes.text}],` +
      `"unit":[${this.#passedUnits.text}]},` +
      `"counts":{"client":[${countRows.clients.text}],"outcome":[${countRows.outcomes.text}],"count":[${countRows.counts.text}]},` +
      `"schemas":${JSON.stringify(schemas)},"telemetry":${this.#telemetry()}}`
    );
  }

  #countRows(): { clients: NumberColumn; outcomes: NumberColumn; counts: NumberColumn } {
    const rows = { clients: new NumberColumn(), outcomes: new NumberColumn(), counts: new NumberColumn() };
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
    const buckets = Object.fromEntries([...this.#latencies.entries()].filter(([, count]) => count > 0));
    return JSON.stringify({
      resolve_count: this.resolveCount,
      error_count: this.errorCount,
      latency: { sum_us: this.#latencySum, count: this.#latencyCount, buckets },
    });
  }
}
