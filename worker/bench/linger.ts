/**
 * A linger that ends when told, in place of a timer: what requests leave in `waitUntil` is then part of what is timed,
 * and the waiting is not.
 * @module
 */

export class Linger {
  #end: () => void = () => undefined;
  #over: Promise<void> = Promise.resolve();
  #pending: Promise<unknown>[] = [];
  readonly context = { waitUntil: (promise: Promise<unknown>) => this.#pending.push(promise) } as unknown as ExecutionContext;

  constructor() {
    Object.defineProperty(globalThis, "scheduler", { value: { wait: () => this.#over }, configurable: true });
  }

  /** In the request that will end it, as a promise belongs to the request that made it. */
  begin(): void {
    this.#over = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** End the linger and wait for everything that was left to be done. */
  async end(): Promise<void> {
    this.#end();
    const pending = this.#pending;
    this.#pending = [];
    await Promise.all(pending);
  }
}
