/**
 * What an apply token holds, and its bytes: the protobuf message `ResolveToken` (proto/flagedge/wire/token.proto),
 * of which the Worker writes and reads these few fields.
 * @module
 */

export interface AssignedFallthrough {
  readonly rule: string;
  readonly assignmentId: string;
  readonly targetingKey: string;
  readonly selector: string;
}

/** A flag that may be applied. Texts are empty where there is nothing to say. */
export interface AssignedFlag {
  readonly flag: string;
  readonly targetingKey: string;
  readonly segment: string;
  readonly variant: string;
  readonly rule: string;
  /** Number of the `ResolveReason`. */
  readonly reason: number;
  readonly assignmentId: string;
  readonly selector: string;
  readonly fallthroughs: readonly AssignedFallthrough[];
}

export interface TokenBody {
  readonly resolveId: string;
  readonly assignments: ReadonlyMap<string, AssignedFlag>;
}

const utf8 = new TextEncoder();
const LENGTH_DELIMITED = 2;
const EMPTY = new Uint8Array(0);

/** Encode a body. The evaluation context is present and empty, as upstream has it. */
export function encodeTokenBody({ resolveId, assignments }: TokenBody): Uint8Array {
  const entries = [...assignments].map(([name, flag]) => delimited(2, join([text(1, name), delimited(2, encodeFlag(flag))])));
  return delimited(1, join([delimited(1, EMPTY), ...entries, text(3, resolveId)]));
}

function encodeFlag(flag: AssignedFlag): Uint8Array {
  return join([
    text(1, flag.flag),
    text(2, flag.targetingKey),
    text(3, flag.segment),
    text(4, flag.variant),
    text(5, flag.rule),
    flag.reason === 0 ? EMPTY : Uint8Array.of(6 << 3, flag.reason),
    text(8, flag.assignmentId),
    ...flag.fallthroughs.map((passed) =>
      delimited(9, join([text(1, passed.rule), text(2, passed.assignmentId), text(3, passed.targetingKey), text(4, passed.selector)])),
    ),
    text(10, flag.selector),
  ]);
}

function text(field: number, value: string): Uint8Array {
  return value === "" ? EMPTY : delimited(field, utf8.encode(value));
}

function delimited(field: number, value: Uint8Array): Uint8Array {
  return join([Uint8Array.of((field << 3) | LENGTH_DELIMITED), varint(value.length), value]);
}

function varint(value: number): Uint8Array {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return Uint8Array.from([...bytes, value]);
}

export function join(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Decode a body; null for bytes that are none. */
export function decodeTokenBody(bytes: Uint8Array): TokenBody | null {
  try {
    const token = fieldsOf(bytes).get(1)?.at(-1);
    if (!(token instanceof Uint8Array)) return null;
    const fields = fieldsOf(token);
    const assignments = new Map<string, AssignedFlag>();
    for (const entry of fields.get(2) ?? []) {
      const pair = fieldsOf(entry as Uint8Array);
      assignments.set(textOf(pair, 1), decodeFlag(fieldsOf((pair.get(2)?.at(-1) ?? EMPTY) as Uint8Array)));
    }
    return { resolveId: textOf(fields, 3), assignments };
  } catch {
    return null;
  }
}

type Fields = Map<number, (number | Uint8Array)[]>;

function decodeFlag(fields: Fields): AssignedFlag {
  return {
    flag: textOf(fields, 1),
    targetingKey: textOf(fields, 2),
    segment: textOf(fields, 3),
    variant: textOf(fields, 4),
    rule: textOf(fields, 5),
    reason: Number(fields.get(6)?.at(-1) ?? 0),
    assignmentId: textOf(fields, 8),
    selector: textOf(fields, 10),
    fallthroughs: (fields.get(9) ?? []).map((bytes) => {
      const passed = fieldsOf(bytes as Uint8Array);
      return { rule: textOf(passed, 1), assignmentId: textOf(passed, 2), targetingKey: textOf(passed, 3), selector: textOf(passed, 4) };
    }),
  };
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function textOf(fields: Fields, field: number): string {
  const value = fields.get(field)?.at(-1);
  if (value === undefined) return "";
  if (!(value instanceof Uint8Array)) throw new TypeError("not a text");
  return strictUtf8.decode(value);
}

/** A message's fields by number: varints as numbers, delimited ones as bytes. Throws for what is no message. */
function fieldsOf(bytes: Uint8Array): Fields {
  if (!(bytes instanceof Uint8Array)) throw new TypeError("not a message");
  const fields: Fields = new Map();
  let at = 0;
  const readVarint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 64; shift += 7) {
      const byte = bytes[at++];
      if (byte === undefined) break;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
    throw new RangeError("bad varint");
  };
  while (at < bytes.length) {
    const tag = readVarint();
    const field = Math.floor(tag / 8);
    let value: number | Uint8Array;
    if (tag % 8 === 0) value = readVarint();
    else if (tag % 8 === LENGTH_DELIMITED) {
      const length = readVarint();
      if (at + length > bytes.length || field === 0) throw new RangeError("cut short");
      value = bytes.subarray(at, (at += length));
    } else throw new RangeError("unknown wire type");
    const values = fields.get(field);
    if (values === undefined) fields.set(field, [value]);
    else values.push(value);
  }
  return fields;
}
