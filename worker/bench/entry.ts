/**
 * The benchmark's entry point: subjects side by side in one isolate, timed in rounds in random order.
 * Plain workerd does not freeze its clock, which makes this possible.
 * @module
 */
import official from "./official.wasm";
import { resolveAnswer } from "../src/answer";
import { randomId } from "../src/ids";
import { LogBook } from "../src/logs";
import { newStream, type Origin } from "../src/message";
import { type Client, loadPlan, type Plan } from "../src/plan";
import { readResolveRequest } from "../src/request";
import { Resolver, UNSUPPORTED } from "../src/resolve";
import { FlagWorker } from "../src/worker";
import { OfficialResolver } from "./official";

interface Job {
  plan: string;
  bits: string;
  state: string;
  account: string;
  bodies: string[];
  rounds: number;
}

const ORIGIN: Origin = { source: "api", sdk: "SDK_ID_JS_CONFIDENCE", sdkVersion: "1", country: "SE", isBot: false };
const HEADERS = {
  "content-type": "application/json",
  "access-control-allow-methods": "POST, GET, OPTIONS",
  "access-control-allow-headers": "*",
  "access-control-allow-origin": "*",
};
const NO_CONTEXT = { waitUntil: () => undefined } as unknown as ExecutionContext;
const utf8 = new TextEncoder();

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.fromBase64(base64);
}

/** Ours without Request and Response: text in, text out; with a book also log rows, encoded to bytes. */
function ours(plan: Plan, book: LogBook | null): (body: string) => string {
  const resolver = new Resolver(plan);
  const [client] = plan.clients as readonly [Client];
  return (body) => {
    const request = readResolveRequest(body);
    const resolution = resolver.resolve(client.viewsNamed(request.flags), request.context, UNSUPPORTED);
    const resolveId = randomId(32);
    if (book !== null) {
      const resolve = { client, origin: ORIGIN, resolveId, atMs: 1_763_700_000_000, applies: true, latencyMicros: 0 };
      book.addResolve(plan, resolve, resolution);
    }
    return resolveAnswer(resolution, resolveId, "");
  };
}

function flagsOf(answer: string): string {
  const { resolvedFlags } = JSON.parse(answer) as { resolvedFlags: { flag: string }[] };
  const sorted = resolvedFlags.sort((left, right) => (left.flag < right.flag ? -1 : 1));
  return JSON.stringify(sorted, (_, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1)))
      : value,
  );
}

async function run(job: Job): Promise<unknown> {
  const plan = loadPlan(job.plan, bytesOf(job.bits).buffer as ArrayBuffer);
  const peer = new OfficialResolver(official, bytesOf(job.state), job.account);
  const book = new LogBook(newStream("bench"));
  const plain = ours(plan, null);
  const logging = ours(plan, book);
  const answerBytes = job.bodies.length > 0 ? plain(job.bodies[0] as string) : "";
  const differences = job.bodies.filter((body) => flagsOf(plain(body)) !== flagsOf(peer.resolveJson(body))).length;
  const queue = { send: async () => undefined };
  const worker = new FlagWorker(plan, { flag_logs_queue: queue, LOG_LINGER_MS: "10000" });
  const floor = async (request: Request): Promise<Response> => {
    await request.text();
    return new Response(answerBytes, { headers: HEADERS });
  };
  const fetched = (handle: (request: Request) => Promise<Response>) => async () => {
    for (const body of job.bodies) {
      const init = { method: "POST", body, headers: { "content-type": "application/json" } };
      await (await handle(new Request("http://worker/v1/flags:resolve", init))).text();
    }
  };
  const each = (subject: (body: string) => unknown) => () => {
    for (const body of job.bodies) subject(body);
  };
  const subjects: Record<string, () => unknown> = {
    ours: each(plain),
    "ours, answer and log encoded": () => {
      for (const body of job.bodies) utf8.encode(logging(body));
      for (const message of book.takeMessages(0)) utf8.encode(message);
    },
    peer: each((body) => peer.resolveJson(body)),
    "raw wasm": each((body) => peer.resolveBytes(OfficialResolver.encode(body)).free()),
    "fetch: floor": fetched(floor),
    "fetch: floor again": fetched(floor),
    "fetch: ours": fetched((request) => worker.fetch(request, NO_CONTEXT)),
    "fetch: peer": fetched(async (request) => new Response(peer.resolveJson(await request.text()), { headers: HEADERS })),
  };
  const micros: Record<string, number[]> = Object.fromEntries(Object.keys(subjects).map((name) => [name, []]));
  for (let round = -3; round < job.rounds; round++) {
    for (const name of Object.keys(subjects).sort(() => Math.random() - 0.5)) {
      const began = performance.now();
      await subjects[name]?.();
      const took = ((performance.now() - began) * 1000) / job.bodies.length;
      if (round >= 0) micros[name]?.push(took);
    }
    peer.dropLogs();
  }
  return { micros, differences, answer_bytes: answerBytes.length };
}

export default {
  async fetch(request: Request): Promise<Response> {
    return Response.json(await run((await request.json()) as Job));
  },
};
