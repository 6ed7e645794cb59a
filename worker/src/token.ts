/**
 * Apply tokens under AES-128: sealed when a resolve does not apply at once, opened by `flags:apply`.
 *
 * Ours: version 1 (1 byte) | key id (4) | salt (16) | counter (4) | AES-128-GCM(issued u32 | expires u32 | body) with
 * its tag. The cipher key is HKDF-SHA-256(key, salt, "flagedge token 1"), one per isolate, the nonce is the counter:
 * it cannot repeat however many isolates write. Account and client are bound as additional data with the header.
 * Upstream's: IV (16) | AES-128-CBC(body), PKCS #7; always read, written on demand.
 * Every failure to open is null, whatever it was.
 * @module
 */
import { decodeTokenBody, encodeTokenBody, join, type TokenBody } from "./token_body";

const KEY_BYTES = 16;
const VERSION = 1;
const HEADER_BYTES = 25;
const COUNTER_MAX = 2 ** 32 - 1;
const SUBKEYS_MAX = 500;
const utf8 = new TextEncoder();
const INFO = utf8.encode("flagedge token 1");

interface TokenKey {
  readonly id: Uint8Array;
  readonly derive: CryptoKey;
  readonly cbc: CryptoKey;
}

/** An opened token; `issuedAtMs` is 0 when it does not say (upstream's). */
export interface OpenedToken {
  readonly body: TokenBody;
  readonly issuedAtMs: number;
}

export interface TokenSettings {
  /** Base64 of 16 bytes each; the first seals, any opens. */
  readonly keys: readonly string[];
  readonly ttlSeconds: number;
  readonly format: "flagedge" | "upstream";
}

export class TokenBox {
  readonly #settings: TokenSettings;
  readonly #subkeys = new Map<string, Promise<CryptoKey>>();
  #keys: Promise<readonly TokenKey[]> | null = null;
  #salt: Uint8Array | null = null;
  #counter = 0;

  constructor(settings: TokenSettings) {
    this.#settings = settings;
  }

  get hasKey(): boolean {
    return this.#settings.keys.some((key) => keyBytes(key) !== null);
  }

  /** Seal a body for an account and a client; base64, or "" without a key. */
  async seal(body: TokenBody, binding: string, nowMs: number): Promise<string> {
    const [key] = await this.#importedKeys();
    if (key === undefined) return "";
    const plain = encodeTokenBody(body);
    const sealed = this.#settings.format === "upstream" ? await sealCbc(key, plain) : await this.#sealGcm(key, plain, binding, nowMs);
    return sealed.toBase64();
  }

  /** Open a token with whichever key fits; null when none does, when it was changed, is another client's or too old. */
  async open(token: Uint8Array, binding: string, nowMs: number): Promise<OpenedToken | null> {
    let opened: OpenedToken | null = null;
    for (const key of await this.#importedKeys()) {
      opened ??= await this.#openGcm(key, token, binding, nowMs);
      opened ??= await openCbc(key, token);
    }
    return opened;
  }

  async #sealGcm(key: TokenKey, plain: Uint8Array, binding: string, nowMs: number): Promise<Uint8Array> {
    if (this.#salt === null || this.#counter >= COUNTER_MAX) {
      this.#salt = crypto.getRandomValues(new Uint8Array(16));
      this.#counter = 0;
    }
    const header = join([Uint8Array.of(VERSION), key.id, this.#salt, u32(this.#counter++)]);
    const issued = Math.floor(nowMs / 1000);
    const subkey = await this.#subkey(key, header);
    const algorithm = gcm(header, binding);
    const content = join([u32(issued), u32(issued + this.#settings.ttlSeconds), plain]);
    return join([header, new Uint8Array(await crypto.subtle.encrypt(algorithm, subkey, content))]);
  }

  async #openGcm(key: TokenKey, token: Uint8Array, binding: string, nowMs: number): Promise<OpenedToken | null> {
    const header = token.subarray(0, HEADER_BYTES);
    if (token.length <= HEADER_BYTES || header[0] !== VERSION || !key.id.every((byte, i) => byte === header[i + 1])) return null;
    try {
      const subkey = await this.#subkey(key, header);
      const content = new Uint8Array(await crypto.subtle.decrypt(gcm(header, binding), subkey, token.subarray(HEADER_BYTES)));
      const times = new DataView(content.buffer);
      const body = decodeTokenBody(content.subarray(8));
      if (body === null || times.getUint32(4) * 1000 < nowMs) return null;
      return { body, issuedAtMs: times.getUint32(0) * 1000 };
    } catch {
      return null;
    }
  }

  #subkey(key: TokenKey, header: Uint8Array): Promise<CryptoKey> {
    const name = header.subarray(1, 21).toBase64();
    let subkey = this.#subkeys.get(name);
    if (subkey === undefined) {
      if (this.#subkeys.size >= SUBKEYS_MAX) this.#subkeys.clear();
      const derivation = { name: "HKDF", hash: "SHA-256", salt: header.slice(5, 21), info: INFO };
      subkey = crypto.subtle.deriveKey(derivation, key.derive, { name: "AES-GCM", length: 128 }, false, ["encrypt", "decrypt"]);
      this.#subkeys.set(name, subkey);
    }
    return subkey;
  }

  /** The usable keys, in order; what is not base64 of 16 bytes is left out. */
  #importedKeys(): Promise<readonly TokenKey[]> {
    this.#keys ??= Promise.all(this.#settings.keys.flatMap((key) => keyBytes(key) ?? []).map(importKey));
    return this.#keys;
  }
}

function keyBytes(text: string): Uint8Array | null {
  try {
    const bytes = Uint8Array.fromBase64(text.trim());
    return bytes.length === KEY_BYTES ? bytes : null;
  } catch {
    return null;
  }
}

async function importKey(bytes: Uint8Array): Promise<TokenKey> {
  const [digest, derive, cbc] = await Promise.all([
    crypto.subtle.digest("SHA-256", bytes),
    crypto.subtle.importKey("raw", bytes, "HKDF", false, ["deriveKey"]),
    crypto.subtle.importKey("raw", bytes, "AES-CBC", false, ["encrypt", "decrypt"]),
  ]);
  return { id: new Uint8Array(digest).slice(0, 4), derive, cbc };
}

function gcm(header: Uint8Array, binding: string): { name: string; iv: Uint8Array; additionalData: Uint8Array } {
  const iv = new Uint8Array(12);
  iv.set(header.subarray(21, 25), 8);
  return { name: "AES-GCM", iv, additionalData: join([header, utf8.encode(binding)]) };
}

async function sealCbc(key: TokenKey, plain: Uint8Array): Promise<Uint8Array> {
  const iv = crypto.getRandomValues(new Uint8Array(16));
  return join([iv, new Uint8Array(await crypto.subtle.encrypt({ name: "AES-CBC", iv }, key.cbc, plain))]);
}

async function openCbc(key: TokenKey, token: Uint8Array): Promise<OpenedToken | null> {
  if (token.length < 32 || token.length % 16 !== 0) return null;
  try {
    const plain = await crypto.subtle.decrypt({ name: "AES-CBC", iv: token.slice(0, 16) }, key.cbc, token.subarray(16));
    const body = decodeTokenBody(new Uint8Array(plain));
    return body === null ? null : { body, issuedAtMs: 0 };
  } catch {
    return null;
  }
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}
