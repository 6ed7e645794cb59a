/**
 * Bitsets of segments, in the forms that sync_job/bitsets.py stores.
 * @module
 */

type BitsKind = "none" | "full" | "dense" | "ranges" | "positions";
export type BitsJson = readonly [kind: BitsKind, offset: number, byteLength: number, allSet: boolean];

export class Bits {
  readonly #kind: BitsKind;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  /** Whether every bit is set: what a rule without a unit asks. An empty bitset counts as all set. */
  readonly allSet: boolean;

  constructor([kind, offset, byteLength, allSet]: BitsJson, data: Uint8Array) {
    const start = data.byteOffset + offset;
    this.#kind = kind;
    this.allSet = allSet;
    this.#bytes = kind === "dense" ? new Uint8Array(data.buffer, start, byteLength) : NO_BYTES;
    this.#words = kind === "ranges" || kind === "positions" ? new Uint32Array(data.buffer, start, byteLength >> 2) : NO_WORDS;
  }

  /** Whether the bit of a bucket, 0 to 999,999, is set. */
  has(bucket: number): boolean {
    switch (this.#kind) {
      case "dense":
        return ((this.#bytes[bucket >> 3] ?? 0) & (1 << (bucket & 7))) !== 0;
      case "ranges":
        return (countUpTo(this.#words, bucket) & 1) === 1;
      case "positions":
        return this.#words[countUpTo(this.#words, bucket) - 1] === bucket;
      default:
        return this.#kind === "full";
    }
  }
}

const NO_BYTES = new Uint8Array(0);
const NO_WORDS = new Uint32Array(0);

/** How many of the ascending words are at most `limit`. */
function countUpTo(words: Uint32Array, limit: number): number {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((words[middle] as number) <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
