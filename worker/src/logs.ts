/**
 * Flag logs: the rows of many requests go into the open message; those that do not fit, into the next.
 * @module
 */
import { shouldApply } from "./answer";
import {
  assignedFallthroughJson,
  assignedJson,
  MESSAGE_MAX_BYTES,
  NUMBER_BYTES,
  OpenMessage,
  type Origin,
  outcomeJson,
  RESOLVE_BYTES,
  type Stream,
} from "./message";
import type { Client, Outcome, Plan } from "./plan";
import { NO_UNIT, type Passed, type Resolution } from "./resolve";
import type { AssignedFlag } from "./token_body";

/** Where rows go until they are sent. */
export interface LogSink {
  readonly contentType: "text" | "json";
  addResolve(plan: Plan, resolve: LoggedResolve, resolution: Resolution): void;
  addApplied(plan: Plan, apply: LoggedApply): void;
  addError(plan: Plan, nowMs: number): void;
  /** Take all messages, unfinished ones included. */
  takeMessages(nowMs: number): string[];
}

/** Flags that were applied with a token. */
export interface LoggedApply {
  readonly client: Client;
  readonly origin: Origin;
  readonly resolveId: string;
  readonly atMs: number;
  readonly flags: readonly { readonly assigned: AssignedFlag; readonly appliedAtMs: number }[];
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
export class LogBook implements LogSink {
  readonly contentType = "text";
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
      this.#addExposure(message, row, i, resolution, resolve.atMs);
    }
    if (row < 0 && resolve.applies && resolution.count === 0) this.#beginRow(message, client, resolve);
  }

  /** Add flags that a token applied. */
  addApplied(plan: Plan, apply: LoggedApply): void {
    let message = this.#messageFor(plan, apply.atMs);
    let row = -1;
    for (const { assigned, appliedAtMs } of apply.flags) {
      const texts = [assignedJson(assigned), ...assigned.fallthroughs.map((each) => assignedFallthroughJson(assigned.flag, each))];
      const units = [assigned.targetingKey, ...assigned.fallthroughs.map((each) => each.targetingKey)];
      const bytes = texts.concat(units).reduce((sum, text) => sum + 6 * text.length + 4 * NUMBER_BYTES, RESOLVE_BYTES + 1000);
      if (message.bytes + bytes > MESSAGE_MAX_BYTES) {
        this.#close(apply.atMs);
        message = this.#messageFor(plan, apply.atMs);
        row = -1;
      }
      if (row < 0) row = this.#beginRow(message, message.clientNumber(apply.client), apply);
      const [outcome = 0, ...passed] = texts.map((text) => message.assignedNumber(text));
      const [unit = -1, ...passedUnits] = units.map((text, i) => (i === 0 && assigned.rule === "" ? -1 : message.addUnit(text)));
      const exposure = message.addExposure(row, outcome, unit, appliedAtMs);
      message.hasOwnTimes = true;
      for (const [i, through] of passed.entries()) message.addFallthrough(exposure, through, passedUnits[i] ?? -1);
    }
    if (row < 0) this.#beginRow(message, message.clientNumber(apply.client), apply);
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

  #beginRow(message: OpenMessage, client: number, { origin, resolveId, atMs }: LoggedResolve | LoggedApply): number {
    this.#unitNumbers.length = 0;
    message.bytes += RESOLVE_BYTES;
    message.resolveOrigins.push(message.originNumber(client, origin));
    message.resolveTimes.push(atMs);
    return message.resolveIds.push(`"${resolveId}"`) - 1;
  }

  #addExposure(message: OpenMessage, row: number, i: number, resolution: Resolution, atMs: number): void {
    const outcome = message.outcomeNumber(resolution.outcomes[i] as Outcome);
    const unit = this.#unitNumber(message, resolution.slots[i] as number, resolution);
    const exposure = message.addExposure(row, outcome, unit, atMs);
    for (const { outcome: through, slot } of resolution.passed[i] ?? []) {
      message.addFallthrough(exposure, message.outcomeNumber(through), this.#unitNumber(message, slot, resolution));
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
