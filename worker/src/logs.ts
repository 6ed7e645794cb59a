/**
 * Flag logs: the rows of many requests go into the open message; those that do not fit, into the next.
 * @module
 */
import { shouldApply } from "./answer";
import { bytesOf, NUMBER_BYTES, type OutcomeNames } from "./dictionary";
import { COUNT_BYTES, EXPOSURE_BYTES, MESSAGE_MAX_BYTES, OpenMessage, type Origin, RESOLVE_BYTES, type Stream } from "./message";
import type { Client, Outcome, Plan } from "./plan";
import { NO_UNIT, type Passed, type Resolution } from "./resolve";
import type { AssignedFallthrough, AssignedFlag } from "./token_body";

/** The most that a request adds besides its flags: its row, its units, its schema. */
const REQUEST_BYTES = RESOLVE_BYTES + 1_000;
const ASSIGNED_BYTES = 12 * NUMBER_BYTES;

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
  readonly latencyMicros: number;
}

/** The open messages of an isolate, and those that are full and wait to be sent. */
export class LogBook implements LogSink {
  readonly contentType = "text";
  readonly #stream: Stream;
  /** Resolves and applied tokens do not share a message: exposures of the latter have times of their own. */
  #resolves: OpenMessage | null = null;
  #applies: OpenMessage | null = null;
  #full: string[] = [];
  /** This request's unit numbers in the open message, by slot. */
  readonly #unitNumbers: number[] = [];

  constructor(stream: Stream) {
    this.#stream = stream;
  }

  takeMessages(nowMs: number): string[] {
    this.#closeResolves(nowMs);
    this.#closeApplies(nowMs);
    const messages = this.#full;
    this.#full = [];
    return messages;
  }

  /** Add a resolved request. Rows that do not fit go to the next message. */
  addResolve(plan: Plan, resolve: LoggedResolve, resolution: Resolution): void {
    const { count, passedCount, outcomes, slots } = resolution;
    let message = this.#messageFor(plan, resolve.atMs);
    // Rows of outcomes that the message knows have room if all of them have; only new outcomes are weighed one by one.
    const rowBytes = (count + passedCount) * EXPOSURE_BYTES + REQUEST_BYTES + unitBytes(resolution);
    if (message.bytes + rowBytes > MESSAGE_MAX_BYTES) message = this.#nextMessage(plan, resolve.atMs);
    let client = message.clientNumber(resolve.client);
    message.resolveCount += 1;
    message.addLatency(resolve.latencyMicros);
    if (resolution.shape !== null) message.addSchema(client, resolution.shape);
    this.#unitNumbers.length = 0;
    let row = resolve.applies && count === 0 ? this.#beginRow(message, client, resolve) : -1;
    let counts = message.countsOf(client);
    for (let i = 0; i < count; i++) {
      const outcome = outcomes[i] as Outcome;
      const passed = resolution.passed[i] as readonly Passed[] | null;
      if (outcome.logStamp !== message.stamp || (passed !== null && !areKnown(passed, message.stamp))) {
        if (message.bytes + rowBytes + this.#bytesOf(message, outcome, passed) > MESSAGE_MAX_BYTES) {
          message = this.#nextMessage(plan, resolve.atMs);
          client = message.clientNumber(resolve.client);
          this.#unitNumbers.length = 0;
          row = -1;
        }
        message.addOutcome(outcome);
        for (const through of passed ?? []) message.addOutcome(through.outcome);
        counts = message.countsOf(client);
      }
      if (passed !== null) for (let j = 0; j < passed.length; j++) this.#increment(counts, (passed[j] as Passed).outcome);
      this.#increment(counts, outcome);
      if (!resolve.applies || !shouldApply(outcome, passed !== null)) continue;
      if (row < 0) row = this.#beginRow(message, client, resolve);
      const exposure = message.addExposure(row, outcome.logPosition, this.#unitNumber(message, slots[i] as number, resolution));
      if (passed === null) continue;
      for (const through of passed) {
        message.addFallthrough(exposure, through.outcome.logPosition, this.#unitNumber(message, through.slot, resolution));
      }
    }
  }

  #increment(counts: Uint32Array, { logPosition }: Outcome): void {
    counts[logPosition] = (counts[logPosition] as number) + 1;
  }

  #unitNumber(message: OpenMessage, slot: number, resolution: Resolution): number {
    if (slot === NO_UNIT) return -1;
    return this.#unitNumbers[slot] ?? (this.#unitNumbers[slot] = message.addUnit(resolution.units[slot] as string));
  }

