/**
 * The benchmark's entry point: subjects side by side in one isolate. It does as it is told and takes no times: whoever
 * tells it (bench/inprocess.py) reads the process's CPU clock, which other processes do not disturb.
 * @module
 */
import { randomId } from "../src/ids";
import official from "./official.wasm";
import { differ } from "./compare";
import { OfficialResolver } from "./official";
import { answer, answerAndLog, newOurs, OursAsWorker } from "./ours";

type Subject = (bodies: readonly string[]) => unknown;

/** A state to measure on. */
interface Job {
  plan: string;
  bits: string;
  state: string;
  account: string;
  /** Request bodies with `unit_mark` where the unit goes. */
  bodies: string[];
  unit_mark: string;
}

const HEADERS = {
  "content-type": "application/json",
  "access-control-allow-methods": "POST, GET, OPTIONS",
  "access-control-allow-headers": "*",
  "access-control-allow-origin": "*",
};
const SAMPLE_COUNT = 201;

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.fromBase64(base64);
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

/** The subjects of one state. */
class Bench {
  readonly #subjects: Readonly<Record<string, Subject>>;
  readonly #peer: OfficialResolver;
  readonly #worker: OursAsWorker;
  readonly #bodyParts: readonly (readonly string[])[];
  readonly #answer: string;
  #bodies: string[] = [];

  constructor(job: Job) {
    const bits = bytesOf(job.bits).buffer as ArrayBuffer;
    const plain = newOurs(job.plan, bits);
    const logging = newOurs(job.plan, bits);
    const peer = (this.#peer = new OfficialResolver(official, bytesOf(job.state), job.account));
    const worker = (this.#worker = new OursAsWorker(job.plan, bits));
    this.#bodyParts = job.bodies.map((body) => body.split(job.unit_mark));
    this.freshen();
    const answers = this.#bodies.slice(0, SAMPLE_COUNT).map((body) => answer(plain, body));
    // Of the middling length: what the floor answers.
    const constant = (this.#answer = answers.sort((left, right) => left.length - right.length)[answers.length >> 1] as string);
    const floor = async (request: Request): Promise<Response> => {
      await request.text();
      return new Response(constant, { headers: HEADERS });
    };
    this.#subjects = {
      nothing: () => undefined,
      ours: each((body) => answer(plain, body)),
      "ours, logged": (bodies) => answerAndLog(logging, bodies),
      peer: each((body) => peer.resolveJson(body)),
      "raw wasm": each((body) => peer.resolveBytes(OfficialResolver.encode(body)).free()),
      "fetch: floor": fetched(floor),
      "fetch: floor again": fetched(floor),
      "fetch: ours": (bodies) => worker.during(() => fetched((request) => worker.fetch(request))(bodies)),
      "fetch: peer": fetched(async (request) => new Response(peer.resolveJson(await request.text()), { headers: HEADERS })),
    };
  }

  about(): unknown {
    return { subjects: Object.keys(this.#subjects), answer_bytes: this.#answer.length };
  }

  /** A new unit for each body, as flat strings, as they come out of a request; the peer's logs are thrown away. */
  freshen(): void {
    this.#bodies = this.#bodyParts.map((parts) => parts.join(randomId(32)));
    this.#peer.dropLogs();
  }

  /** The subject's part of a round: `count` requests. */
  async run({ subject, count }: { subject: string; count: number }): Promise<void> {
    await this.#subjects[subject]?.(this.#bodies.slice(0, count));
  }

  /** How many of `count` answers of the Worker differ from the peer's, and what its messages told of so far. */
  async compare({ count }: { count: number }): Promise<unknown> {
    let differences = 0;
    await this.#worker.during(async () => {
      for (const body of this.#bodies.slice(0, count)) {
        const response = await this.#worker.fetch(requestOf(body));
        if (response.status !== 200 || differ(await response.text(), this.#peer.resolveJson(body))) differences++;
      }
    });
    return { differences, ...this.#worker.readMessages() };
  }
}

let bench: Bench | null = null;

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const body: unknown = await request.json();
    if (pathname === "/begin") return Response.json((bench = new Bench(body as Job)).about());
    if (bench === null) return new Response(null, { status: 409 });
    if (pathname === "/compare") return Response.json(await bench.compare(body as { count: number }));
    if (pathname === "/freshen") bench.freshen();
    else await bench.run(body as { subject: string; count: number });
    return new Response();
  },
};
