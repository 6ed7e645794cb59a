/**
 * Random ids of [A-Za-z0-9], cut from a pool that is filled ahead.
 * @module
 */

/** Divisible by 3: base 64 has no rest then. */
const POOL_BYTES = 1536;

let pool = "";
let used = 0;

/** A fresh id of `length` characters, each worth 5.95 bits of a cryptographic generator. */
export function randomId(length: number): string {
  if (used + length > pool.length) {
    pool = fillPool();
    used = 0;
  }
  used += length;
  return pool.slice(used - length, used);
}

/** Base 64 without its two signs, which are thrown away: all other characters are equally likely. */
function fillPool(): string {
  return crypto.getRandomValues(new Uint8Array(POOL_BYTES)).toBase64().replace(/[+/]/g, "");
}
