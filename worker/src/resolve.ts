/**
 * Resolving: which outcome each flag of a client has for a context. Synchronous, pure but for its scratch
 * memory, and total: an error is the outcome of its flag. Knows the plan and nothing of where it came from.
 *
 * Whatever several rules ask is answered once per request: attributes, criteria, segments (per unit), hashes.
 * Memory is not cleared between requests; what was written is marked with the request's number.
 * @module
 */
import { type Context, ContextReader, type Shape } from "./context";
import { Truth } from "./criteria";
import { type BloomJson, type Expression, type FlagView, type Outcome, type Plan, Op, type Rule, type Segment } from "./plan";
import { UnitHasher, unitText } from "./units";

/** A flag outcome has no unit. */
export const NO_UNIT = -1;
const INVALID_UNIT = -2;
/** Marks are `request << 3 | truth`: at 2^28 requests they begin anew. */
const REQUESTS_MAX = 2 ** 28;

/** A rule that a flag passed through. */
export interface Passed {
  readonly outcome: Outcome;
  readonly slot: number;
}

/** An assignment to remember. */
export interface MaterializationWrite {
  readonly unit: string;
  readonly materialization: string;
  readonly rule: string;
  readonly variant: string;
}

/** What the resolver knows of sticky assignments. */
export interface Materializations {
  /**
   * unsupported: none are bound. discovery: not read yet, wishes are noted, and what depends on them is void.
   * complete: what was wished for is known; a question that nobody wished to ask is noted as a wish.
   * failed: they could not be read, so whatever depends on them errs.
   */
  readonly mode: "unsupported" | "discovery" | "complete" | "failed";
  /** The variant recorded for a rule (may be ""), or undefined. */
  variantOf(unit: string, materialization: string, rule: string): string | undefined;
  /** Whether a unit is in a materialization, whatever the rule. */
  includes(unit: string, materialization: string): boolean;
  /** Note that a record is needed; an empty rule asks for inclusion. */
  wish(unit: string, materialization: string, rule: string): void;
}

/** The decisions of one request: flag i has `outcomes[i]`, for the unit of `slots[i]`, after `passed[i]`. */
export class Resolution {
  count = 0;
  /** How many rules were passed through, over all flags. */
  passedCount = 0;
  readonly outcomes: Outcome[] = [];
  readonly slots: number[] = [];
  readonly passed: (readonly Passed[] | null)[] = [];
  /** Units by slot. */
  readonly units: string[] = [];
  /** Of the context. */
  shape: Shape | null = null;
  writes: MaterializationWrite[] = [];
}

export class Resolver {
  readonly #plan: Plan;
  readonly #reader: ContextReader;
  readonly #hasher: UnitHasher;
  readonly #plainPrefix: number;
  /**
   * Per segment: where the hasher keeps the digest of `<id>|`; 0 not yet made, -1 the name has no id. Not the plan's, which
   * other resolvers share: each has a memory of its own.
   */
  readonly #records: Int32Array;
  readonly #attributes: unknown[];
  readonly #criterionMarks: Int32Array;
  /** Per slot + 1, per segment; made when a slot is first used. */
  readonly #segmentMarks: Int32Array[] = [];
  /** Per attribute: the request that formatted it as a unit, and the slot (or NO_UNIT, INVALID_UNIT). */
  readonly #unitMarks: Int32Array;
  readonly #unitSlots: Int32Array;
  readonly #resolution = new Resolution();
  #request = 0;
  #materializations: Materializations = UNSUPPORTED;

  constructor(plan: Plan) {
    this.#plan = plan;
    this.#reader = new ContextReader(plan.attributes);
    this.#hasher = new UnitHasher(plan.unitSalt, plan.attributes.length, plan.segments.length + 1);
    this.#plainPrefix = this.#hasher.prepare("");
    this.#records = new Int32Array(plan.segments.length);
    this.#attributes = new Array<unknown>(plan.attributes.length);
    this.#criterionMarks = new Int32Array(plan.criterionCount);
    this.#unitMarks = new Int32Array(plan.attributes.length);
    this.#unitSlots = new Int32Array(plan.attributes.length);
  }

