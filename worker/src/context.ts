/**
 * Reading a request's context in one walk over its own keys: are its values sound, which attributes of the plan does
 * it have, what is its shape.
 *
 * The walk follows a tree of shapes: the same keys with the same kinds of values, met in the same order, lead to the
 * same node, and what does not depend on the values (paths, attributes, the schema to log) was worked out when the
 * node was made.
 * @module
 */
import { type Kind, kindOfText, isCountryPath, LINES, NUMBER, BOOLEAN, STRUCT } from "./context_schema";

export type Context = Readonly<Record<string, unknown>>;

/** The context cannot be read; the message is for the caller. */
export class ContextError extends Error {}

/** How deep structs and lists may be nested. */
export const DEPTH_MAX = 126;
/** Beyond these, nodes are not kept: clients that make up keys would fill the memory. */
const NODES_MAX = 5000;

class AttributeNode {
  number = -1;
  readonly children = new Map<string, AttributeNode>();
}

/** Inside which struct a walk is. */
class Level {
  constructor(
    readonly prefix: string,
    /** The plan's attributes below here; null for none. */
    readonly attributes: AttributeNode | null,
    readonly outer: Level | null,
  ) {}
}

/** A key met in a shape. */
class Step {
  readonly path: string;
  readonly isCountry: boolean;
  readonly attribute: AttributeNode | null;
  readonly attributeNumber: number;
  readonly #next: (Shape | undefined)[] = [];

  constructor(
    readonly from: Shape,
    readonly key: string,
  ) {
    const { prefix, attributes } = from.level;
    this.path = prefix + key;
    this.isCountry = isCountryPath(this.path);
    this.attribute = attributes?.children.get(key) ?? null;
    this.attributeNumber = this.attribute?.number ?? -1;
  }

  to(kind: Kind): Shape {
    return (this.#next[kind] ??= this.#make(kind));
  }

  #make(kind: Kind): Shape {
    const { level } = this.from;
    const inner = kind === STRUCT ? new Level(`${this.path}.`, this.attribute, level) : level;
    return new Shape(this.from, kind === STRUCT ? "" : `${this.path}\t${LINES[kind]}\n`, inner);
  }
}

/** Where a walk stands. */
export class Shape {
  /** The message whose dictionary has this shape's schema, and for which client; kept by `message.ts`. */
  logStamp = 0;
  logClient = -1;
  #last: Step | null = null;
  readonly #steps = new Map<string, Step>();
  #closed: Shape | null = null;
  #signature: string | null = null;

  constructor(
    readonly from: Shape | null,
    readonly line: string,
    readonly level: Level,
  ) {}

  step(key: string, reader: ContextReader): Step {
    if (this.#last?.key === key) return this.#last;
    let step = this.#steps.get(key);
    if (step === undefined) {
      if (!key.isWellFormed()) throw new ContextError("a key of the context holds a lone surrogate");
      step = new Step(this, key);
      if (!reader.mayKeep()) return step;
      this.#steps.set(key, step);
    }
    return (this.#last = step);
  }

  /** Where a walk stands when it leaves the struct. */
  close(): Shape {
    return (this.#closed ??= new Shape(this, "", this.level.outer as Level));
  }

  /** The schema as `schemaOf` reads it. */
  get signature(): string {
    if (this.#signature === null) {
      let text = "";
      for (let shape: Shape | null = this; shape !== null; shape = shape.from) text = shape.line + text;
      this.#signature = text;
    }
    return this.#signature;
  }
}

/** Reads contexts for a plan's attributes. A key that holds a dot cannot be reached by a path. */
export class ContextReader {
  readonly #attributes = new AttributeNode();
  #root: Shape;
  #nodeCount = 0;

  constructor(paths: readonly (readonly string[])[]) {
    for (const [number, path] of paths.entries()) {
      let node = this.#attributes;
      for (const step of path) {
        let child = node.children.get(step);
        if (child === undefined) node.children.set(step, (child = new AttributeNode()));
        node = child;
      }
      node.number = number;
    }
    this.#root = this.#newRoot();
  }

  /**
   * Write each attribute's value to its number in `values`; those that are missing, or below what is no struct, become
   * undefined. The shape of the context. Throws ContextError.
   */
  read(context: Context, values: unknown[]): Shape {
    if (this.#nodeCount >= NODES_MAX) this.#root = this.#newRoot();
    values.fill(undefined);
    return this.#walk(context, this.#root, values, 1);
  }

  /** Whether another node may be kept. */
  mayKeep(): boolean {
    return this.#nodeCount++ < NODES_MAX;
  }

  #newRoot(): Shape {
    this.#nodeCount = 0;
    return new Shape(null, "", new Level("", this.#attributes, null));
  }

  #walk(struct: Context, start: Shape, values: unknown[], depth: number): Shape {
    if (depth > DEPTH_MAX) throw new ContextError("the context is nested too deeply");
    let shape = start;
    for (const key in struct) {
      const step = shape.step(key, this);
      const value = struct[key];
      if (step.attributeNumber >= 0) values[step.attributeNumber] = value;
      if (typeof value === "string") {
        if (!value.isWellFormed()) throw new ContextError("a text of the context holds a lone surrogate");
        shape = step.to(kindOfText(value, step.isCountry));
      } else if (typeof value === "number") {
        if (!Number.isFinite(value)) throw new ContextError("a number of the context is out of range");
        shape = step.to(NUMBER);
      } else if (typeof value === "boolean") shape = step.to(BOOLEAN);
      else if (Array.isArray(value)) {
        checkContext(value as unknown as Context, depth + 1);
        const kind = kindOfList(value, step.isCountry);
        if (kind !== null) shape = step.to(kind);
      } else if (value !== null) shape = this.#walk(value as Context, step.to(STRUCT), values, depth + 1).close();
    }
    return shape;
  }
}

/** A list of one kind counts as its first element; a mixed or empty one, or one of structs, as nothing. */
function kindOfList(list: readonly unknown[], isCountry: boolean): Kind | null {
  const kinds = new Set(list.filter((value) => value !== null).map((value) => (Array.isArray(value) ? "list" : typeof value)));
  const [first] = list;
  if (kinds.size !== 1 || first === null || isStruct(first)) return null;
  if (Array.isArray(first)) return kindOfList(first, isCountry);
  return typeof first === "string" ? kindOfText(first, isCountry) : typeof first === "number" ? NUMBER : BOOLEAN;
}

/** Throw ContextError unless a context holds finite numbers and well-formed text, and is not nested without end. */
export function checkContext(struct: Context, depth = 1): void {
  if (depth > DEPTH_MAX) throw new ContextError("the context is nested too deeply");
  for (const key in struct) {
    if (!key.isWellFormed()) throw new ContextError("a key of the context holds a lone surrogate");
    const value = struct[key];
    if (typeof value === "string") {
      if (!value.isWellFormed()) throw new ContextError("a text of the context holds a lone surrogate");
    } else if (typeof value === "number") {
      if (!Number.isFinite(value)) throw new ContextError("a number of the context is out of range");
    } else if (typeof value === "object" && value !== null) checkContext(value as Context, depth + 1);
  }
}

export function isStruct(value: unknown): value is Context {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `managed` laid over `context`: structs merge deeply, everything else of `managed` wins, null too. */
export function overlay(context: Context, managed: Context): Context {
  const merged: Record<string, unknown> = { __proto__: null, ...context };
  for (const [key, value] of Object.entries(managed)) {
    const below = Object.hasOwn(context, key) ? context[key] : undefined;
    merged[key] = isStruct(value) && isStruct(below) ? overlay(below, value) : value;
  }
  return merged;
}
