/**
 * A column of whole numbers as the JSON text that it becomes: digits are written where they will stay.
 * (Joined strings cost five times as much, most of it when V8 flattens them.)
 * @module
 */
const FIRST_BYTES = 512;
const NUMBER_MAX_BYTES = 18;
const COMMA = 44;
const MINUS = 45;
const ZERO = 48;

const ascii = new TextDecoder();

export class NumberColumn {
  count = 0;
  /** Size of the text and one comma more. */
  bytes = 0;
  #buffer = new Uint8Array(FIRST_BYTES);

  /** Add a whole number, negative ones down to -9. */
  push(number: number): void {
    if (this.bytes + NUMBER_MAX_BYTES > this.#buffer.length) this.#grow();
    const buffer = this.#buffer;
    let at = this.bytes;
    buffer[at++] = COMMA;
    if (number < 0) {
      buffer[at++] = MINUS;
      number = -number;
    }
    if (number >= 10_000) at = writeText(buffer, at, String(number));
    else {
      if (number >= 1000) buffer[at++] = ZERO + ((number / 1000) | 0);
      if (number >= 100) buffer[at++] = ZERO + (((number / 100) | 0) % 10);
      if (number >= 10) buffer[at++] = ZERO + (((number / 10) | 0) % 10);
      buffer[at++] = ZERO + (number % 10);
    }
    this.bytes = at;
    this.count++;
  }

  /** The list's elements with commas between them. */
  get text(): string {
    return ascii.decode(this.#buffer.subarray(Math.min(1, this.bytes), this.bytes));
  }

  #grow(): void {
    const larger = new Uint8Array(2 * this.#buffer.length);
    larger.set(this.#buffer);
    this.#buffer = larger;
  }
}

function writeText(buffer: Uint8Array, start: number, text: string): number {
  for (let i = 0; i < text.length; i++) buffer[start + i] = text.charCodeAt(i);
  return start + text.length;
}
