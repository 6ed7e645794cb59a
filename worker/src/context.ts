/**
 * Attributes of a request's context: one walk over the context's own keys fills every attribute that the plan
 * asks for. A step that is missing or not a struct leaves the attribute missing; a key that holds a dot cannot be reached.
 * @module
 */

export type Context = Readonly<Record<string, unknown>>;

class AttributeNode {
  number = -1;
  children: Map<string, AttributeNode> | null = null;
}

export class AttributeReader {
  readonly #root = new Map<string, AttributeNode>();

  constructor(paths: readonly (readonly string[])[]) {
    for (const [number, path] of paths.entries()) {
      let children = this.#root;
      let node: AttributeNode | undefined;
      for (const step of path) {
        if (node !== undefined) children = node.children ??= new Map<string, AttributeNode>();
        node = children.get(step);
        if (node === undefined) children.set(step, (node = new AttributeNode()));
      }
      if (node !== undefined) node.number = number;
    }
  }

  /** Write each attribute's value to its number in `values`; those that are missing become undefined. */
  read(context: Context, values: unknown[]): void {
    values.fill(undefined);
    readInto(context, this.#root, values);
  }
}

function readInto(struct: Context, nodes: Map<string, AttributeNode>, values: unknown[]): void {
  for (const key in struct) {
    const node = nodes.get(key);
    if (node === undefined) continue;
    const value = struct[key];
    if (node.number >= 0) values[node.number] = value;
    if (node.children !== null && isStruct(value)) readInto(value, node.children, values);
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
