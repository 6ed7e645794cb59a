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
import { differ } from "./compare";
import { Linger } from "./linger";
import { OfficialResolver } from "./official";
import { Stopwatch } from "./stopwatch";

interface Job {
  plan: string;
  bits: string;
  state: string;
  account: string;
  /** Request bodies with `unit_mark` where the unit goes. */
  bodies: string[];
  unit_mark: string;
  rounds: number;
  /** How long a subject is measured in a round, if that makes at least `requests_min` requests. */
  window_ms: number;
  requests_min: number;
  compared_per_round: number;
}

interface Result {
  /** By subject: microseconds per request of each round. */
  micros: Record<string, number[]>;
  answer_bytes: number;
  compared: number;
  differences: number;
  /** Requests fetched with a queue, and resolves that the messages told of. */
  logged_requests: number;
  logged_resolves: number;
}

type Subject = (bodies: readonly string[]) => unknown;

const ORIGIN: Origin = { source: "api", sdk: "SDK_ID_JS_CONFIDENCE", sdkVersion: "1", country: "SE", isBot: false };
const HEADERS = {
  "content-type": "application/json",
  "access-control-allow-methods": "POST, GET, OPTIONS",
  "access-control-allow-headers": "*",
  "access-control-allow-origin": "*",
};
const WARM_UP_ROUNDS = 4;
const utf8 = new TextEncoder();

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.fromBase64(base64);
}

/** Bodies with a new unit in each, as flat strings, as they come out of a request. */
function freshen(parts: readonly (readonly string[])[]): string[] {
  return parts.map((around) => around.join(randomId(32)));
}

/** Ours without Request and Response: text in, text out; with a book also log rows. */
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

function requestOf(body: string): Request {
  return new Request("http://worker/v1/flags:resolve", { method: "POST", body, headers: { "content-type": "application/json" } });
}

function each(handle: (body: string) => unknown): Subject {
  return (bodies) => {
    for (const body of bodies) handle(body);
  };
}

function fetched(handle: (request: Request) => Promise<Response>): Subject {
  return async (bodies) => {
    for (const body of bodies) await (await handle(requestOf(body))).text();
  };
}

/** The Worker with a queue that takes a message's bytes; the linger is over when the last request is. */
class Ours {
  readonly #linger = new Linger();
  readonly #messages: string[] = [];
  readonly #worker: FlagWorker;
  requestCount = 0;
  resolveCount = 0;

  constructor(plan: Plan) {
    const send = async (message: string) => {
      utf8.encode(message);
      this.#messages.push(message);
    };
    this.#worker = new FlagWorker(plan, { flag_logs_queue: { send } });
  }

  fetch(request: Request): Promise<Response> {
    return this.#worker.fetch(request, this.#linger.context);
  }

  async fetchAll(bodies: readonly string[]): Promise<void> {
    await fetched((request) => this.fetch(request))(bodies);
    await this.#linger.end();
    this.requestCount += bodies.length;
  }

  /** Count the resolves that the messages so far told of; one that did not fit a message stands in two. */
  readMessages(): void {
    const ids = this.#messages.flatMap((message) => (JSON.parse(message) as { resolves: { id: string[] } }).resolves.id);
    this.resolveCount += new Set(ids).size;
    this.#messages.length = 0;
  }
}

async function run(job: Job): Promise<Result> {
  // A plan is prepared by the one resolver that reads it, so each subject has its own.
  const newPlan = () => loadPlan(job.plan, bytesOf(job.bits).buffer as ArrayBuffer);
  const peer = new OfficialResolver(official, bytesOf(job.state), job.account);
  const book = new LogBook(newStream("bench"));
  const plain = ours(newPlan(), null);
  const logging = ours(newPlan(), book);
  const worker = new Ours(newPlan());
  const parts = job.bodies.map((body) => body.split(job.unit_mark));
  const answer = plain(freshen(parts.slice(0, 1))[0] as string);
  const floor = async (request: Request): Promise<Response> => {
    await request.text();
    return new Response(answer, { headers: HEADERS });
  };
  const subjects: Record<string, Subject> = {
    ours: each(plain),
    "ours, logged": (bodies) => {
      for (const body of bodies) utf8.encode(logging(body));
      for (const message of book.takeMessages(0)) utf8.encode(message);
    },
    peer: each((body) => peer.resolveJson(body)),
    "raw wasm": each((body) => peer.resolveBytes(OfficialResolver.encode(body)).free()),
    "fetch: floor": fetched(floor),
    "fetch: floor again": fetched(floor),
    "fetch: ours": (bodies) => worker.fetchAll(bodies),
    "fetch: peer": fetched(async (request) => new Response(peer.resolveJson(await request.text()), { headers: HEADERS })),
  };
  const names = Object.keys(subjects);
  const micros: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]));
  const counts: Record<string, number> = {};
  const stopwatch = new Stopwatch();
  const result: Result = { micros, answer_bytes: answer.length, compared: 0, differences: 0, logged_requests: 0, logged_resolves: 0 };
  for (let round = -WARM_UP_ROUNDS; round < job.rounds; round++) {
    const bodies = freshen(parts);
    for (const name of names.sort(() => Math.random() - 0.5)) {
      const slice = bodies.slice(0, counts[name] ?? job.requests_min);
      stopwatch.start();
      await subjects[name]?.(slice);
      const took = stopwatch.stop() / slice.length;
      if (round >= 0) micros[name]?.push(took);
      else counts[name] = Math.min(bodies.length, Math.max(job.requests_min, Math.round((job.window_ms * 1000) / took)));
    }
    for (const body of bodies.slice(0, job.compared_per_round)) {
      const response = await worker.fetch(requestOf(body));
      result.compared++;
      if (response.status !== 200 || differ(await response.text(), peer.resolveJson(body))) result.differences++;
    }
    await worker.fetchAll([]);
    worker.requestCount += job.compared_per_round;
    worker.readMessages();
    peer.dropLogs();
  }
  return { ...result, logged_requests: worker.requestCount, logged_resolves: worker.resolveCount };
}

export default {
  async fetch(request: Request): Promise<Response> {
    return Response.json(await run((await request.json()) as Job));
  },
};
