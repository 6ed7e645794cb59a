/**
 * A variant's value in the text that typed clients expect: an int as `5`, a double as `5.0`, by the flag's schema; and
 * the fields of a struct, each by its path.
 * @module
 */
import { isStruct } from "./context";
import type { Flag, Outcome } from "./plan";

/** A flag schema as answers carry it: the JSON form of `StructFlagSchema` and of its fields. */
interface FieldSchema {
  structSchema?: { schema?: Record<string, FieldSchema> };
  listSchema?: { elementSchema?: FieldSchema };
  intSchema?: object;
  doubleSchema?: object;
}

const values = new WeakMap<Outcome, ReadonlyMap<string, string>>();

/** JSON texts of a matched variant's value ("") and of each field below it, by dotted path; null fields are left out. */
export function typedValues(outcome: Outcome): ReadonlyMap<string, string> {
  let texts = values.get(outcome);
  if (texts === undefined) {
    texts = new Map();
    const [, value] = outcome.flag.variants[outcome.variant] ?? [];
    if (value !== undefined && value !== null) write(JSON.parse(value), schemaOf(outcome.flag), "", texts as Map<string, string>);
    values.set(outcome, texts);
  }
  return texts;
}

/** Paths of all fields that a flag's values may have, by its schema. */
export function fieldPaths(flag: Flag): string[] {
  const paths: string[] = [];
  const add = ({ structSchema }: FieldSchema, prefix: string): void => {
    for (const [key, schema] of Object.entries(structSchema?.schema ?? {})) {
      paths.push(prefix + key);
      add(schema, `${prefix}${key}.`);
    }
  };
  add(schemaOf(flag), "");
  return paths;
}

function schemaOf({ schema }: Flag): FieldSchema {
  return { structSchema: schema === null ? {} : (JSON.parse(schema) as { schema?: Record<string, FieldSchema> }) };
}

/** The text of a value, which is entered under its path; a struct's fields are entered first. */
function write(value: unknown, schema: FieldSchema, path: string, texts: Map<string, string>): string {
  const text = isStruct(value) ? writeStruct(value, schema, path, texts) : writeScalar(value, schema);
  if (value !== null) texts.set(path, text);
  return text;
}

function writeStruct(struct: Readonly<Record<string, unknown>>, schema: FieldSchema, path: string, texts: Map<string, string>): string {
  const fields = schema.structSchema?.schema ?? {};
  const parts = Object.entries(struct).map(([key, value]) => {
    const below = path === "" ? key : `${path}.${key}`;
    return `${JSON.stringify(key)}:${write(value, fields[key] ?? {}, below, texts)}`;
  });
  return `{${parts.join()}}`;
}

function writeScalar(value: unknown, schema: FieldSchema): string {
  if (Array.isArray(value)) return `[${value.map((item) => write(item, schema.listSchema?.elementSchema ?? {}, "", new Map())).join()}]`;
  if (typeof value !== "number") return JSON.stringify(value);
  const text = Object.is(value, -0) ? "-0.0" : String(value);
  return schema.intSchema !== undefined || !Number.isInteger(value) || text.includes("e") || text.includes(".") ? text : `${text}.0`;
}