  /** Add flags that a token applied. */
  addApplied(plan: Plan, apply: LoggedApply): void {
    let message = this.#appliesFor(plan, apply.atMs);
    let row = -1;
    for (const { assigned, appliedAtMs } of apply.flags) {
      const bytes = assignedBytes(assigned);
      if (message.bytes + bytes > MESSAGE_MAX_BYTES) {
        this.#closeApplies(apply.atMs);
        message = this.#appliesFor(plan, apply.atMs);
        row = -1;
      }
      if (row < 0) row = this.#beginRow(message, message.clientNumber(apply.client), apply);
      const numberOf = (names: OutcomeNames) => message.assignedNumber(names);
      const unit = assigned.rule === "" ? -1 : message.addUnit(assigned.targetingKey);
      const exposure = message.addTimedExposure(row, numberOf(message.assignedNames.ofFlag(assigned)), unit, appliedAtMs);
      for (const through of assigned.fallthroughs) {
        const names = message.assignedNames.ofFallthrough(assigned.flag, through);
        message.addFallthrough(exposure, numberOf(names), message.addUnit(through.targetingKey));
      }
    }
    if (row < 0) this.#beginRow(message, message.clientNumber(apply.client), apply);
  }

  /** Count a request that failed. */
  addError(plan: Plan, nowMs: number): void {
    this.#messageFor(plan, nowMs).errorCount += 1;
  }

  #messageFor(plan: Plan, nowMs: number): OpenMessage {
    if (this.#resolves !== null && this.#resolves.plan !== plan) this.#closeResolves(nowMs);
    return (this.#resolves ??= new OpenMessage(plan));
  }

  #nextMessage(plan: Plan, nowMs: number): OpenMessage {
    this.#closeResolves(nowMs);
    return this.#messageFor(plan, nowMs);
  }

  #appliesFor(plan: Plan, nowMs: number): OpenMessage {
    if (this.#applies !== null && this.#applies.plan !== plan) this.#closeApplies(nowMs);
    return (this.#applies ??= new OpenMessage(plan));
  }

  #closeResolves(nowMs: number): void {
    this.#close(this.#resolves, nowMs);
    this.#resolves = null;
  }

  #closeApplies(nowMs: number): void {
    this.#close(this.#applies, nowMs);
    this.#applies = null;
  }

  #close(message: OpenMessage | null, nowMs: number): void {
    if (message !== null && !message.isEmpty) this.#full.push(message.close(this.#stream, nowMs));
  }

  #beginRow(message: OpenMessage, client: number, { origin, resolveId, atMs }: LoggedResolve | LoggedApply): number {
    return message.addResolve(client, origin, resolveId, atMs);
  }

  /** An upper bound of what one flag's rows add. */
  #bytesOf(message: OpenMessage, outcome: Outcome, passed: readonly Passed[] | null): number {
    const countBytes = message.clientCount * COUNT_BYTES;
    let bytes = bytesOf(outcome.logNames) + countBytes;
    for (const through of passed ?? []) bytes += bytesOf(through.outcome.logNames) + countBytes;
    return bytes;
  }
}

/** An upper bound of what a token's flag adds: six bytes a character, and some for numbers and punctuation. */
function assignedBytes(assigned: AssignedFlag): number {
  let bytes = REQUEST_BYTES + 6 * (textLength(assigned) + assigned.segment.length + assigned.variant.length);
  for (const through of assigned.fallthroughs) bytes += 6 * textLength(through) + ASSIGNED_BYTES;
  return bytes;
}

function textLength(assigned: AssignedFlag | AssignedFallthrough): number {
  const { rule, assignmentId, targetingKey, selector } = assigned;
  return ("flag" in assigned ? assigned.flag.length : 0) + rule.length + assignmentId.length + targetingKey.length + selector.length;
}

/** The most that a request's units cost. */
function unitBytes({ units }: Resolution): number {
  let bytes = 0;
  for (let i = 0; i < units.length; i++) bytes += 6 * (units[i] as string).length + 3;
  return bytes;
}

function areKnown(passed: readonly Passed[], stamp: number): boolean {
  for (let i = 0; i < passed.length; i++) if ((passed[i] as Passed).outcome.logStamp !== stamp) return false;
  return true;
}
