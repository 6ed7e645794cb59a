/**
 * Writes into a page while it streams: markup at the start of its head, fresh nonces in the place of kept ones. All else passes byte for byte.
 * @module
 */
import { encode, joined, textOf } from "./page_bytes";
import { HeadFinder } from "./page_head";
import type { NonceRenewer } from "./page_nonces";

/** A page whose head has not begun by then gets no markup. */
const HEAD_WITHIN_BYTES = 65_536;
const NOTHING = new Uint8Array(0);

export class PageWriter implements Transformer<Uint8Array, Uint8Array> {
  #head: HeadFinder | null = new HeadFinder();
  #held: Uint8Array = NOTHING;

  /** `markup` is ASCII; `nonces` is null where they stay. */
  constructor(
    private readonly markup: string,
    private readonly nonces: NonceRenewer | null,
  ) {}

  transform(chunk: Uint8Array, out: TransformStreamDefaultController<Uint8Array>): void {
    this.#write(joined(this.#held, chunk), false, out);
  }

  flush(out: TransformStreamDefaultController<Uint8Array>): void {
    this.#write(this.#held, true, out);
  }

  #write(bytes: Uint8Array, isLast: boolean, out: TransformStreamDefaultController<Uint8Array>): void {
    const behind = this.#head === null ? bytes : this.#begin(this.#head, bytes, isLast, out);
    this.#held = behind ?? bytes;
    if (behind === null) return;
    const { pieces, rest } = this.nonces?.renew(behind, isLast) ?? { pieces: [behind], rest: NOTHING };
    for (const piece of pieces) if (piece.length > 0) out.enqueue(piece);
    this.#held = rest;
  }

  /** Write what stands before the head's content, and the markup; the bytes behind it, or null while its place is not known. */
  #begin(head: HeadFinder, bytes: Uint8Array, isLast: boolean, out: TransformStreamDefaultController<Uint8Array>): Uint8Array | null {
    const place = head.find(textOf(bytes));
    if (place === null && !isLast && bytes.length < HEAD_WITHIN_BYTES) return null;
    this.#head = null;
    if (place === null || place < 0) return bytes;
    if (place > 0) out.enqueue(bytes.subarray(0, place));
    out.enqueue(encode(this.markup));
    return bytes.subarray(place);
  }
}
