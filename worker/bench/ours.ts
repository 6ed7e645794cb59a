/**
 * Ours as the benchmark's subjects. A plan is prepared by the resolver that reads it, so each subject loads its own.
 * @module
 */
import { resolveAnswer } from "../src/answer";
import { randomId } from "../src/ids";
import { LogBook } from "../src/logs";
import { newStream, type Origin } from "../src/message";
import { type Client, loadPlan, type Plan } from "../src/plan";
import { readResolveRequest } from "../src/request";
import { type Resolution, Resolver, UNSUPPORTED } from "../src/resolve";
import { FlagWorker } from "../src/worker";
import { Linger } from "./linger";

const ORIGIN: Origin = { source: "api", sdk: "SDK_ID_JS_CONFIDENCE", sdkVersion: "1", country: "SE", isBot: false };
const utf8 = new TextEncoder();

interface Ours {
  readonly plan: Plan;
  readonly resolver: Resolver;
  readonly client: Client;
  readonly book: LogBook;
}

export function newOurs(planText: string, bits: ArrayBuffer): Ours {
  const plan = loadPlan(planText, bits);
  const [client] = plan.clients as readonly [Client];
  return { plan, client, resolver: new Resolver(plan), book: new LogBook(newStream("bench")) };
}

function resolve({ resolver, client }: Ours, body: string): Resolution {
  const request = readResolveRequest(body);
  return resolver.resolve(client.viewsNamed(request.flags), request.context, UNSUPPORTED);
}

/** Text in, text out, without Request and Response. */
export function answer(ours: Ours, body: string): string {
  return resolveAnswer(resolve(ours, body), randomId(32), "");
}

/** The same with log rows; answers and messages are encoded to bytes. */
export function answerAndLog(ours: Ours, bodies: readonly string[]): void {
  const { plan, client, book } = ours;
  const atMs = Date.now();
  for (const body of bodies) {
    const resolution = resolve(ours, body);
    const resolveId = randomId(32);
    book.addResolve(plan, { client, origin: ORIGIN, resolveId, atMs, applies: true, latencyMicros: 0 }, resolution);
    utf8.encode(resolveAnswer(resolution, resolveId, ""));
  }
  for (const message of book.takeMessages(atMs)) utf8.encode(message);
}

/** The Worker as it is deployed, with a queue that takes a message's bytes. */
export class OursAsWorker {
  readonly #linger = new Linger();
  readonly #messages: string[] = [];
  readonly #worker: FlagWorker;
  #requestCount = 0;
  #resolveCount = 0;

  constructor(planText: string, bits: ArrayBuffer) {
    const send = async (message: string) => {
      utf8.encode(message);
      this.#messages.push(message);
    };
    this.#worker = new FlagWorker(loadPlan(planText, bits), { flag_logs_queue: { send } });
  }

  fetch(request: Request): Promise<Response> {
    this.#requestCount++;
    return this.#worker.fetch(request, this.#linger.context);
  }

  /** Do something; what its requests log is sent before this ends. */
  async during(work: () => unknown): Promise<void> {
    this.#linger.begin();
    await work();
    await this.#linger.end();
  }

  /** How many requests there were so far, and how many the messages told of; some stand in two messages. */
  readMessages(): { requests: number; logged: number } {
    const ids = this.#messages.flatMap((message) => (JSON.parse(message) as { resolves: { id: string[] } }).resolves.id);
    this.#messages.length = 0;
    this.#resolveCount += new Set(ids).size;
    return { requests: this.#requestCount, logged: this.#resolveCount };
  }
}
