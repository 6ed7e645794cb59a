/**
 * Attribute criteria: a context value, read as the kind that the rule compares with, put to the rule's test.
 * Pure and total: nothing throws, every result is a `Truth`.
 * @module
 */
import { compareText, numberText, parseNumber, parseTimestamp, parseVersion, timestampOfNumber, Timestamp, Version } from "./values";

/** The truth values of targeting; what lies above Unknown ends the evaluation of its rule or flag. */
export const enum Truth {
  False,
  True,
  /** Depends on a sticky assignment that has not been read yet. */
  Unknown,
  /** The rule is not understood: its flag rule is skipped. */
  Unrecognized,
  /** A context value could not be read as a number: the flag errs. */
  Failed,
  /** Needs sticky assignments, which are not bound: the flag errs. */
  Unsupported,
}

type Kind = "bool" | "number" | "string" | "timestamp" | "version" | "list" | "none";
export type OperandJson = readonly [Kind, unknown];
export interface TestJson {
  eq?: OperandJson;
  in?: OperandJson[];
  range?: [OperandJson | null, boolean, OperandJson | null, boolean];
  starts?: string;
  ends?: string;
  contains?: string;
}

/** A value of a rule or of a context, comparable: a missing one is the text "null", as upstream has it. */
type Comparable = boolean | number | string | Timestamp | Version | Comparable[];
/** Tests one comparable value. */
type Test = (value: Comparable) => boolean;

/** Decides for one context value (undefined when the attribute is missing). */
export type Criterion = (value: unknown) => Truth;

const NO_VALUE = "null";

/** Build the criterion for a test over a plain attribute, or over the elements of a list. */
export function buildCriterion(json: TestJson, over: "any" | "all" | undefined): Criterion {
  const text = textTest(json);
  if (text !== undefined) return textCriterion(text, over);
  if (json.eq === undefined && json.in === undefined && json.range === undefined) return unrecognized(over);
  if (json.eq?.[0] === "none" && over === undefined) return isNull;
  const kind = expectedKind(json);
  if (over !== undefined) return listCriterion(kind, comparableTest(json), over);
  if (kind === "string" && json.in !== undefined) return stringSetCriterion(json.in, json);
  if (kind === "string" && json.eq !== undefined) return stringSetCriterion([json.eq], json);
  return plainCriterion(kind, comparableTest(json));
}

function expectedKind(json: TestJson): Kind {
  if (json.eq !== undefined) return json.eq[0];
  if (json.in !== undefined) return json.in[0]?.[0] ?? "none";
  return json.range?.[0]?.[0] ?? json.range?.[2]?.[0] ?? "none";
}

function unrecognized(over: "any" | "all" | undefined): Criterion {
  if (over === undefined) return () => Truth.Unrecognized;
  return (value) => {
    if (value !== undefined && value !== null && !(Array.isArray(value) && value.length === 0)) return Truth.Unrecognized;
    return over === "all" ? Truth.True : Truth.False;
  };
}

function isNull(value: unknown): Truth {
  return truthOf(value === undefined || value === null || (Array.isArray(value) && value.includes(null)));
}

/** The commonest criterion, without detours for a plain string; what other values need is made for the first of them. */
function stringSetCriterion(operands: readonly OperandJson[], json: TestJson): Criterion {
  const texts = new Set(operands.filter((operand) => operand[0] === "string").map((operand) => operand[1]));
  let general: Criterion | null = null;
  return (value) => {
    if (typeof value === "string") return truthOf(texts.has(value));
    return (general ??= plainCriterion("string", comparableTest(json)))(value);
  };
}

function plainCriterion(kind: Kind, test: Test): Criterion {
  return (value) => {
    const comparable = read(value, kind);
    if (comparable === undefined) return Truth.Failed;
    return truthOf(Array.isArray(comparable) ? comparable.some(test) : test(comparable));
  };
}

function listCriterion(kind: Kind, test: Test, over: "any" | "all"): Criterion {
  return (value) => {
    if (value === undefined || value === null) return truthOf(over === "all");
    const comparable = read(value, kind);
    if (comparable === undefined) return Truth.Failed;
    const values = Array.isArray(comparable) ? comparable : [comparable];
    return truthOf(over === "any" ? values.some(test) : values.every(test));
  };
}

function textTest(json: TestJson): ((text: string) => boolean) | undefined {
  const { starts, ends, contains } = json;
  if (starts !== undefined) return (text) => text.startsWith(starts);
  if (ends !== undefined) return (text) => text.endsWith(ends);
  if (contains !== undefined) return (text) => text.includes(contains);
  return undefined;
}

