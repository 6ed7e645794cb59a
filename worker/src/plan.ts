/**
 * The plan: what sync_job compiled from the state. Types of its JSON, and what the resolver makes of it at load.
 * Expressions, criteria and outcomes are built on first use, so that the first answer of a large plan is not late. Nothing
 * here is destructured on that way: in code that is not warm, the iterators of it are most of the garbage.
 * Source: docs/plan.md.
 * @module
 */
import { Bits, type BitsJson } from "./bits";
import { buildCriterion, type Criterion, type TestJson } from "./criteria";
import { type OutcomeNames, outcomeNames, type RuleNames, ruleNames } from "./dictionary";

export const PLAN_FORMAT = 1;

type ExpressionJson = boolean | number | ["!", ExpressionJson] | ["&" | "|", ...ExpressionJson[]];
export type BloomJson = readonly [hashCount: number, bitCount: number, offset: number, length: number];

interface CriterionJson extends TestJson {
  segment?: number;
  materialized?: string;
  bloom?: BloomJson;
  attribute?: number;
  over?: "any" | "all";
}

interface SegmentJson {
  name: string;
  expression: ExpressionJson;
  bits?: BitsJson;
  cyclic?: boolean;
}

/** Assignment id, and a variant's number or what there is instead; a missing variant with its name. */
type AssignmentJson = [string, number | "default" | "fallthrough" | "unset"] | [string, "missing", string];

interface RuleJson {
  name: string;
  segment: number;
  selector?: [string, number];
  bucket_count?: number;
  assignments?: AssignmentJson[];
  full?: boolean;
  bounds?: number[];
  owners?: number[];
  /** Per assignment lower, upper, lower, upper…; only for rules that read materializations. */
  ranges?: number[][];
  materialization?: MaterializationSpec;
}

export interface MaterializationSpec {
  write: string;
  read: string;
  must_match: boolean;
  ignore_targeting: boolean;
}

interface FlagJson {
  name: string;
  schema?: string;
  variants: [string, string | null][];
  rules: RuleJson[];
}

interface ClientJson {
  client: string;
  client_credential: string;
  secret_sha256: string;
  flags: (number | [number, number[]])[];
  managed_context?: Record<string, unknown>;
}

interface PlanJson {
  format: number;
  source: string;
  etag: string;
  account: string;
  unit_salt: string;
  clients: ClientJson[];
  flags: FlagJson[];
  segments: SegmentJson[];
  criteria: CriterionJson[];
  attributes: string[][];
}

/** How an expression node is evaluated. */
export const enum Op {
  True,
  False,
  Attribute,
  Segment,
  Materialized,
  Not,
  And,
  Or,
}

/** A node of a targeting expression; which fields mean something depends on `op`. */
export class Expression {
  constructor(
    readonly op: Op,
    readonly operands: readonly Expression[] = [],
    /** Attribute: its number. Segment: the segment's number. */
    readonly number = 0,
    /** Attribute: number of the criterion, by which its result is remembered. */
    readonly criterionNumber = 0,
    readonly criterion: Criterion | null = null,
    readonly materialized = "",
    readonly bloom: BloomJson | null = null,
  ) {}
}

export class Segment {
  expression: Expression | null = null;
  constructor(
    readonly number: number,
    readonly name: string,
    readonly bits: Bits | null,
    readonly isCyclic: boolean,
  ) {}
}

/** What can be decided for a flag: shared by all requests, so what others prepare from it is kept on it. */
export class Outcome {
  /** The prepared answer, without and with an exposure to apply; made on first use by `answer.ts`. */
  fragment: string | null = null;
  appliedFragment: string | null = null;
  /** The names in a log's dictionary, and the place in the message of that stamp; kept by `message.ts`. */
  #logNames: OutcomeNames | null = null;
  logStamp = 0;
  logPosition = 0;
  constructor(
    /** missing: a variant that the flag does not have, or whose value JSON cannot say. */
    readonly kind: "match" | "no_match" | "fallthrough" | "unset" | "missing",
    readonly reason: string,
    readonly flag: Flag,
    readonly rule: Rule | null,
    readonly assignmentId: string,
    /** Number of the flag's variant; -1 for none. */
    readonly variant: number,
    /** As a sticky record names it, also where the flag lacks it. */
    readonly variantName = "",
  ) {}

