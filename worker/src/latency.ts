/**
 * The latency histogram's buckets, as Confidence's telemetry has them: each ln(10)/18 wide on a logarithmic scale.
 * @module
 */
export const LATENCY_RATIO = Math.LN10 / 18;
export const LATENCY_BUCKETS = 174;

export function latencyBucket(micros: number): number {
  if (micros <= 0) return 0;
  return Math.min(LATENCY_BUCKETS - 1, Math.max(0, Math.floor(Math.log(micros) / LATENCY_RATIO)));
}
