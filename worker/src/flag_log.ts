/**
 * What is told of each request: rows for the queue, numbers for the metrics. Nothing here fails a request, and nothing waits.
 * @module
 */
import { Delivery } from "./delivery";
import { LogBook, type LoggedApply, type LoggedResolve, type LogSink } from "./logs";
import { newStream } from "./message";
import { Metrics } from "./metrics";
import type { Plan } from "./plan";
import type { Resolution } from "./resolve";
import type { Settings } from "./settings";
import { UpstreamLogBook } from "./upstream_logs";

/** An isolate's way to queue and metrics; plans may change behind it. */
export class LogChannel {
  readonly book: LogSink;
  readonly delivery: Delivery;
  readonly metrics: Metrics | null;

  constructor(
    settings: Settings,
    readonly queue: Queue | null,
    metricsKv: KVNamespace | null,
  ) {
    const stream = newStream(settings.deployerVersion);
    this.book = IS_FULL && settings.logFormat === "upstream" ? new UpstreamLogBook(settings.deployerVersion) : new LogBook(stream);
    this.delivery = new Delivery(this.book, stream, settings);
    this.metrics = IS_FULL && metricsKv !== null ? new Metrics(metricsKv, stream.isolate) : null;
  }
}

export class FlagLog {
  readonly #book: LogSink;
  readonly #delivery: Delivery;
  readonly #metrics: Metrics | null;
  readonly #queue: Queue | null;

  constructor(
    private readonly plan: Plan,
    { book, delivery, metrics, queue }: LogChannel,
    /** Whether a resolve may wait for anything: else no time passes in it, and the clock need not be read. */
    private readonly mayWait: boolean,
  ) {
    this.#book = book;
    this.#delivery = delivery;
    this.#metrics = metrics;
    this.#queue = queue;
  }

  get hasQueue(): boolean {
    return this.#queue !== null;
  }

  /** `resolve` is only made where it is wanted. */
  addResolve(resolution: Resolution, atMs: number, execution: ExecutionContext, resolve: (latencyMicros: number) => LoggedResolve): void {
    const latencyMicros = this.mayWait ? (Date.now() - atMs) * 1000 : 0;
    this.#metrics?.add(resolution, latencyMicros, execution, atMs);
    if (this.#queue === null) return;
    this.#book.addResolve(this.plan, resolve(latencyMicros), resolution);
    this.#delivery.arrange(this.#queue, execution, atMs);
  }

  addApplied(apply: LoggedApply, execution: ExecutionContext): void {
    if (this.#queue === null) return;
    this.#book.addApplied(this.plan, apply);
    this.#delivery.arrange(this.#queue, execution, apply.atMs);
  }

  /** A request that failed. */
  addError(): void {
    this.#book.addError(this.plan, Date.now());
  }
}
