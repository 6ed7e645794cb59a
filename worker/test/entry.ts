/**
 * The tests' entry point: the same Worker, given its plan with each request, so that thousands of states need
 * one process. Not part of the shipped bundle.
 * @module
 */
import { numberText, parseNumber, parseTimestamp, parseVersion, timestampOfNumber, compareText } from "../src/values";
import { ContextReader } from "../src/context";
import { schemaOf } from "../src/context_schema";
import { latencyBucket } from "../src/latency";
import { bucketLimit } from "../src/metrics";
import { loadPlan } from "../src/plan";
import { UnitHasher, unitText } from "../src/units";
import { FlagWorker } from "../src/worker";

interface Batch {
  plan: string;
  bits: string;
  env: Record<string, unknown>;
  kv?: { records: Record<string, string>; failing?: boolean; binding?: string };
  requests: { path: string; method?: string; headers?: Record<string, string>; body?: string }[];
}

const functions: Record<string, (...args: never[]) => unknown> = {
  numberText,
  parseNumber: (text: string) => {
    const number = parseNumber(text);
    return number === undefined ? null : Number.isFinite(number) ? number : String(number);
  },
  parseTimestamp: (text: string) => parseTimestamp(text) ?? null,
  timestampOfNumber: (text: string) => timestampOfNumber(Number(text)) ?? null,
  parseVersion: (text: string) => parseVersion(text).parts,
  compareText,
  latencyBucket,
  bucketLimit,
  unitText: (value: unknown) => unitText(value) ?? null,
  schema: (context: Record<string, unknown>) => schemaOf(new ContextReader([]).read(context, []).signature),
  bucket: (prefix: string, unit: string, count: number) => {
    const hasher = new UnitHasher("", 1, 1);
    const record = hasher.prepare(prefix);
    return hasher.place(0, unit) ? hasher.bucket(record, 0, count) : null;
  },
  words: (prefix: string, unit: string) => {
    const hasher = new UnitHasher("", 1, 1);
    const record = hasher.prepare(prefix);
    if (!hasher.place(0, unit)) return null;
    return hasher.words(record, 0).map((word) => BigInt.asUintN(64, word).toString(16).padStart(16, "0"));
  },
};

/** A namespace in memory: what `put` stores is in `records`; `isFailing` makes reads fail. */
function memoryKv(records: Record<string, string>, isFailing: boolean): object {
  const answer = <Value>(value: Value): Value => {
    if (isFailing) throw new Error("KV is down");
    return value;
  };
  return {
    get: async (keys: string[]) => answer(new Map(keys.map((key) => [key, records[key] ?? null]))),
    list: async ({ prefix }: { prefix: string }) => answer({ keys: Object.keys(records).filter((key) => key.startsWith(prefix)).map((name) => ({ name })), list_complete: true }),
    put: async (key: string, value: string) => void (records[key] = value),
  };
}

async function runBatch(batch: Batch): Promise<unknown> {
  const messages: string[] = [];
  const queue = { send: async (message: string) => void messages.push(message) };
  const plan = loadPlan(batch.plan, Uint8Array.from(atob(batch.bits), (char) => char.charCodeAt(0)).buffer);
  const { kv } = batch;
  const memory = kv === undefined ? null : memoryKv(kv.records, kv.failing === true);
  const namespace = memory === null ? {} : { [kv?.binding ?? "CONFIDENCE_MATERIALIZATIONS_KV"]: memory };
  const worker = new FlagWorker(plan, { LOG_LINGER_MS: "0", flag_logs_queue: queue, ...namespace, ...batch.env });
  const waited: Promise<unknown>[] = [];
  const waiting = { waitUntil: (promise: Promise<unknown>) => void waited.push(promise) } as unknown as ExecutionContext;
  const answers = [];
  for (const { path, method, headers, body } of batch.requests) {
    const init: RequestInit = { method: method ?? "POST", headers: headers ?? {} };
    if (body !== undefined) init.body = body;
    const response = await worker.fetch(new Request(`http://worker${path}`, init), waiting);
    answers.push({ status: response.status, body: await response.text(), headers: Object.fromEntries(response.headers) });
  }
  await Promise.all(waited);
  return { answers, messages, records: kv?.records ?? {} };
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/batch") return Response.json(await runBatch((await request.json()) as Batch));
    const calls = (await request.json()) as { name: string; args: never[] }[];
    return Response.json(calls.map(({ name, args }) => functions[name]?.(...args) ?? null));
  },
};