  get logNames(): OutcomeNames {
    const { flag, rule } = this;
    const reason = this.kind === "fallthrough" ? "FALLTHROUGH" : this.reason;
    return (this.#logNames ??= outcomeNames(flag.name, reason, rule?.logNames ?? null, this.variantName, this.assignmentId));
  }
}

export class Rule {
  readonly isFull: boolean;
  readonly bucketCount: number;
  readonly bounds: readonly number[];
  readonly owners: readonly number[];
  readonly hasAssignments: boolean;
  readonly isBlankSelector: boolean;
  /** As stored: empty when blank. */
  readonly selector: string;
  readonly selectorAttribute: number;
  readonly name: string;
  readonly materialization: MaterializationSpec | null;
  readonly #assignments: readonly AssignmentJson[];
  readonly #outcomes: (Outcome | undefined)[] = [];
  readonly #ranges: readonly (readonly number[])[];
  #logNames: RuleNames | null = null;
  constructor(
    json: RuleJson,
    readonly flag: Flag,
    readonly segment: Segment,
  ) {
    this.name = json.name;
    this.isFull = json.full === true;
    this.bucketCount = json.bucket_count ?? 0;
    this.bounds = json.bounds ?? [];
    this.owners = json.owners ?? [];
    this.isBlankSelector = json.selector === undefined;
    this.selector = json.selector?.[0] ?? "";
    this.selectorAttribute = json.selector?.[1] ?? TARGETING_KEY;
    this.materialization = json.materialization ?? null;
    this.#ranges = json.ranges ?? [];
    this.hasAssignments = json.assignments !== undefined;
    this.#assignments = json.assignments ?? [];
  }

  /** What an assignment decides. */
  outcome(assignment: number): Outcome {
    return (this.#outcomes[assignment] ??= outcomeOf(this.flag, this, at(this.#assignments, assignment)));
  }

  get outcomes(): readonly Outcome[] {
    return this.#assignments.map((_, number) => this.outcome(number));
  }

  get logNames(): RuleNames {
    return (this.#logNames ??= ruleNames(this.flag.name, this.name, this.segment.name, this.selector));
  }

  /** Whether one of the outcome's own ranges holds the bucket, whoever owns it. */
  holds(outcome: Outcome, bucket: number): boolean {
    const ranges = this.#ranges[this.outcomes.indexOf(outcome)] ?? [];
    for (let i = 0; i + 1 < ranges.length; i += 2) {
      if ((ranges[i] as number) <= bucket && bucket < (ranges[i + 1] as number)) return true;
    }
    return false;
  }
}

function outcomeOf(flag: Flag, rule: Rule, assignment: AssignmentJson): Outcome {
  const id = assignment[0];
  const what = assignment[1];
  if (what === "fallthrough") return new Outcome("fallthrough", "", flag, rule, id, -1);
  if (what === "default") return new Outcome("match", "MATCH", flag, rule, id, -1);
  if (what === "unset") return new Outcome("unset", "", flag, rule, id, -1);
  if (what === "missing") return new Outcome("missing", "", flag, rule, id, -1, assignment[2] ?? "");
  const variant = flag.variants[what];
  if (!variant || variant[1] === null) return new Outcome("missing", "", flag, rule, id, -1, variant?.[0] ?? "");
  return new Outcome("match", "MATCH", flag, rule, id, what, variant[0]);
}

export class Flag {
  readonly name: string;
  readonly schema: string | null;
  /** Name and value's JSON text of each variant. */
  readonly variants: readonly (readonly [string, string | null])[];
  readonly rules: readonly Rule[];
  #noMatch: Outcome | null = null;
  #failures: Map<string, Outcome> | null = null;
  constructor(json: FlagJson, segments: readonly Segment[]) {
    this.name = json.name;
    this.schema = json.schema ?? null;
    this.variants = json.variants;
    this.rules = json.rules.map((rule) => new Rule(rule, this, at(segments, rule.segment)));
  }

  get noMatch(): Outcome {
    return (this.#noMatch ??= new Outcome("no_match", "NO_SEGMENT_MATCH", this, null, "", -1));
  }

  /** The outcome of a flag that ends without a match, for any reason but NO_SEGMENT_MATCH. */
  failed(reason: string): Outcome {
    this.#failures ??= new Map();
    let outcome = this.#failures.get(reason);
    if (outcome === undefined) {
      outcome = new Outcome("no_match", reason, this, null, "", -1);
      this.#failures.set(reason, outcome);
    }
    return outcome;
  }
}

/** A flag as one credential sees it: with the rules of its environments. */
export class FlagView {
  constructor(
    readonly flag: Flag,
    readonly rules: readonly Rule[],
  ) {}
}

/** One credential of a client. */
export class Client {
  readonly name: string;
  readonly credential: string;
  readonly secretSha256: string;
  readonly managedContext: Record<string, unknown> | null;
  #views: FlagView[] | null = null;
  #byName: Map<string, FlagView> | null = null;
  constructor(
    readonly number: number,
    private readonly json: ClientJson,
    private readonly plan: Plan,
  ) {
    this.name = json.client;
    this.credential = json.client_credential;
    this.secretSha256 = json.secret_sha256;
    this.managedContext = json.managed_context ?? null;
  }

  get views(): readonly FlagView[] {
    this.#views ??= this.json.flags.map((entry) => {
      if (typeof entry === "number") return new FlagView(this.plan.flag(entry), this.plan.flag(entry).rules);
      const flag = this.plan.flag(entry[0]);
      return new FlagView(flag, entry[1].map((number) => at(flag.rules, number)));
    });
    return this.#views;
  }

  /** The views with these names, in the client's order, each once; all of them for no name. */
  viewsNamed(names: readonly string[]): readonly FlagView[] {
    if (names.length === 0) return this.views;
    this.#byName ??= new Map(this.views.map((view) => [view.flag.name, view]));
    const found = new Set<FlagView>();
    for (const name of names) {
      const view = this.#byName.get(name);
      if (view !== undefined) found.add(view);
    }
    return [...found];
  }
}

/** The attribute that a blank selector looks at; the compiler gives it the first number. */
const TARGETING_KEY = 0;

/** A plan of an unknown format, or none at all. */
class PlanError extends Error {}

export class Plan {
  readonly etag: string;
  readonly account: string;
  readonly unitSalt: string;
  readonly clients: readonly Client[];
  readonly segments: readonly Segment[];
  readonly attributes: readonly (readonly string[])[];
  readonly criterionCount: number;
  readonly flagCount: number;
  readonly #flags: (Flag | undefined)[] = [];
  readonly #criteria: (Expression | undefined)[] = [];
  readonly #json: PlanJson;
  constructor(
    json: PlanJson,
    readonly data: Uint8Array,
  ) {
    if (json?.format !== PLAN_FORMAT) throw new PlanError(`plan format ${json?.format} is not ${PLAN_FORMAT}`);
    this.#json = json;
    this.etag = json.etag;
    this.account = json.account;
    this.unitSalt = json.unit_salt;
    this.attributes = json.attributes;
    this.criterionCount = json.criteria.length;
    this.flagCount = json.flags.length;
    this.segments = json.segments.map((segment, number) => {
      const bits = segment.bits === undefined ? null : new Bits(segment.bits, data);
      return new Segment(number, segment.name, bits, segment.cyclic === true);
    });
    this.clients = json.clients.map((client, number) => new Client(number, client, this));
  }

