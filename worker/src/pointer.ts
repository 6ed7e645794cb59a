/**
 * The pointer in KV: which plan is to be served, signed by sync_job. `<HMAC-SHA-256 of the rest, in hex>\n<JSON>`.
 * Source: sync_job/pointer.py.
 * @module
 */

export const POINTER_KEY = "pointer";
/** What the key holds before a plan was published. */
export const NOTHING_PUBLISHED = "-";

const FORM = /^([0-9a-f]{64})\n/;
const POINTER_FORMAT = 1;
const utf8 = new TextEncoder();

/** A part of a plan: its text or its bitsets, stored under its digest. */
export interface PlanPart {
  readonly sha256: string;
  readonly size_bytes: number;
}

export interface Pointer {
  /** Grows with every plan that is published or deployed. */
  readonly sequence: number;
  readonly published_at_s: number;
  readonly expires_at_s: number;
  readonly plan_format: number;
  readonly account: string;
  readonly etag: string;
  readonly text: PlanPart;
  readonly bits: PlanPart;
}

/** What KV holds is not to be served; the message says why. */
export class StateError extends Error {}

export class PointerReader {
  #key: Promise<CryptoKey> | null = null;

  /** `key` is base64. */
  constructor(private readonly key: string) {}

  /** The pointer that a text says, once its signature is found right. Throws StateError. */
  async read(text: string): Promise<Pointer> {
    const mac = FORM.exec(text)?.[1];
    if (mac === undefined) throw new StateError("the pointer has no signature");
    const content = text.slice(mac.length + 1);
    const key = await (this.#key ??= importKey(this.key));
    const isSigned = await crypto.subtle.verify("HMAC", key, Uint8Array.fromHex(mac), utf8.encode(content));
    if (!isSigned) throw new StateError("the pointer's signature is wrong");
    const pointer = JSON.parse(content) as Pointer & { format: number };
    if (pointer.format !== POINTER_FORMAT) throw new StateError(`pointer format ${pointer.format} is not ${POINTER_FORMAT}`);
    return pointer;
  }
}

function importKey(key: string): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", Uint8Array.fromBase64(key), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
}