  /**
   * Decide the flags of `views` for a context.
   * The result is scratch memory: it holds until the next call. Throws ContextError for a context that is not sound.
   */
  resolve(views: readonly FlagView[], context: Context, materializations: Materializations): Resolution {
    this.#request = (this.#request + 1) % REQUESTS_MAX;
    if (this.#request === 0) this.#forgetMarks();
    this.#materializations = materializations;
    const resolution = this.#resolution;
    resolution.shape = this.#reader.read(context, this.#attributes);
    resolution.count = 0;
    resolution.passedCount = 0;
    resolution.units.length = 0;
    if (resolution.writes.length > 0) resolution.writes = [];
    for (let i = 0; i < views.length; i++) this.#resolveFlag(views[i] as FlagView);
    return resolution;
  }

  #forgetMarks(): void {
    this.#request = 1;
    this.#criterionMarks.fill(0);
    this.#unitMarks.fill(0);
    for (const marks of this.#segmentMarks) marks.fill(0);
  }

  #settle(outcome: Outcome, slot: number, passed: readonly Passed[] | null): void {
    const resolution = this.#resolution;
    const i = resolution.count++;
    resolution.outcomes[i] = outcome;
    resolution.slots[i] = slot;
    resolution.passed[i] = passed;
    if (passed !== null) resolution.passedCount += passed.length;
  }

