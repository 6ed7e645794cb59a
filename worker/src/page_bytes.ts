/**
 * Bytes of a page whose charset contains ASCII, looked at as text.
 * @module
 */
/** One character for each byte. */
const DECODER = new TextDecoder("windows-1252");
const ENCODER = new TextEncoder();

/** The bytes as text in which ASCII is itself, and a place is the same in both. */
export function textOf(bytes: Uint8Array): string {
  return DECODER.decode(bytes);
}

/** ASCII as bytes. */
export function encode(ascii: string): Uint8Array {
  return ENCODER.encode(ascii);
}

export function joined(one: Uint8Array, other: Uint8Array): Uint8Array {
  if (one.length === 0) return other;
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
