/**
 * The official resolver's wasm in a thin Worker of ours: JSON to protobuf, the guest, protobuf to JSON.
 * Its conversions are written for speed, so that the comparison is fair: each text is encoded once, into one buffer.
 * Source: the provider's calling convention (messages with a 4-byte length before them, envelopes around them).
 * @module
 */

interface Guest {
  memory: WebAssembly.Memory;
  wasm_msg_alloc(size: number): number;
  wasm_msg_free(pointer: number): void;
  wasm_msg_guest_set_resolver_state(pointer: number): number;
  wasm_msg_guest_resolve_flags(pointer: number): number;
  wasm_msg_guest_bounded_flush_logs(limit: number): number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What a flush without any log takes is less. */
const NO_LOGS_BYTES = 100;

/** Grows as needed; messages are written back to front, so that lengths are known when they are written. */
class Writer {
  #bytes = new Uint8Array(1 << 16);
  #start = this.#bytes.length;

  get length(): number {
    return this.#bytes.length - this.#start;
  }

  take(): Uint8Array {
    const bytes = this.#bytes.subarray(this.#start);
    this.#start = this.#bytes.length;
    return bytes;
  }

  varint(value: number): void {
    let bytes = 1;
    for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) bytes++;
    this.#start -= bytes;
    for (let i = 0; i < bytes; i++) {
      this.#bytes[this.#start + i] = (value % 128) | (i < bytes - 1 ? 128 : 0);
      value = Math.floor(value / 128);
    }
  }

  text(field: number, value: string): void {
    const end = this.#start;
    let at = end - value.length;
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i);
      if (code > 127) {
        const bytes = encoder.encode(value);
        at = end - bytes.length;
        this.#bytes.set(bytes, at);
        break;
      }
      this.#bytes[at + i] = code;
    }
    this.#start = at;
    this.varint(end - at);
    this.varint((field << 3) | 2);
  }

  bytes(field: number, value: Uint8Array): void {
    this.#start -= value.length;
    this.#bytes.set(value, this.#start);
    this.varint(value.length);
    this.varint((field << 3) | 2);
  }

  nested(field: number, write: () => void): void {
    const before = this.length;
    write();
    this.varint(this.length - before);
    this.varint((field << 3) | 2);
  }

  double(field: number, value: number): void {
    this.#start -= 8;
    new DataView(this.#bytes.buffer).setFloat64(this.#start, value, true);
    this.varint((field << 3) | 1);
  }

  flag(field: number, value: boolean): void {
    this.varint(value ? 1 : 0);
    this.varint(field << 3);
  }
}

const writer = new Writer();

function writeStruct(struct: Readonly<Record<string, unknown>>): void {
  for (const key in struct) {
    writer.nested(1, () => {
      writer.nested(2, () => writeValue(struct[key]));
      writer.text(1, key);
    });
  }
}

function writeValue(value: unknown): void {
  if (typeof value === "string") writer.text(3, value);
  else if (typeof value === "number") writer.double(2, value);
  else if (typeof value === "boolean") writer.flag(4, value);
  else if (Array.isArray(value)) writer.nested(6, () => [...value].reverse().forEach((item) => writer.nested(1, () => writeValue(item))));
  else if (value !== null) writer.nested(5, () => writeStruct(value as Record<string, unknown>));
}

/** Reads one message after the other; positions are of the guest's memory. */
class Reader {
  constructor(
    readonly bytes: Uint8Array,
    public at: number,
    readonly end: number,
  ) {}

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.bytes[this.at++] as number;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      scale *= 128;
    }
  }

  nested(): Reader {
    const length = this.varint();
    const start = this.at;
    this.at += length;
    return new Reader(this.bytes, start, this.at);
  }

  text(): string {
    const length = this.varint();
    const start = this.at;
    this.at += length;
    return decoder.decode(this.bytes.subarray(start, this.at));
  }

  double(): number {
    const value = new DataView(this.bytes.buffer, this.bytes.byteOffset).getFloat64(this.at, true);
    this.at += 8;
    return value;
  }
}

const REASONS = ["UNSPECIFIED", "MATCH", "NO_SEGMENT_MATCH", "NO_TREATMENT_MATCH", "FLAG_ARCHIVED", "TARGETING_KEY_ERROR", "ERROR"];
const SCHEMAS = ["", "structSchema", "listSchema", "intSchema", "doubleSchema", "stringSchema", "boolSchema"];

function readStruct(reader: Reader): Record<string, unknown> {
  const struct: Record<string, unknown> = {};
  while (reader.at < reader.end) {
    reader.varint();
    const entry = reader.nested();
    let key = "";
    let value: unknown = null;
    while (entry.at < entry.end) {
      if (entry.varint() >> 3 === 1) key = entry.text();
      else value = readValue(entry.nested());
    }
    struct[key] = value;
  }
  return struct;
}

function readValue(reader: Reader): unknown {
  if (reader.at >= reader.end) return null;
  switch (reader.varint() >> 3) {
    case 2:
      return reader.double();
    case 3:
      return reader.text();
    case 4:
      return reader.varint() === 1;
    case 5:
      return readStruct(reader.nested());
    case 6: {
      const list = reader.nested();
      const items = [];
      while (list.at < list.end) {
        list.varint();
        items.push(readValue(list.nested()));
      }
      return items;
    }
    default:
      return null;
  }
}

function readSchema(reader: Reader): Record<string, unknown> {
  const schema: Record<string, unknown> = {};
  while (reader.at < reader.end) {
    reader.varint();
    const entry = reader.nested();
    let key = "";
    let value: unknown = {};
    while (entry.at < entry.end) {
      if (entry.varint() >> 3 === 1) key = entry.text();
      else value = readFieldSchema(entry.nested());
    }
    schema[key] = value;
  }
  return Object.keys(schema).length > 0 ? { schema } : {};
}

