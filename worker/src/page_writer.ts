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

/** What a piece is handed to. */
type Out = Pick<TransformStreamDefaultController<Uint8Array>, "enqueue">;

/** A page with `markup`, which is ASCII, at the start of its head; `nonces` is null where they stay. */
export function writeInto(page: ReadableStream<Uint8Array>, markup: string, nonces: NonceRenewer | null): ReadableStream<Uint8Array> {
  const writer = new PageWriter(markup, nonces);
  if (nonces !== null) return page.pipeThrough(new TransformStream(writer));
  const { readable, writable } = new IdentityTransformStream();
  // It goes on while the answer does. What breaks off, breaks the answer off.
  void begin(page, writer, writable).catch(() => undefined);
  return readable;
}

/** Behind the markup, bytes pass without a step in JavaScript, which costs as much as all else of a page. */
async function begin(page: ReadableStream<Uint8Array>, writer: PageWriter, writable: WritableStream<Uint8Array>): Promise<void> {
  const [reader, out] = [page.getReader(), writable.getWriter()];
  try {
    while (!writer.hasBegun) {
      const { done, value } = await reader.read();
      let bytes: Uint8Array = NOTHING;
      const collected: Out = { enqueue: (piece) => (bytes = joined(bytes, piece as Uint8Array)) };
      if (done) writer.flush(collected);
      else writer.transform(value, collected);
      if (bytes.length > 0) await out.write(bytes);
    }
  } catch (error) {
    await Promise.allSettled([out.abort(error), reader.cancel(error)]);
    return;
  }
  reader.releaseLock();
  out.releaseLock();
  await page.pipeTo(writable);
}

class PageWriter implements Transformer<Uint8Array, Uint8Array> {
  #head: HeadFinder | null = new HeadFinder();
  #held: Uint8Array = NOTHING;

  constructor(
    private readonly markup: string,
    private readonly nonces: NonceRenewer | null,
  ) {}

  /** Whether the place of the markup is known, or that there is none. */
  get hasBegun(): boolean {
    return this.#head === null;
  }

  transform(chunk: Uint8Array, out: Out): void {
    this.#write(joined(this.#held, chunk), false, out);
  }

  flush(out: Out): void {
    this.#write(this.#held, true, out);
  }

  #write(bytes: Uint8Array, isLast: boolean, out: Out): void {
    const behind = this.#head === null ? bytes : this.#begin(this.#head, bytes, isLast, out);
    this.#held = behind ?? bytes;
    if (behind === null) return;
    const { pieces, rest } = this.nonces?.renew(behind, isLast) ?? { pieces: [behind], rest: NOTHING };
    for (const piece of pieces) if (piece.length > 0) out.enqueue(piece);
    this.#held = rest;
  }

  /** Write what stands before the head's content, and the markup; the bytes behind it, or null while its place is not known. */
  #begin(head: HeadFinder, bytes: Uint8Array, isLast: boolean, out: Out): Uint8Array | null {
    const place = head.find(textOf(bytes));
    if (place === null && !isLast && bytes.length < HEAD_WITHIN_BYTES) return null;
    this.#head = null;
    if (place === null || place < 0) return bytes;
    if (place > 0) out.enqueue(bytes.subarray(0, place));
    out.enqueue(encode(this.markup));
    return bytes.subarray(place);
  }
}
