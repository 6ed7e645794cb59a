/**
 * The plan that is served: the bundled one, or a newer one from KV. Requests are answered from memory; now and then one of
 * them looks into KV behind its answer. A plan is swapped in whole, once it is loaded and found to be what was signed.
 *
 * Whatever is odd is refused, and what is served stays: the bundled plan in an isolate that has found nothing better. A plan
 * from KV goes when its pointer expires.
 * @module
 */
import { loadPlan, type Plan, PLAN_FORMAT } from "./plan";
import { NOTHING_PUBLISHED, type PlanPart, type Pointer, POINTER_KEY, PointerReader, StateError } from "./pointer";

/** The least that KV takes; it is how old a pointer may be that KV's edge answers from its cache. */
const POINTER_CACHE_S = 30;
const PART_MAX_BYTES = 25 * 1024 * 1024;
/** `waitUntil` ends 30 s after the answer: a request that looks for longer is gone. */
const LOOK_MAX_MS = 35_000;
/** A candidate that was probed and not published by then is not waited for. */
const CANDIDATE_MAX_MS = 300_000;
/** What plans may take of an isolate's 128 MB, and what a byte of text takes once it is read. As in sync_job/publish.py. */
const PLANS_MAX_BYTES = 100_000_000;
const BYTES_PER_TEXT_BYTE = 4;

/** The plan that was uploaded with this Worker, and what the Worker was told of it. */
export interface BundledState {
  readonly sequence: number;
  /** When it was first served, in epoch seconds; 0 where nobody knows. */
  readonly sinceSeconds: number;
  readonly text: PlanPart;
  readonly bits: PlanPart;
}

export interface HotSettings {
  /** Base64. */
  readonly macKey: string;
  readonly ttlMs: number;
  readonly bundled: BundledState;
}

/** What can be served. `expiresAtSeconds` is infinite for the bundled plan. */
interface State extends BundledState {
  readonly plan: Plan;
  readonly source: "bundle" | "kv";
  readonly expiresAtSeconds: number;
}

interface Candidate {
  readonly state: State;
  readonly atMs: number;
}

export class HotState {
  readonly #kv: KVNamespace;
  readonly #ttlMs: number;
  readonly #pointers: PointerReader;
  readonly #bundle: State;
  readonly #onSwap: (plan: Plan) => void;
  #state: State;
  /** The highest sequence that was accepted; nothing below it ever is. */
  #floor: number;
  #dueAtMs = 0;
  #checkedAtMs = 0;
  #problem = "";
  #candidate: Candidate | null = null;

  /** `onSwap` is told of each plan that takes the place of another; should it throw, the one before stays. */
  constructor(kv: KVNamespace, settings: HotSettings, bundled: Plan, onSwap: (plan: Plan) => void) {
    this.#kv = kv;
    this.#ttlMs = settings.ttlMs;
    this.#pointers = new PointerReader(settings.macKey);
    this.#bundle = { ...settings.bundled, plan: bundled, source: "bundle", expiresAtSeconds: Infinity };
    this.#state = this.#bundle;
    this.#floor = this.#bundle.sequence;
    this.#onSwap = onSwap;
  }

  /** Why what KV holds is not served; "" when nothing is odd. */
  get problem(): string {
    return this.#problem;
  }

  /** What is served, for /v1/health. */
  describe(nowMs: number): object {
    const { plan, source, sequence, sinceSeconds } = this.#state;
    return {
      source,
      etag: plan.etag,
      sequence,
      age_s: sinceSeconds === 0 ? null : Math.max(0, Math.floor(nowMs / 1000) - sinceSeconds),
      checked_age_s: this.#checkedAtMs === 0 ? null : Math.max(0, Math.floor((nowMs - this.#checkedAtMs) / 1000)),
      problem: this.#problem,
    };
  }

