/**
 * Sticky assignments in KV, in upstream's layout: key `mat:<unit>:<materialization>:<rule>`, value the variant's name.
 * In each part `%` and `:` are escaped. A key that KV would refuse as too long is hashed, which upstream never stored.
 * @module
 */
import type { Context } from "./context";
import type { FlagView } from "./plan";
import type { MaterializationWrite, Materializations, Resolution, Resolver } from "./resolve";

const KEY_MAX_BYTES = 512;
const BULK_MAX = 100;
/** Below this length of a prefix no rule's key has to be hashed. */
const SHORT_PREFIX_BYTES = 128;
const utf8 = new TextEncoder();

interface Wish {
  readonly unit: string;
  readonly materialization: string;
  readonly rule: string;
}

/** Decides what can be decided, reads what is missing in one go, decides again. */
export class StickyResolver {
  constructor(
    private readonly resolver: Resolver,
    private readonly kv: KVNamespace,
    /** How long assignments are kept; null for ever. */
    private readonly ttlSeconds: number | null,
  ) {}

  /** As `Evaluator.evaluate`; what is assigned anew is stored behind the answer. */
  async resolve<Result>(
    views: readonly FlagView[],
    context: Context,
    execution: ExecutionContext,
    use: (resolution: Resolution) => Result | Promise<Result>,
  ): Promise<Result> {
    const records = new StickyRecords(this.kv);
    let resolution = this.resolver.resolve(views, context, records);
    while (records.hasWishes) {
      await records.read();
      resolution = this.resolver.resolve(views, context, records);
    }
    if (resolution.writes.length > 0) execution.waitUntil(writeMaterializations(this.kv, resolution.writes, this.ttlSeconds));
    return use(resolution);
  }
}

/** More rounds than this are a plan that cannot be: each round answers all that could be asked so far. */
const ROUNDS_MAX = 5;

/**
 * What one request knows of sticky assignments. It begins knowing nothing and notes what it is asked for; after each
 * `read` the request is resolved again. When a read fails, nobody is assigned anew: whatever depends on it errs.
 */
class StickyRecords implements Materializations {
  mode: "discovery" | "complete" | "failed" = "discovery";
  readonly #kv: KVNamespace;
  readonly #variants = new Map<string, string | undefined>();
  readonly #inclusions = new Map<string, boolean>();
  #wishes = new Map<string, Wish>();
  #rounds = 0;

  constructor(kv: KVNamespace) {
    this.#kv = kv;
  }

  /** Whether something was asked that is not known: then the resolution is void. */
  get hasWishes(): boolean {
    return this.#wishes.size > 0;
  }

  wish(unit: string, materialization: string, rule: string): void {
    this.#wishes.set(nameOf(unit, materialization, rule), { unit, materialization, rule });
  }

  variantOf(unit: string, materialization: string, rule: string): string | undefined {
    const name = nameOf(unit, materialization, rule);
    if (!this.#variants.has(name)) this.wish(unit, materialization, rule);
    return this.#variants.get(name);
  }

  includes(unit: string, materialization: string): boolean {
    const included = this.#inclusions.get(nameOf(unit, materialization, ""));
    if (included === undefined) this.wish(unit, materialization, "");
    return included ?? false;
  }

  /** Read all wishes at once: one bulk get, and beside it a listing for each inclusion. */
  async read(): Promise<void> {
    const wishes = [...this.#wishes];
    this.#wishes = new Map();
    const rules = wishes.filter(([, wish]) => wish.rule !== "");
    const inclusions = wishes.filter(([, wish]) => wish.rule === "");
    try {
      if (++this.#rounds > ROUNDS_MAX) throw new Error("too many rounds");
      const keys = await Promise.all(rules.map(([, wish]) => keyOf(wish)));
      const listings = inclusions.map(([, wish]) => isIncluded(this.#kv, wish));
      const [values, included] = await Promise.all([readAll(this.#kv, keys), Promise.all(listings)]);
      for (const [i, [name]] of rules.entries()) this.#variants.set(name, values.get(keys[i] as string) ?? undefined);
      for (const [i, [name]] of inclusions.entries()) this.#inclusions.set(name, included[i] === true);
      this.mode = "complete";
    } catch (error) {
      console.error(JSON.stringify({ event: "materializations.unread", error: String(error) }));
      this.mode = "failed";
    }
  }
}

/** Store assignments; a write that fails is logged and made again by the next resolve. */
async function writeMaterializations(
  kv: KVNamespace,
  writes: readonly MaterializationWrite[],
  ttlSeconds: number | null,
): Promise<void> {
  const options = ttlSeconds === null ? {} : { expirationTtl: Math.max(60, ttlSeconds) };
  const kept = writes.filter((write) => write.rule !== "");
  const results = await Promise.allSettled(kept.map(async (write) => kv.put(await keyOf(write), write.variant, options)));
  const failed = results.filter((result) => result.status === "rejected");
  if (failed.length > 0) console.error(JSON.stringify({ event: "materializations.unwritten", count: failed.length }));
}

async function readAll(kv: KVNamespace, keys: readonly string[]): Promise<Map<string, string | null>> {
  const chunks = [];
  for (let i = 0; i < keys.length; i += BULK_MAX) chunks.push(kv.get(keys.slice(i, i + BULK_MAX)));
  return new Map((await Promise.all(chunks)).flatMap((values) => [...values]));
}

async function isIncluded(kv: KVNamespace, { unit, materialization }: Wish): Promise<boolean> {
  const prefix = prefixOf(unit, materialization);
  const bytes = utf8.encode(prefix).length;
  const prefixes = [];
  if (bytes <= KEY_MAX_BYTES) prefixes.push(prefix);
  if (bytes > SHORT_PREFIX_BYTES) prefixes.push(await hashedPrefix(prefix));
  const listings = await Promise.all(prefixes.map((each) => kv.list({ prefix: each, limit: 1 })));
  return listings.some((listing) => listing.keys.length > 0);
}

/** The KV key of a record. */
async function keyOf({ unit, materialization, rule }: Wish): Promise<string> {
  const prefix = prefixOf(unit, materialization);
  const key = prefix + escapePart(rule);
  if (utf8.encode(key).length <= KEY_MAX_BYTES) return key;
  return (await hashedPrefix(prefix)) + (await sha256(rule));
}

async function hashedPrefix(prefix: string): Promise<string> {
  return `mat#${await sha256(prefix)}:`;
}

async function sha256(text: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", utf8.encode(text))).toHex();
}

function prefixOf(unit: string, materialization: string): string {
  return `mat:${escapePart(unit)}:${escapePart(materialization)}:`;
}

function escapePart(part: string): string {
  return part.replaceAll("%", "%25").replaceAll(":", "%3A");
}

function nameOf(unit: string, materialization: string, rule: string): string {
  return JSON.stringify([unit, materialization, rule]);
}
