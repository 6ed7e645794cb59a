/**
 * Where a page's head begins, found in its first bytes as they come.
 * Source: HTML Standard, tokenization (13.2.5) and the insertion modes before a head (13.2.6.4.1 to 13.2.6.4.3).
 * @module
 */

/** What begins a head, or a document, that is not written down. Anything else without a doctype is taken for a part of a page. */
const BEGINNINGS: ReadonlySet<string> = new Set(["<base", "<body", "<link", "<meta", "<script", "<style", "<title"]);
/** End tags that a parser takes for the end of a head that is not written down. */
const ENDS: ReadonlySet<string> = new Set(["</body", "</br", "</head", "</html"]);
const BYTE_ORDER_MARK_LENGTH = 3;
/** What a parser passes on its way to the head; three bytes at the start say that it is UTF-8. */
const SPACE = /[\t\n\f\r ]+|^\u00ef\u00bb\u00bf/y;
const COMMENT = /<!--(?:>|->|[^]*?--!?>)/y;
const DECLARATION = /<(?!!--)(?:[!?]|\/(?![a-z]))[^>]*>/iy;
const TAG = /<\/?[a-z][^\t\n\f\r />]*(?=[\t\n\f\r />])/iy;
/** A tag from behind its name; `>` ends it but for between quotes, which count behind `=` alone. */
const ATTRIBUTES = /(?:[^>=]|=[\t\n\f\r ]*(?:"[^"]*"|'[^']*'|(?=[^"'\t\n\f\r ])))*>/y;
/** The beginning of a comment, a declaration or a tag. */
const OPEN = /<(?:$|[!?/a-z])/iy;

export class HeadFinder {
  #at = 0;
  #isDocument = false;

  /**
   * The place of the first thing in the head of a page that begins with `text`; -1 where there is none, and null while nobody can
   * tell. To be called with more of the same text each time.
   */
  find(text: string): number | null {
    if (text.length < BYTE_ORDER_MARK_LENGTH) return null;
    for (;;) {
      while (this.#pass(text));
      if (this.#at === text.length) return null;
      TAG.lastIndex = this.#at;
      const tag = TAG.exec(text)?.[0].toLowerCase();
      if (tag === undefined && matches(OPEN, text, this.#at) > 0) return null;
      if (tag === undefined || !isPassed(tag)) return this.#isDocument || BEGINNINGS.has(tag ?? "") ? this.#at : -1;
      const end = matches(ATTRIBUTES, text, TAG.lastIndex);
      if (end === 0) return null;
      if (tag === "<head") return end;
      this.#at = end;
      this.#isDocument ||= tag === "<html";
    }
  }

  /** Go behind a space, a comment or a declaration; whether there was one. */
  #pass(text: string): boolean {
    const end = matches(SPACE, text, this.#at) || matches(COMMENT, text, this.#at) || matches(DECLARATION, text, this.#at);
    if (end === 0) return false;
    this.#isDocument ||= /^<!doctype/i.test(text.slice(this.#at, this.#at + 9));
    this.#at = end;
    return true;
  }
}

/** Whether a tag, as far as its name, comes before what is in a head. Most end tags do: they end nothing. */
function isPassed(tag: string): boolean {
  return tag === "<html" || tag === "<head" || (tag.startsWith("</") && !ENDS.has(tag));
}

/** Where a match at this place ends; 0 for none. */
function matches(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.test(text) ? pattern.lastIndex : 0;
}
