/**
 * Units of a request, and the buckets that they fall into.
 *
 * MurmurHash3 runs in WebAssembly (murmur3.wat) over memory in which each prefix (the population salt, each
 * segment id) lies digested: a bucket costs the unit's own bytes. Units of a request occupy numbered slots.
 * @module
 */
import murmur3 from "./murmur3.wasm";

const PREFIX_MAX_BYTES = 8192;
const RECORD_BYTES = 40;
const UNIT_MAX_BYTES = 100;
/** 16 bytes before the unit for the prefix's tail, 16 zero bytes after it, all 16-byte aligned. */
const SLOT_BYTES = 144;
const PAGE_BYTES = 65536;
const POPULATION_BUCKETS = 1_000_000;

interface Murmur3 {
  memory: WebAssembly.Memory;
  prepare(record: number, prefix: number, length: number): void;
  bucket(record: number, unit: number, length: number, count: number): number;
  words(record: number, unit: number, length: number, out: number): void;
}

const utf8 = new TextEncoder();

/** The text of a unit; null for none, undefined when the value cannot be one. */
export function unitText(value: unknown): string | null | undefined {
  if (typeof value === "string") return value;
  if (value === undefined || value === null) return null;
  if (typeof value !== "number" || !Number.isInteger(value)) return undefined;
  return Object.is(value, -0) ? "-0" : BigInt(value).toString();
}

export class UnitHasher {
  readonly #wasm: Murmur3;
  readonly #slotsAt: number;
  readonly #population: number;
  readonly #lengths: Int32Array;
  readonly #populationBuckets: Int32Array;
  #bytes: Uint8Array;
  #recordsEnd = 0;

  /** Room for `slotCount` units at a time and `recordCount` prefixes. */
  constructor(populationSalt: string, slotCount: number, recordCount: number) {
    this.#wasm = new WebAssembly.Instance(murmur3).exports as unknown as Murmur3;
    this.#slotsAt = 64 + PREFIX_MAX_BYTES;
    this.#recordsEnd = this.#slotsAt + slotCount * SLOT_BYTES;
    const bytes = this.#recordsEnd + (recordCount + 1) * RECORD_BYTES;
    this.#wasm.memory.grow(Math.max(0, Math.ceil(bytes / PAGE_BYTES) - 1));
    this.#bytes = new Uint8Array(this.#wasm.memory.buffer);
    this.#lengths = new Int32Array(slotCount);
    this.#populationBuckets = new Int32Array(slotCount);
    this.#population = this.prepare(`${populationSalt}|`);
  }

  /** Digest a prefix; the number by which `bucket` knows it. */
  prepare(prefix: string): number {
    const { read, written } = utf8.encodeInto(prefix, this.#bytes.subarray(64, 64 + PREFIX_MAX_BYTES));
    if (read < prefix.length) throw new RangeError(`prefix of ${prefix.length} characters is too long to hash`);
    const record = this.#recordsEnd;
    this.#recordsEnd += RECORD_BYTES;
    this.#wasm.prepare(record, 64, written);
    return record;
  }

  /** Put a unit into a slot; false when it is longer than 100 bytes of UTF-8. */
  place(slot: number, unit: string): boolean {
    const bytes = this.#bytes;
    const start = this.#slotsAt + slot * SLOT_BYTES + 16;
    if (unit.length > UNIT_MAX_BYTES) return false;
    let length = 0;
    for (; length < unit.length; length++) {
      const code = unit.charCodeAt(length);
      if (code > 127) break;
      bytes[start + length] = code;
    }
    if (length < unit.length) {
      const encoded = utf8.encode(unit);
      if (encoded.length > UNIT_MAX_BYTES) return false;
      bytes.set(encoded, start);
      length = encoded.length;
    }
    // Written out: a call of fill() costs more than the sixteen bytes.
    for (let i = start + length, end = i + 16; i < end; i++) bytes[i] = 0;
    this.#lengths[slot] = length;
    this.#populationBuckets[slot] = -1;
    return true;
  }

  /** `hash(prefix || unit) mod count`; count > 0. */
  bucket(record: number, slot: number, count: number): number {
    return this.#wasm.bucket(record, this.#slotsAt + slot * SLOT_BYTES + 16, this.#lengths[slot] as number, count);
  }

  /** The bucket, of 1,000,000, that decides the unit's bit in every bitset. */
  populationBucket(slot: number): number {
    let bucket = this.#populationBuckets[slot] as number;
    if (bucket < 0) {
      bucket = this.bucket(this.#population, slot, POPULATION_BUCKETS);
      this.#populationBuckets[slot] = bucket;
    }
    return bucket;
  }

  /** Both words of the unit's own hash, as signed integers. */
  words(record: number, slot: number): [bigint, bigint] {
    this.#wasm.words(record, this.#slotsAt + slot * SLOT_BYTES + 16, this.#lengths[slot] as number, 16);
    const view = new DataView(this.#wasm.memory.buffer);
    return [view.getBigInt64(16, true), view.getBigInt64(24, true)];
  }
}