  /** End a flag with an error: what it passed through and what it would have written do not count. */
  #fail(outcome: Outcome, written: number): void {
    this.#resolution.writes.length = written;
    this.#settle(outcome, NO_UNIT, null);
  }

  #resolveFlag({ flag, rules }: FlagView): void {
    let passed: Passed[] | null = null;
    let isMissing = false;
    const written = this.#resolution.writes.length;
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i] as Rule;
      let slot = this.#unitSlot(rule.selectorAttribute);
      if (slot === INVALID_UNIT) {
        if (!rule.isBlankSelector || !rule.isFull) {
          return this.#settle(flag.failed("TARGETING_KEY_ERROR"), NO_UNIT, passed);
        }
        slot = NO_UNIT;
      } else if (slot === NO_UNIT && !rule.isBlankSelector) continue;
      if (!rule.hasAssignments) continue;

      let truth = Truth.False;
      if (rule.materialization !== null && rule.materialization.read !== "") {
        if (slot === NO_UNIT) continue;
        const sticky = this.#readMaterialization(rule, slot);
        if (typeof sticky === "object") {
          return sticky.kind === "match" ? this.#settle(sticky, slot, passed) : this.#fail(sticky, written);
        }
        if (sticky === Truth.Unrecognized) continue;
        if (sticky === Truth.Unknown) isMissing = true;
        else truth = sticky;
      }
      if (truth === Truth.False) truth = this.#matchSegment(rule.segment, slot, null);
      if (truth === Truth.False || truth === Truth.Unrecognized) continue;
      if (truth === Truth.Unknown) {
        isMissing = true;
        continue;
      }
      if (truth === Truth.Failed) return this.#fail(flag.failed("ERROR"), written);
      if (truth === Truth.Unsupported) return this.#fail(flag.failed("MATERIALIZATION_NOT_SUPPORTED"), written);
      // A later rule must not win before it is known whether this one does.
      if (isMissing) continue;

      const outcome = this.#assign(rule, slot);
      if (outcome === null || outcome.kind === "unset") continue;
      if (outcome.kind === "no_match") return this.#fail(outcome, written);
      const writes = rule.materialization !== null && rule.materialization.write !== "" && slot !== NO_UNIT;
      if (writes && this.#materializations.mode === "unsupported") {
        return this.#fail(flag.failed("MATERIALIZATION_NOT_SUPPORTED"), written);
      }
      if (outcome.kind === "missing") return this.#fail(flag.failed("ERROR"), written);
      if (writes) this.#write(rule, slot, outcome.variantName);
      if (outcome.kind === "match") return this.#settle(outcome, slot, passed);
      (passed ??= []).push({ outcome, slot });
    }
    this.#settle(flag.noMatch, NO_UNIT, passed);
  }

  // Units

  #unitSlot(attribute: number): number {
    if (this.#unitMarks[attribute] === this.#request) return this.#unitSlots[attribute] as number;
    this.#unitMarks[attribute] = this.#request;
    return (this.#unitSlots[attribute] = this.#placeUnit(unitText(this.#attributes[attribute])));
  }

  #placeUnit(unit: string | null | undefined): number {
    if (unit === null) return NO_UNIT;
    const units = this.#resolution.units;
    if (unit === undefined || !this.#hasher.place(units.length, unit)) return INVALID_UNIT;
    return units.push(unit) - 1;
  }

  // Assignment

  /** The outcome that a matched rule has for a unit; null for none. */
  #assign(rule: Rule, slot: number): Outcome | null {
    if (rule.isFull) return rule.outcome(0);
    if (slot === NO_UNIT) return null;
    const record = this.#recordOf(rule.segment);
    if (record < 0 || rule.bucketCount <= 0) return rule.flag.failed("ERROR");
    const bucket = this.#hasher.bucket(record, slot, rule.bucketCount);
    const owner = ownerOf(rule, bucket);
    return owner < 0 ? null : rule.outcome(owner);
  }

  /** All rules on one segment share their bucketing: the prefix is the segment's id. */
  #recordOf(segment: Segment): number {
    const known = this.#records[segment.number] as number;
    if (known !== 0) return known;
    const id = segment.name.split("/")[1];
    return (this.#records[segment.number] = id === undefined ? -1 : this.#hasher.prepare(`${id}|`));
  }

  // Materializations

  /** A sticky outcome; or whether the rule matches so far; Unknown when records have to be read first. */
  #readMaterialization(rule: Rule, slot: number): Outcome | Truth {
    const known = this.#materializations;
    const spec = rule.materialization as NonNullable<Rule["materialization"]>;
    if (known.mode === "unsupported") return rule.flag.failed("MATERIALIZATION_NOT_SUPPORTED");
    if (known.mode === "failed") return rule.flag.failed("ERROR");
    const unit = this.#resolution.units[slot] as string;
    if (known.mode === "discovery") {
      known.wish(unit, spec.read, rule.name);
      return Truth.Unknown;
    }
    const variant = known.variantOf(unit, spec.read, rule.name);
    if (variant === undefined) return spec.must_match ? Truth.Unrecognized : Truth.False;
    const truth = spec.ignore_targeting ? Truth.True : this.#evaluate(this.#plan.expressionOf(rule.segment), slot, new Set());
    if (truth === Truth.Failed) return rule.flag.failed("ERROR");
    if (truth !== Truth.True) return truth;
    const outcome = this.#stickyOutcome(rule, slot, variant);
    if (outcome === null) return Truth.True;
    return outcome.kind === "missing" ? rule.flag.failed("ERROR") : outcome;
  }

  #stickyOutcome(rule: Rule, slot: number, variant: string): Outcome | null {
    const same = (outcome: Outcome) => (outcome.variant >= 0 || outcome.kind === "missing") && outcome.variantName === variant;
    const outcomes = rule.outcomes.filter(same);
    if (outcomes.length <= 1) return outcomes[0] ?? null;
    const record = this.#recordOf(rule.segment);
    if (record < 0 || rule.bucketCount <= 0) return null;
    const bucket = this.#hasher.bucket(record, slot, rule.bucketCount);
    return outcomes.find((outcome) => rule.holds(outcome, bucket)) ?? null;
  }

  #write({ name, materialization }: Rule, slot: number, variant: string): void {
    const unit = this.#resolution.units[slot] as string;
    this.#resolution.writes.push({ unit, materialization: materialization?.write ?? "", rule: name, variant });
  }

  // Segments

  /** Whether a unit is in a segment. `visited` holds the segments on the way; null where none of them can return. */
  #matchSegment(segment: Segment, slot: number, visited: ReadonlySet<Segment> | null): Truth {
    if (segment.isCyclic) return this.#matchCyclic(segment, slot, visited ?? new Set());
    const marks = (this.#segmentMarks[slot + 1] ??= new Int32Array(this.#plan.segments.length));
    const mark = marks[segment.number] as number;
    if (mark >> 3 === this.#request) return mark & 7;
    const truth = this.#applyBits(segment, slot, this.#evaluate(this.#plan.expressionOf(segment), slot, null));
    marks[segment.number] = (this.#request << 3) | truth;
    return truth;
  }

  #matchCyclic(segment: Segment, slot: number, visited: ReadonlySet<Segment>): Truth {
    if (visited.has(segment)) return Truth.False;
    const truth = this.#evaluate(this.#plan.expressionOf(segment), slot, new Set(visited).add(segment));
    return this.#applyBits(segment, slot, truth);
  }

  #applyBits({ bits }: Segment, slot: number, truth: Truth): Truth {
    if (bits === null || (truth !== Truth.True && truth !== Truth.Unknown)) return truth;
    const isIn = slot === NO_UNIT ? bits.allSet : bits.has(this.#hasher.populationBucket(slot));
    return isIn ? truth : Truth.False;
  }

  #evaluate(expression: Expression, slot: number, visited: ReadonlySet<Segment> | null): Truth {
    switch (expression.op) {
      case Op.True:
        return Truth.True;
      case Op.False:
        return Truth.False;
      case Op.Attribute:
        return this.#testAttribute(expression);
      case Op.Segment:
        return this.#matchSegment(this.#plan.segments[expression.number] as Segment, slot, visited);
      case Op.Materialized:
        return this.#inMaterialized(expression.materialized, expression.bloom, slot);
      case Op.Not: {
        const truth = this.#evaluate(expression.operands[0] as Expression, slot, visited);
        return truth === Truth.True ? Truth.False : truth === Truth.False ? Truth.True : truth;
      }
      case Op.And:
        return this.#evaluateAll(expression.operands, slot, visited, Truth.False, Truth.True);
      case Op.Or:
        return this.#evaluateAll(expression.operands, slot, visited, Truth.True, Truth.False);
    }
  }

  /** And (`decisive` false) and or (`decisive` true): stop at the first decisive operand; unknown does not stop. */
  #evaluateAll(
    operands: readonly Expression[],
    slot: number,
    visited: ReadonlySet<Segment> | null,
    decisive: Truth,
    otherwise: Truth,
  ): Truth {
    let result = otherwise;
    for (let i = 0; i < operands.length; i++) {
      const truth = this.#evaluate(operands[i] as Expression, slot, visited);
      if (truth === decisive || truth > Truth.Unknown) return truth;
      if (truth === Truth.Unknown) result = Truth.Unknown;
    }
    return result;
  }

  #testAttribute({ number, criterionNumber, criterion }: Expression): Truth {
    const mark = this.#criterionMarks[criterionNumber] as number;
    if (mark >> 3 === this.#request) return mark & 7;
    const truth = (criterion as NonNullable<typeof criterion>)(this.#attributes[number]);
    this.#criterionMarks[criterionNumber] = (this.#request << 3) | truth;
    return truth;
  }

  #inMaterialized(name: string, bloom: BloomJson | null, slot: number): Truth {
    if (slot === NO_UNIT) return Truth.False;
    if (bloom !== null) return this.#inBloom(bloom, slot) ? Truth.True : Truth.False;
    const known = this.#materializations;
    if (known.mode === "unsupported") return Truth.Unsupported;
    if (known.mode === "failed") return Truth.Failed;
    const unit = this.#resolution.units[slot] as string;
    if (known.mode === "complete") return known.includes(unit, name) ? Truth.True : Truth.False;
    known.wish(unit, name, "");
    return Truth.Unknown;
  }

  /** Guava's MURMUR128_MITZ_64; its words of 64 bits are stored big-endian. */
  #inBloom([hashCount, bitCount, offset, length]: BloomJson, slot: number): boolean {
    const [low, high] = this.#hasher.words(this.#plainPrefix, slot);
    const whole = length - (length % 8);
    let combined = low;
    for (let i = 0; i < hashCount; i++) {
      const bit = Number((combined & 0x7fffffffffffffffn) % BigInt(bitCount));
      const byte = Math.floor(bit / 8);
      if (byte >= length) return false;
      const at = byte < whole ? byte - (byte % 8) + 7 - (byte % 8) : byte;
      if (((this.#plan.data[offset + at] as number) & (1 << (bit % 8))) === 0) return false;
      combined = BigInt.asIntN(64, combined + high);
    }
    return true;
  }
}

/** The assignment that owns a bucket, -1 for none. */
function ownerOf({ bounds, owners }: Rule, bucket: number): number {
  let low = 0;
  let high = bounds.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((bounds[middle] as number) <= bucket) low = middle + 1;
    else high = middle;
  }
  return owners[low - 1] ?? -1;
}

/** No sticky assignments are bound. */
export const UNSUPPORTED: Materializations = {
  mode: "unsupported",
  variantOf: () => undefined,
  includes: () => false,
  wish: () => undefined,
};