function readFieldSchema(reader: Reader): Record<string, unknown> {
  if (reader.at >= reader.end) return {};
  const field = reader.varint() >> 3;
  const inner = reader.nested();
  if (field === 1) return { structSchema: readSchema(inner) };
  if (field !== 2) return { [SCHEMAS[field] ?? ""]: {} };
  if (inner.at >= inner.end) return { listSchema: {} };
  inner.varint();
  return { listSchema: { elementSchema: readFieldSchema(inner.nested()) } };
}

function readFlag(reader: Reader): Record<string, unknown> {
  const flag: Record<string, unknown> = {};
  while (reader.at < reader.end) {
    switch (reader.varint() >> 3) {
      case 1:
        flag["flag"] = reader.text();
        break;
      case 2:
        flag["variant"] = reader.text();
        break;
      case 3:
        flag["value"] = readStruct(reader.nested());
        break;
      case 4:
        flag["flagSchema"] = readSchema(reader.nested());
        break;
      case 5:
        flag["reason"] = `RESOLVE_REASON_${REASONS[reader.varint()]}`;
        break;
      case 6:
        flag["shouldApply"] = reader.varint() === 1;
        break;
      default:
        flag["assignmentOrigin"] = reader.text();
    }
  }
  return flag;
}

export class OfficialResolver {
  readonly #guest: Guest;

  constructor(module: WebAssembly.Module, state: Uint8Array, account: string) {
    const imports = { wasm_msg: { wasm_msg_host_current_time: () => this.#currentTime() } };
    this.#guest = new WebAssembly.Instance(module, imports).exports as unknown as Guest;
    const large = new Uint8Array(state.length + 4096);
    const head = [10, ...varint(state.length)];
    large.set(head);
    large.set(state, head.length);
    const tail = [18, account.length, ...encoder.encode(account)];
    large.set(tail, head.length + state.length);
    const message = large.subarray(0, head.length + state.length + tail.length);
    const envelope = new Uint8Array(message.length + 8);
    const prefix = [10, ...varint(message.length)];
    envelope.set(prefix);
    envelope.set(message, prefix.length);
    this.#guest.wasm_msg_guest_set_resolver_state(this.#put(envelope.subarray(0, prefix.length + message.length)));
  }

  #currentTime(): number {
    const ms = Date.now();
    writer.nested(1, () => {
      writer.varint((ms % 1000) * 1_000_000);
      writer.varint(2 << 3);
      writer.varint(Math.floor(ms / 1000));
      writer.varint(1 << 3);
    });
    return this.#put(writer.take());
  }

  #put(bytes: Uint8Array): number {
    const pointer = this.#guest.wasm_msg_alloc(bytes.length) >>> 0;
    new Uint8Array(this.#guest.memory.buffer).set(bytes, pointer);
    return pointer;
  }

  /** Protobuf in, protobuf out: the answer's bytes lie in guest memory until `free`. */
  resolveBytes(request: Uint8Array): { bytes: Uint8Array; free(): void } {
    const pointer = this.#guest.wasm_msg_guest_resolve_flags(this.#put(request)) >>> 0;
    return { bytes: new Uint8Array(this.#guest.memory.buffer, pointer, this.#lengthAt(pointer)), free: () => this.#guest.wasm_msg_free(pointer) };
  }

  /** The request's protobuf, in its envelopes. The result is scratch memory. */
  static encode(body: string): Uint8Array {
    const { flags, evaluationContext, clientSecret, apply } = JSON.parse(body) as {
      flags: string[];
      evaluationContext: Record<string, unknown>;
      clientSecret: string;
      apply: boolean;
    };
    writer.nested(1, () =>
      writer.nested(3, () => {
        writer.flag(4, apply);
        writer.text(3, clientSecret);
        writer.nested(2, () => writeStruct(evaluationContext));
        for (const flag of flags) writer.text(1, flag);
      }),
    );
    return writer.take();
  }

  resolveJson(body: string): string {
    const { bytes, free } = this.resolveBytes(OfficialResolver.encode(body));
    const envelope = new Reader(bytes, 0, bytes.length);
    if (envelope.varint() >> 3 !== 1) throw new Error(envelope.text());
    const process = envelope.nested();
    process.varint();
    const resolved = process.nested();
    const flags: unknown[] = [];
    let resolveId = "";
    while (resolved.at < resolved.end) {
      if (resolved.varint() >> 3 !== 1) {
        resolved.nested();
        continue;
      }
      const response = resolved.nested();
      while (response.at < response.end) {
        const field = response.varint() >> 3;
        if (field === 1) flags.push(readFlag(response.nested()));
        else if (field === 3) resolveId = response.text();
        else response.nested();
      }
    }
    free();
    return JSON.stringify({ resolvedFlags: flags, resolveToken: "", resolveId });
  }

  /** Throw the guest's logs away, as it keeps them until somebody asks; it gives 4 MB at a time. */
  dropLogs(): void {
    let length = 0;
    do {
      const pointer = this.#guest.wasm_msg_guest_bounded_flush_logs(0) >>> 0;
      length = this.#lengthAt(pointer);
      this.#guest.wasm_msg_free(pointer);
    } while (length > NO_LOGS_BYTES);
  }

  #lengthAt(pointer: number): number {
    return new DataView(this.#guest.memory.buffer).getUint32(pointer - 4, true) - 4;
  }
}

function varint(value: number): number[] {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}
