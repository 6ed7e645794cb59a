/**
 * The nonces of a kept page, for each of which every visitor gets another, in the page's bytes as they pass.
 * @module
 */
import { encode, textOf } from "./page_bytes";

/** As templates write one in an attribute: those of Go, .NET and Handlebars escape what base64 has. */
const ESCAPES: readonly (readonly [string, string])[] = [["", ""], ["+", "&#43;"], ["+", "&#x2B;"], ["=", "&#x3D;"]];
/** What stands before one: `nonce="`, `'nonce-`, `nonce: "`, `__webpack_nonce__ = "`. */
const BEFORE = String.raw`(?<=[nN][oO][nN][cC][eE]_{0,2} ?[=:-] ?["']?)`;
const BEFORE_MAX = 16;

export class NonceRenewer {
  readonly #pattern: RegExp;
  /** What may become one with the bytes that follow. */
  readonly #unfinished: RegExp;
  readonly #fresh = new Map<string, Uint8Array>();

  /** `renewed`: fresh nonces by those that the page has, of which there are some. */
  constructor(renewed: ReadonlyMap<string, string>) {
    for (const [nonce, fresh] of renewed) {
      for (const [plain, escaped] of ESCAPES) this.#fresh.set(plain === "" ? nonce : nonce.replaceAll(plain, escaped), encode(fresh));
    }
    const spelt = [...this.#fresh.keys()];
    const any = spelt.map((each) => each.replace(/[+/]/g, "\\$&")).join("|");
    this.#pattern = new RegExp(String.raw`${BEFORE}(?:${any})(?![\w+/=&-])`, "g");
    const longest = Math.max(...spelt.map((each) => each.length));
    this.#unfinished = new RegExp(`n(?:o(?:n(?:c(?:e[^<>]{0,${longest + BEFORE_MAX}})?)?)?)?$`, "i");
  }

  /** The bytes in pieces, with fresh nonces, and those at the end that have to wait for more. */
  renew(bytes: Uint8Array, isLast: boolean): { readonly pieces: readonly Uint8Array[]; readonly rest: Uint8Array } {
    const text = textOf(bytes);
    const end = isLast ? text.length : (this.#unfinished.exec(text)?.index ?? text.length);
    const pieces: Uint8Array[] = [];
    let at = 0;
    for (const match of text.matchAll(this.#pattern)) {
      if (match.index >= end) break;
      pieces.push(bytes.subarray(at, match.index), this.#fresh.get(match[0]) as Uint8Array);
      at = match.index + match[0].length;
    }
    return { pieces: [...pieces, bytes.subarray(at, end)], rest: bytes.subarray(end) };
  }
}