/** Text rules look at strings only; nothing is converted for them. */
function textCriterion(test: (text: string) => boolean, over: "any" | "all" | undefined): Criterion {
  const testAny = (value: unknown) => typeof value === "string" && test(value);
  if (over === undefined) return (value) => truthOf(Array.isArray(value) ? value.some(testAny) : testAny(value));
  return (value) => {
    if (value === undefined || value === null) return truthOf(over === "all");
    const values: unknown[] = Array.isArray(value) ? value : [value];
    return truthOf(over === "any" ? values.some(testAny) : values.every(testAny));
  };
}

function truthOf(holds: boolean): Truth {
  return holds ? Truth.True : Truth.False;
}

/** A context value read as `kind`; undefined when text had to be a number and is not. */
function read(value: unknown, kind: Kind): Comparable | undefined {
  if (Array.isArray(value)) {
    const values: Comparable[] = [];
    for (const element of value) {
      const comparable = read(element, kind);
      if (comparable === undefined) return undefined;
      values.push(comparable);
    }
    return values;
  }
  if (typeof value === "string") return readString(value, kind);
  if (typeof value === "number") return readNumber(value, kind);
  return typeof value === "boolean" && kind === "bool" ? value : NO_VALUE;
}

function readString(value: string, kind: Kind): Comparable | undefined {
  switch (kind) {
    case "string":
      return value;
    case "number":
      return parseNumber(value);
    case "bool":
      return value === "true" || value === "TRUE";
    case "timestamp":
      return parseTimestamp(value) ?? NO_VALUE;
    case "version":
      return parseVersion(value);
    default:
      return NO_VALUE;
  }
}

function readNumber(value: number, kind: Kind): Comparable {
  switch (kind) {
    case "number":
      return value;
    case "string":
      return numberText(value);
    case "timestamp":
      return timestampOfNumber(value) ?? NO_VALUE;
    default:
      return NO_VALUE;
  }
}

function comparableTest(json: TestJson): Test {
  if (json.eq !== undefined) return equals(json.eq);
  if (json.in !== undefined) {
    const tests = json.in.map(equals);
    return (value) => tests.some((test) => test(value));
  }
  const [start, startIncluded, end, endIncluded] = json.range as NonNullable<TestJson["range"]>;
  if (start === null && end === null) return () => false;
  const isAbove = start === null ? () => true : bound(start, (order) => order > 0 || (startIncluded && order === 0));
  const isBelow = end === null ? () => true : bound(end, (order) => order < 0 || (endIncluded && order === 0));
  return (value) => isAbove(value) && isBelow(value);
}

function equals(operand: OperandJson): Test {
  const expected = operandValue(operand);
  if (expected === undefined) return () => false;
  return (value) => areEqual(value, expected);
}

function areEqual(left: Comparable, right: Comparable): boolean {
  if (left instanceof Timestamp) {
    return right instanceof Timestamp && left.seconds === right.seconds && left.nanos === right.nanos;
  }
  if (left instanceof Version) return right instanceof Version && left.text === right.text;
  if (Array.isArray(left)) {
    if (!Array.isArray(right) || left.length !== right.length) return false;
    return left.every((element, i) => areEqual(element, right[i] as Comparable));
  }
  return left === right;
}

/** Only numbers, strings, timestamps and versions have an order, each among its own; NaN is never in it. */
function bound(operand: OperandJson, holds: (order: number) => boolean): Test {
  const limit = operandValue(operand);
  if (typeof limit === "number") return (value) => typeof value === "number" && holds(difference(value, limit));
  if (typeof limit === "string") return (value) => typeof value === "string" && holds(compareText(value, limit));
  if (limit instanceof Timestamp) {
    return (value) => value instanceof Timestamp && holds(value.seconds - limit.seconds || value.nanos - limit.nanos);
  }
  if (limit instanceof Version) return (value) => value instanceof Version && holds(compareParts(value.parts, limit.parts));
  return () => false;
}

/** Like left - right, but equal infinities differ by 0. */
function difference(left: number, right: number): number {
  return left === right ? 0 : left - right;
}

function compareParts(left: readonly number[], right: readonly number[]): number {
  for (let i = 0; i < 4; i++) {
    const order = (left[i] ?? 0) - (right[i] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

/** A rule's operand as a comparable; undefined for one that equals nothing. */
function operandValue([kind, value]: OperandJson): Comparable | undefined {
  switch (kind) {
    case "timestamp": {
      const [seconds, nanos] = value as [number, number];
      return new Timestamp(seconds, nanos);
    }
    case "version": {
      const [text, parts] = value as [string, number[]];
      return new Version(text, parts);
    }
    case "list": {
      const elements = (value as OperandJson[]).map(operandValue);
      return elements.includes(undefined) ? undefined : (elements as Comparable[]);
    }
    case "number":
      return Number(value);
    case "none":
      return undefined;
    default:
      return value as boolean | string;
  }
}