  /** Look into KV behind this request's answer, if that is due and no other request does. */
  keepFresh(context: { waitUntil(promise: Promise<unknown>): void }): void {
    const nowMs = Date.now();
    if (nowMs < this.#dueAtMs) return;
    this.#dueAtMs = nowMs + LOOK_MAX_MS;
    context.waitUntil(this.#look());
  }

  /** A plan that is to be proved before a pointer to it is published. Throws StateError. */
  async loadCandidate(text: string): Promise<Plan> {
    const pointer = await this.#pointers.read(text);
    this.#check(pointer);
    if (this.#candidate === null || !isOf(this.#candidate.state, pointer)) {
      // Before the next one is loaded: there may not be room for both.
      this.#candidate = null;
      this.#candidate = { state: await this.#load(pointer), atMs: Date.now() };
    }
    return this.#candidate.state.plan;
  }

  async #look(): Promise<void> {
    try {
      this.#leaveExpired();
      await this.#follow(await this.#kv.get(POINTER_KEY, { cacheTtl: POINTER_CACHE_S }));
      this.#problem = "";
    } catch (error) {
      this.#note(error instanceof StateError ? error.message : `KV could not be read: ${String(error)}`);
    }
    this.#checkedAtMs = Date.now();
    this.#dueAtMs = this.#checkedAtMs + this.#ttlMs;
    const { atMs } = this.#candidate ?? { atMs: Infinity };
    if (this.#checkedAtMs - atMs > CANDIDATE_MAX_MS) this.#candidate = null;
  }

  async #follow(text: string | null): Promise<void> {
    if (text === null) throw new StateError("there is no pointer");
    if (text === NOTHING_PUBLISHED) return;
    const pointer = await this.#pointers.read(text);
    // What was deployed since is newer, whatever else there would be to say of this one.
    if (pointer.sequence <= this.#bundle.sequence) return;
    this.#check(pointer);
    if (pointer.sequence < this.#floor) throw new StateError(`the pointer's sequence ${pointer.sequence} is older than ${this.#floor}`);
    if (pointer.sequence === this.#state.sequence) return;
    const state = await this.#load(pointer);
    // Another request may have been faster, with a newer one.
    if (state.sequence > this.#state.sequence) this.#swap(state);
  }

  /** Throws StateError for a pointer that this Worker must not follow, whatever its sequence. */
  #check(pointer: Pointer): void {
    const { account } = this.#bundle.plan;
    if (pointer.expires_at_s <= Date.now() / 1000) throw new StateError(`the pointer expired at ${pointer.expires_at_s}`);
    if (pointer.account !== account) throw new StateError(`the plan is of account ${pointer.account} instead of ${account}`);
    if (pointer.plan_format !== PLAN_FORMAT) throw new StateError(`plan format ${pointer.plan_format} is not ${PLAN_FORMAT}`);
  }

  async #load(pointer: Pointer): Promise<State> {
    const { text, bits, etag, sequence } = pointer;
    const { published_at_s: sinceSeconds, expires_at_s: expiresAtSeconds } = pointer;
    const candidate = this.#candidate;
    if (candidate !== null && isOf(candidate.state, pointer)) {
      this.#candidate = null;
      return { ...candidate.state, sequence, sinceSeconds, expiresAtSeconds };
    }
    const inMemory = [this.#bundle, this.#state].find((state) => state.bits.sha256 === bits.sha256);
    this.#requireRoom(pointer);
    const readBits = inMemory === undefined ? this.#readPart("bits", bits) : inMemory.plan.data;
    const [textData, data] = await Promise.all([this.#readPart("text", text), readBits]);
    const plan = loadPlan(new TextDecoder().decode(textData), data);
    if (plan.etag !== etag) throw new StateError(`the plan is of state ${plan.etag} instead of ${etag}`);
    return { plan, source: "kv", sequence, sinceSeconds, expiresAtSeconds, text, bits };
  }

  /** What is served goes on being served while the next plan is made, so there has to be room for both. */
  #requireRoom(pointer: Pointer): void {
    const plans = [...new Set([this.#bundle, this.#state, pointer])];
    // Equal bitsets are there once.
    const sizes = new Map(plans.map(({ bits }) => [bits.sha256, bits.size_bytes]));
    let bytes = 0;
    for (const size of sizes.values()) bytes += size;
    for (const { text } of plans) bytes += BYTES_PER_TEXT_BYTE * text.size_bytes;
    if (bytes > PLANS_MAX_BYTES) throw new StateError(`${plans.length} plans would take ${bytes} of ${PLANS_MAX_BYTES} bytes`);
  }

  /** A part from its chunks. Throws StateError unless it is all there, and nothing else. */
  async #readPart(kind: "text" | "bits", { sha256, size_bytes: bytes }: PlanPart): Promise<Uint8Array> {
    const data = new Uint8Array(bytes);
    const starts = Array.from({ length: Math.ceil(bytes / PART_MAX_BYTES) }, (_, number) => number * PART_MAX_BYTES);
    const read = async (start: number, number: number): Promise<void> => {
      const chunk = await this.#kv.get(`${kind}/${sha256}/${number}`, "arrayBuffer");
      const expected = Math.min(PART_MAX_BYTES, bytes - start);
      if (chunk === null) throw new StateError(`chunk ${number} of the plan's ${kind} is missing`);
      if (chunk.byteLength !== expected) throw new StateError(`chunk ${number} of the plan's ${kind} has ${chunk.byteLength} of ${expected} bytes`);
      data.set(new Uint8Array(chunk), start);
    };
    await Promise.all(starts.map(read));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
    if (digest !== sha256) throw new StateError(`the plan's ${kind} is damaged`);
    return data;
  }

  #leaveExpired(): void {
    if (this.#state.expiresAtSeconds > Date.now() / 1000) return;
    this.#swap(this.#bundle);
  }

  #swap(state: State): void {
    const { plan, source, sequence } = state;
    try {
      this.#onSwap(plan);
    } catch (error) {
      throw new StateError(`the plan of state ${plan.etag} cannot be served: ${String(error)}`);
    }
    this.#floor = Math.max(this.#floor, sequence);
    this.#state = state;
    console.log(JSON.stringify({ event: "state.swapped", state_etag: plan.etag, source, sequence }));
  }

  /** Said once, however often it is met. */
  #note(problem: string): void {
    if (problem !== this.#problem) console.error(JSON.stringify({ event: "state.refused", reason: problem }));
    this.#problem = problem;
  }
}

function isOf({ plan, text, bits }: State, pointer: Pointer): boolean {
  return plan.etag === pointer.etag && text.sha256 === pointer.text.sha256 && bits.sha256 === pointer.bits.sha256;
}