  flag(number: number): Flag {
    return (this.#flags[number] ??= new Flag(at(this.#json.flags, number), this.segments));
  }

  /** The expression of a segment's targeting. */
  expressionOf(segment: Segment): Expression {
    return (segment.expression ??= this.#expression(at(this.#json.segments, segment.number).expression));
  }

  #expression(json: ExpressionJson): Expression {
    if (typeof json === "boolean") return new Expression(json ? Op.True : Op.False);
    if (typeof json === "number") return (this.#criteria[json] ??= this.#criterion(json));
    const op = json[0];
    const operands = (json.slice(1) as ExpressionJson[]).map((operand) => this.#expression(operand));
    if (op === "!") return new Expression(Op.Not, operands);
    if (operands.length === 1) return at(operands, 0);
    return new Expression(op === "&" ? Op.And : Op.Or, operands);
  }

  #criterion(number: number): Expression {
    const json = at(this.#json.criteria, number);
    if (json.segment !== undefined) return new Expression(Op.Segment, [], json.segment);
    if (json.materialized !== undefined) {
      return new Expression(Op.Materialized, [], 0, number, null, json.materialized, json.bloom ?? null);
    }
    return new Expression(Op.Attribute, [], json.attribute, number, buildCriterion(json, json.over));
  }
}

/** The element that the compiler promised to be there. */
export function at<T>(items: readonly T[], index: number): T {
  const item = items[index];
  if (item === undefined) throw new PlanError(`plan refers to entry ${index} of ${items.length}`);
  return item;
}

/** Read a plan. Throws PlanError (or SyntaxError) for what is not one of a known format. */
export function loadPlan(text: string, data: ArrayBuffer | Uint8Array): Plan {
  return new Plan(JSON.parse(text) as PlanJson, data instanceof Uint8Array ? data : new Uint8Array(data));
}
