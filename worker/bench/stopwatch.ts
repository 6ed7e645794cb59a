/**
 * Time, finer than workerd's clock of whole milliseconds: a measurement begins where a millisecond does, and how much
 * of its last one it took is told by how often the clock can still be read in the rest of it.
 * @module
 */

const CALIBRATION_MS = 20;

export class Stopwatch {
  readonly #readsPerMs: number;
  #beganMs = 0;

  constructor() {
    const reads: number[] = [];
    waitForTick();
    for (let tick = 0; tick < CALIBRATION_MS; tick++) reads.push(waitForTick());
    // The most: a millisecond in which this process did not run has room for fewer.
    this.#readsPerMs = Math.max(...reads);
  }

  start(): void {
    waitForTick();
    this.#beganMs = performance.now();
  }

  /** Microseconds since `start`. */
  stop(): number {
    const restMs = Math.min(1, waitForTick() / this.#readsPerMs);
    return (performance.now() - this.#beganMs - restMs) * 1000;
  }
}

/** Wait until the clock moves on; how often it was read meanwhile. */
function waitForTick(): number {
  const now = performance.now();
  let reads = 1;
  while (performance.now() === now) reads++;
  return reads;
}
