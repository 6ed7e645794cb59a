/**
 * Delivery of log messages: requests that end within a linger share messages, because a queue bills each one.
 *
 * One request, the *leader*, holds the timer in its own `waitUntil` and sends what the others left in the shared
 * book; a promise shared across requests would lose rows. Should a leader vanish, the next request takes over.
 * @module
 */
import type { LogSink } from "./logs";
import type { Stream } from "./message";

export interface DeliverySettings {
  /** How long rows may wait for company; 0 sends at the end of each request. */
  readonly lingerMs: number;
}

/** `waitUntil` ends 30 s after the answer: a leader that is older is gone. */
const LEADER_MAX_MS = 35_000;
const RETRY_DELAYS_MS = [250, 1_000, 3_000, 8_000];
const PENDING_MAX = 200;

export class Delivery {
  readonly #book: LogSink;
  readonly #stream: Stream;
  readonly #settings: DeliverySettings;
  #leaderUntilMs = 0;
  #pending: string[] = [];

  constructor(book: LogSink, stream: Stream, settings: DeliverySettings) {
    this.#book = book;
    this.#stream = stream;
    this.#settings = settings;
  }

  /** See to it that what is in the book gets sent; `nowMs` is the request's time. */
  arrange(queue: Queue, context: { waitUntil(promise: Promise<unknown>): void }, nowMs: number): void {
    if (nowMs < this.#leaderUntilMs) return;
    this.#leaderUntilMs = nowMs + LEADER_MAX_MS;
    context.waitUntil(this.#lead(queue));
  }

  async #lead(queue: Queue): Promise<void> {
    if (this.#settings.lingerMs > 0) await scheduler.wait(this.#settings.lingerMs);
    this.#leaderUntilMs = 0;
    const messages = [...this.#pending, ...this.#book.takeMessages(Date.now())];
    this.#pending = [];
    await Promise.all(messages.map((message) => this.#send(queue, message)));
  }

  async #send(queue: Queue, message: string): Promise<void> {
    for (const delay of [...RETRY_DELAYS_MS, -1]) {
      try {
        await queue.send(message, { contentType: this.#book.contentType });
        return;
      } catch (error) {
        if (delay < 0) return this.#giveUp(message, error);
        await scheduler.wait(delay);
      }
    }
  }

  /** What could not be sent in this request's time goes with a later one, while there is room. */
  #giveUp(message: string, error: unknown): void {
    if (this.#pending.length < PENDING_MAX) {
      this.#pending.push(message);
      return;
    }
    // What the lost message would have told of is lost with it, unless the next one does.
    this.#stream.droppedCount += 1 + Number(/"dropped_count":(\d+)/.exec(message)?.[1] ?? 0);
    console.error(JSON.stringify({ event: "message.dropped", error: String(error), dropped: this.#stream.droppedCount }));
  }
}
